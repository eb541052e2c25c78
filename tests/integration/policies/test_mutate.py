"""Mutants of a small schema are judged by our check and by a suite of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import read_schema
from harness.events import CheckFinished, Event, Finding, Undecided
from harness.policies.check import Budget
from harness.policies.mutant import Mutant
from harness.policies.mutants import all_mutants
from harness.policies.mutation_equivalence import open_observatory
from harness.policies.mutation_in_place import InPlace
from harness.policies.mutation_judging import CheckJudge
from harness.policies.mutation_run import MutationScore, judge_mutants

SCHEMA = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null references auth.users (id),
  title text not null default ''
);
alter table public.notes enable row level security;
revoke all on public.notes from anon, authenticated;
grant select, insert, delete on public.notes to authenticated;
create policy own_notes on public.notes for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
"""
# Exit code 1 once row level security is off, and whenever SQL fails.
SUITE = """
import asyncio, os, sys
import asyncpg

async def guarded():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        return await connection.fetchval(
            "select relrowsecurity from pg_class"
            " where oid = 'public.notes'::regclass")
    finally:
        await connection.close()

assert os.environ["SUPABASE_URL"].startswith("http")
sys.exit(0 if asyncio.run(guarded()) else 1)
"""

Judged = tuple[MutationScore, list[Event]]


@pytest.fixture
def schema_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "20260101000000_notes.sql").write_text(SCHEMA)
    return folder


@pytest.fixture
def notes(
    clone_of: Callable[..., DatabaseAddress], schema_folder: Path
) -> DatabaseAddress:
    return clone_of(read_schema(schema_folder))


def judged(
    database: DatabaseAddress, *mutants: Mutant, budget_s: float = 120.0
) -> Judged:
    """Judge ``mutants`` by our check, after a look at the original."""
    events: list[Event] = []

    async def run() -> MutationScore:
        judge = CheckJudge(database, None, 1, Budget())
        assert await judge.prepare() == 0
        async with open_observatory(
            database, None, 1, statement_timeout_ms=5_000
        ) as observatory:
            return await judge_mutants(
                mutants, judge, observatory, budget_s=budget_s, emit=events.append
            )

    return asyncio.run(run()), events


def noticed_in_place(database: DatabaseAddress, *mutants: Mutant) -> list[str]:
    """Return what is noticed of each mutant in the world of the original."""

    async def run() -> list[str]:
        async with open_observatory(
            database, None, 1, statement_timeout_ms=5_000
        ) as observatory:
            in_place = InPlace(observatory)
            await in_place.prepare()
            return [await in_place.notices(each) for each in mutants]

    return asyncio.run(run())


def mutant(sql: str, operator: str = "written_by_hand") -> Mutant:
    return Mutant(operator=operator, where="public.notes", sql=sql, means="it changes")


def test_mutants_are_noticed_in_the_world_of_the_original(
    notes: DatabaseAddress,
) -> None:
    open_to_all = mutant("alter policy own_notes on public.notes using (true)")
    unguarded = mutant("alter table public.notes disable row level security")
    renamed = mutant("alter policy own_notes on public.notes rename to mine")
    found = noticed_in_place(notes, open_to_all, renamed, unguarded)
    assert found[0].startswith("others_rows_are_not_changed")
    assert found[1] == ""
    assert found[2].startswith("tables_without_rls_are_closed")


def test_each_fate_is_told_by_what_decided_it(notes: DatabaseAddress) -> None:
    faults = (
        mutant("alter policy own_notes on public.notes using (true)"),
        mutant("grant select on public.notes to authenticated"),
        mutant("alter policy own_notes on public.notes using (owner_id = auth.uid())"),
        mutant("grant update on public.notes to authenticated"),
        mutant("alter policy absent on public.notes using (true)"),
    )
    score, events = judged(notes, *faults)
    fates = {e.check: e.detail for e in events if isinstance(e, CheckFinished)}
    told = [fates[fault.check] for fault in faults]
    assert told[0].startswith("killed: ")
    assert told[1].startswith("equivalent: ")
    assert "proved" in told[1]
    assert told[2].startswith("equivalent: ")
    assert "by search" in told[2]
    assert told[3].startswith("survived: ")
    assert told[4].startswith("refused: ")
    assert "does not exist" in told[4]
    assert score.percent == 50.0
    survivors = [e for e in events if isinstance(e, Finding)]
    assert [s.severity for s in survivors] == ["note"]
    assert survivors[0].witness is not None
    assert survivors[0].witness.sql == f"{faults[3].sql};"
    assert "UPDATE" in survivors[0].note


def test_mutant_beyond_its_time_is_undecided(notes: DatabaseAddress) -> None:
    fault = mutant("alter table public.notes disable row level security")
    score, events = judged(notes, fault, budget_s=0.001)
    assert score.fates == {"undecided": 1}
    undecided = [e for e in events if isinstance(e, Undecided)]
    assert [u.reason for u in undecided] == ["took more than 0.001 s"]


@pytest.mark.slow
def test_check_notices_every_fault_that_opens_the_table(notes: DatabaseAddress) -> None:
    opening = {"using_true", "with_check_true", "rls_disabled", "compared_with_itself"}
    faults: list[Mutant] = []

    async def collect() -> None:
        async with open_observatory(
            notes, None, 1, statement_timeout_ms=5_000
        ) as observatory:
            found = all_mutants(observatory.trial.catalog)
            faults.extend(m for m in found if m.operator in opening)

    asyncio.run(collect())
    assert {m.operator for m in faults} == opening
    score, _ = judged(notes, *faults)
    assert score.fates == {"killed": len(faults)}


def harness_mutate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "mutate", str(folder), "--json",
         "--reports", str(folder.parent / "reports"), *options],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_suite_is_judged_on_a_project_of_each_mutant(schema_folder: Path) -> None:
    script = schema_folder.parent / "suite.py"
    script.write_text(SUITE)
    suite = f"{sys.executable} {script}"
    ran = harness_mutate(schema_folder, "--suite", suite, "--seed", "1")
    assert ran.returncode == 0, ran.stderr
    summary = orjson.loads(ran.stdout)
    assert summary["verdict"] == "pass"
    (events,) = (schema_folder.parent / "reports").glob("*/events.jsonl")
    checks = [
        record
        for record in map(orjson.loads, events.read_bytes().splitlines())
        if record["event"] == "CheckFinished"
    ]
    killed = [c["check"] for c in checks if c["detail"].startswith("killed")]
    assert len(killed) == 1
    assert killed[0].startswith("rls_disabled[")
    assert any(c["detail"].startswith("survived") for c in checks)


@pytest.mark.slow
def test_suite_that_fails_on_the_original_is_wrong_usage(schema_folder: Path) -> None:
    ran = harness_mutate(schema_folder, "--suite", "echo broken; exit 3", "--seed", "1")
    assert ran.returncode == 4
    assert "ends with 3 on the schema as it is" in ran.stderr
    assert "broken" in ran.stderr


@pytest.mark.slow
def test_score_below_the_least_fails_the_run(schema_folder: Path) -> None:
    ran = harness_mutate(
        schema_folder, "--suite", "true", "--limit", "3", "--seed", "1",
        "--fail-under", "50",
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
