"""Findings as tests to keep: one file of pgTAP and one of pytest for each.

The test passes once the fault is gone, and fails should it come back.
"""

from __future__ import annotations

import pprint
import textwrap
from pathlib import Path

from harness.db.sessions import claim_settings
from harness.errors import ReportError
from harness.events import Finding, Probe
from harness.policies.cases import json_inside
from harness.policies.values import literal

__all__ = ["as_pgtap", "as_pytest", "promote"]

WIDTH = 88
# The wrong outcome of each kind, over what the block has noted.
SHOWN = {
    "affects": "told.state = '' and told.affected > 0",
    "spares": "told.state = '42501' or (told.state = '' and told.affected = 0)",
    "succeeds": "told.state = ''",
    "raises": "told.state = {text}",
    "returns": "told.state = '' and position({text} in told.fetched) > 0",
    "observed": "told.state = '' and ({observe}) is not distinct from 'true'::jsonb",
}
PGTAP = """\
-- {title}
-- Passes once nobody can; found by: harness check.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(1);

{setup}
{settings}
do $probe$
declare
  affected bigint := 0;
  fetched jsonb;
begin
{body}
  perform set_config('harness.told', jsonb_build_object(
    'state', '', 'affected', affected, 'fetched', coalesce(fetched::text, ''))::text,
    true);
exception when others then
  perform set_config('harness.told', jsonb_build_object(
    'state', sqlstate, 'affected', 0, 'fetched', '')::text, true);
end $probe$;
reset role;

select ok(not ({shown}), {says})
  from jsonb_to_record(current_setting('harness.told')::jsonb)
    as told(state text, affected bigint, fetched text);
select * from finish();
rollback;
"""
PYTEST = '''\
"""{title}

Passes once nobody can; found by: harness check.
"""

from harness.events import Probe
from harness.policies.replaying import fault_shows

PROBE = {probe}


async def test_{name}(project):
    connection = await project.connect("supabase_admin")
    try:
        assert not await fault_shows(connection, PROBE), PROBE.says
    finally:
        await connection.close()
'''


def promote(findings: list[Finding], folder: Path) -> list[Path]:
    """Write two files a finding into ``folder`` and return them.

    Left out are findings without a case, and those behind another fault: their case
    shows nothing before that one is mended.  Raises :class:`ReportError` if the folder
    cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for finding in findings:
            probe = finding.witness.probe if finding.witness else None
            if probe is None or probe.repaired:
                continue
            name = f"{finding.check}_{finding.id}"
            for path, text in (
                (folder / f"{name}_test.sql", as_pgtap(finding)),
                (folder / f"test_{name}.py", as_pytest(finding)),
            ):
                path.write_text(text, encoding="utf-8")
                written.append(path)
    except OSError as exc:
        raise ReportError(
            f"cannot write tests into {folder}: {exc.strerror}",
            hint="name another folder with --promote DIR",
        ) from exc
    return written


def as_pgtap(finding: Finding) -> str:
    """Return a pgTAP file, as ``supabase test db`` and ``pg_prove`` run it."""
    probe = _probe(finding)
    shown = json_inside(probe.text) if probe.kind == "returns" else probe.text
    body = [f"execute {literal(command)};" for command in probe.commands]
    if body:
        body.append("get diagnostics affected = row_count;")
    if probe.fetch:
        body.append(f"execute {literal(probe.fetch)} into fetched;")
    settings = {**claim_settings(probe.role, probe.claims), **probe.settings}
    settings["role"] = settings.pop("role")  # the last thing a superuser may set
    return PGTAP.format(
        title=_title(finding),
        setup="\n".join(f"{statement};" for statement in probe.setup),
        settings="\n".join(
            f"select set_config({literal(name)}, {literal(value)}, true);"
            for name, value in settings.items()
        ),
        body=textwrap.indent("\n".join(body), "  "),
        shown=SHOWN[probe.kind].format(
            text=literal(shown), observe=probe.observe or "null"
        ),
        says=literal(probe.says or finding.message),
    )


def as_pytest(finding: Finding) -> str:
    """Return a test that runs on a ``project`` fixture whose schema is the user's."""
    probe = _probe(finding)
    title = textwrap.fill(_title(finding), WIDTH - 3).replace("\\", "\\\\")
    return PYTEST.format(
        title=title.replace('"""', "'''"),
        probe=pprint.pformat(probe, width=WIDTH, sort_dicts=False),
        name=f"{finding.check}_{finding.id}",
    )


def _probe(finding: Finding) -> Probe:
    assert finding.witness is not None
    assert finding.witness.probe is not None
    return finding.witness.probe


def _title(finding: Finding) -> str:
    return " ".join(f"{finding.check}: {finding.message}".split())
