"""``harness replay``: run the case of an earlier finding once more."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import click

from harness.cli.exit_codes import ExitCode
from harness.cli.running import run_async
from harness.cli.stacks import open_stack
from harness.config import Config
from harness.errors import UsageError
from harness.events import Finding
from harness.policies.replaying import fault_shows
from harness.report.store import find_finding
from harness.runner.schemas import schema_under_test

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness replay 3f2a91bc                    on the schema it was found in, as it is now
  harness replay 3f2a --schema sql/climber   on another version
  harness replay 3f2a --run 20261121T184543Z-check-climber-draft-1
"""


@click.command(epilog=EPILOG)
@click.argument("finding_id", metavar="ID")
@click.option("--run", "run_name", help="The run that found it; default: the latest.")
@click.option("--schema", help="A folder or a database URL; default: the run's.")
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_obj
def command(
    config: Config,
    finding_id: str,
    run_name: str | None,
    schema: str | None,
    reports: Path | None,
    as_json: bool,
) -> int:
    """Run the case of finding ID (or its first digits) again; 0 if it is gone, else 1.

    The ids stand beside the findings of a report and in its summary.json.
    """
    root = reports or config.reports_dir
    run, finding = find_finding(root, finding_id, run_name)
    names = [schema] if schema else list(finding.schema)
    shows = run_async(_replay(config, finding, names))
    if as_json:
        told = {"id": finding.id, "run": run.name, "schema": names, "shows": shows}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"{finding.check}: {finding.message}")
        click.echo("STILL THERE" if shows else "GONE: the case shows no fault any more")
    return ExitCode.FINDINGS if shows else ExitCode.PASSED


async def _replay(config: Config, finding: Finding, names: list[str]) -> bool:
    probe = finding.witness.probe if finding.witness else None
    if probe is None:
        raise UsageError(
            f"finding {finding.id} has no case to run",
            hint=f"repeat the run: {finding.repeat}",
        )
    if not names:
        raise UsageError(
            "the report does not say which schema it was found in",
            hint="name a folder or a database URL with --schema",
        )
    found = [(name, schema_under_test(name)) for name in names]
    sources = []
    for name, schema in found:
        if schema is None:
            raise UsageError(
                f"no schema {name!r}: neither a folder nor a database URL",
                hint="name where it is now with --schema",
            )
        sources += list(await schema.sources())
    async with open_stack(config) as stack:
        database = await stack.create_database(sources)
        connection = await asyncpg.connect(**database.connect_args("supabase_admin"))
        try:
            return await fault_shows(connection, probe)
        finally:
            await connection.close()
