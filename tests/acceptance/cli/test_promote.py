"""``harness check --promote`` and ``harness replay``: findings that stay found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import read_schema

NOTES = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id), body text
);
alter table public.notes enable row level security;
create policy reads on public.notes for select to authenticated
  using (user_id = (select auth.uid()));
create policy edits on public.notes for update to authenticated
  using ({edits}) with check ({edits});
create policy writes on public.notes for insert to authenticated
  with check (user_id = (select auth.uid()));
create function public.peek(p_id uuid) returns text
  language sql security definer set search_path = ''
  as 'select body from public.notes where id = p_id{peeks}';
"""
FAULTY = NOTES.format(edits="true", peeks="")
SOUND = NOTES.format(
    edits="user_id = (select auth.uid())", peeks=" and user_id = auth.uid()"
)
FAULT = "functions_reveal_nothing_hidden"
CONFTEST = """
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def harness_schema():
    return (Path("schema"),)
"""


def write_schema(folder: Path, sql: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "20260101000000_notes.sql").write_text(sql)
    return folder


@pytest.fixture
def promoted(harness, tmp_path: Path) -> Path:
    """Return the folder of the tests that a check of the faulty schema left."""
    schema = write_schema(tmp_path / "schema", FAULTY)
    folder = tmp_path / "kept"
    result = harness("check", str(schema), "--seed", "1", "--promote", str(folder))
    assert result.returncode == 1, result.stderr
    assert "test files in" in result.stderr
    return folder


def test_kept_pytest_files_fail_until_the_fault_is_gone(
    promoted: Path, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    count = len(list(promoted.glob("test_*.py")))
    assert count >= 2

    def run() -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert f"{count} failed" in run().stdout
    write_schema(tmp_path / "schema", SOUND)
    assert f"{count} passed" in run().stdout


def test_kept_pgtap_files_fail_until_the_fault_is_gone(
    promoted: Path, tmp_path: Path, database: DatabaseAddress, clone_of
) -> None:
    with psycopg.connect(database.dsn("postgres")) as connection:
        query = "select from pg_available_extensions where name = 'pgtap'"
        if connection.execute(query).fetchone() is None:
            pytest.skip("this PostgreSQL brings no pgTAP")
    scripts = sorted(promoted.glob("*_test.sql"))
    assert len(scripts) >= 2
    for sql, wanted in ((FAULTY, "not ok 1"), (SOUND, "ok 1")):
        schema = read_schema(write_schema(tmp_path / "version", sql))
        dsn = clone_of(schema).dsn("postgres")
        for script in scripts:
            with psycopg.connect(dsn, autocommit=True) as connection:
                told = _told(connection, script.read_text())
            assert any(line.startswith(wanted) for line in told), (script.name, told)


def _told(connection: psycopg.Connection, script: str) -> list[str]:
    """Return what the statements of a script select, as text."""
    cursor = connection.execute(script.encode())
    told = []
    while True:
        if cursor.description:
            told += [str(row[0]) for row in cursor.fetchall()]
        if not cursor.nextset():
            return told


def test_replay_tells_whether_the_fault_is_still_there(
    promoted: Path, harness, tmp_path: Path
) -> None:
    (summary,) = (tmp_path / "reports").glob("*/summary.json")
    findings = json.loads(summary.read_text())["findings"]
    chosen = next(f["id"] for f in findings if f["check"] == FAULT)
    again = harness("replay", chosen)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (1, "STILL THERE")
    sound = write_schema(tmp_path / "sound", SOUND)
    mended = harness("replay", chosen[:5], "--schema", str(sound), "--json")
    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout)["shows"] is False


def test_replay_of_an_unknown_finding_says_where_ids_stand(harness) -> None:
    result = harness("replay", "00000000")
    assert result.returncode == 3
    assert "no finding '00000000'" in result.stderr
    assert "beside the findings" in result.stderr


def test_replay_of_a_difference_runs_on_the_newer_version(
    harness, tmp_path: Path
) -> None:
    base = write_schema(tmp_path / "base", SOUND)
    head = write_schema(tmp_path / "head", FAULTY)
    result = harness("diff", str(base), str(head), "--seed", "1", "--json")
    assert result.returncode == 1, result.stderr
    chosen = json.loads(result.stdout)["findings"][0]["id"]
    again = harness("replay", chosen)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (1, "STILL THERE")
    assert harness("replay", chosen, "--schema", str(base)).returncode == 0
