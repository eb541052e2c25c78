"""Witnesses run as they are printed, and show what they say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import asyncpg

from harness.db.address import DatabaseAddress
from harness.db.schema_files import read_schema
from harness.events import Finding
from harness.policies.replaying import fault_shows
from tests.integration.policies.benchmark import faults, schema_sql
from tests.integration.policies.benchmark_server import written
from tests.integration.policies.checking import run_check

DRAFT = Path(__file__).resolve().parents[3] / "sql" / "climber" / "draft"


async def _run_script(database: DatabaseAddress, finding: Finding) -> str:
    """Run a witness as psql would; return the SQLSTATE it stops with, if any."""
    assert finding.witness is not None
    connection = await asyncpg.connect(**database.connect_args("supabase_admin"))
    try:
        await connection.execute(finding.witness.sql)
    except asyncpg.PostgresError as exc:
        return exc.sqlstate or "XX000"
    finally:
        await connection.close()
    return ""


def test_every_script_runs_and_only_raises_what_it_reports(clone_of) -> None:  # type: ignore[no-untyped-def]
    schema = read_schema(DRAFT)
    checked = run_check(clone_of(schema))
    database = clone_of(schema)
    for finding in checked.findings:
        state = asyncio.run(_run_script(database, finding))
        reported = re.search(r"\[(\w{5})\]", finding.message)
        assert state == (reported.group(1) if reported else ""), finding.message


def test_witness_says_the_same_in_three_notations(clone_of) -> None:  # type: ignore[no-untyped-def]
    checked = run_check(clone_of(read_schema(DRAFT)))
    (finding,) = checked.found("functions_reveal_nothing_hidden", "get_file_metadata")
    witness = finding.witness
    assert witness is not None
    assert "public.get_file_metadata(" in witness.sql
    assert "/rest/v1/rpc/get_file_metadata" in witness.curl
    assert "client.rpc('get_file_metadata'" in witness.python


def test_sequence_of_two_users_replays_until_it_is_mended(
    clone_of: Callable[..., DatabaseAddress], tmp_path: Path
) -> None:
    (fault,) = [
        f for f in faults() if f.id == "clubs: others' things offered to a friend"
    ]
    sound = schema_sql(fault.style)
    faulty = written(sound + fault.sql, tmp_path / "faulty")
    checked = run_check(clone_of(faulty))
    (finding,) = checked.found("sequences_open_nothing_of_others")
    assert asyncio.run(_run_script(clone_of(faulty), finding)) == ""
    assert asyncio.run(_replays(clone_of(faulty), finding))
    mended = clone_of(written(sound, tmp_path / "sound"))
    assert not asyncio.run(_replays(mended, finding))


async def _replays(database: DatabaseAddress, finding: Finding) -> bool:
    assert finding.witness is not None
    assert finding.witness.probe is not None
    connection = await asyncpg.connect(**database.connect_args("supabase_admin"))
    try:
        return await fault_shows(connection, finding.witness.probe)
    finally:
        await connection.close()
