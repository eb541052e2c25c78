"""Bad input gets one clear line, a hint and exit code 3 or 4, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults import SmallDisk
from harness.faults.disk import fill_disk

HARNESS_ERROR, USAGE = 3, 4


def error_of(result) -> str:
    first = result.stderr.splitlines()[0]
    assert first.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    return first.removeprefix("error: ")


@pytest.mark.parametrize(
    ("words", "complaint", "suggestion"),
    [
        (["rum"], "unknown command 'rum'", "did you mean 'run'?"),
        (["run", "climbr"], "unknown system 'climbr'", "did you mean 'climber'?"),
        (["load", "smok"], "no load profile 'smok'", "did you mean 'smoke'?"),
        (["bench", "gatway"], "no benchmark 'gatway'", "gateway"),
        (["up", "--prot", "1"], "No such option '--prot'", "--port"),
        (["run", "climber", "--stack", "embeded"], "unknown stack", "'embedded'?"),
        (["check", "sql/climbr"], "no schema 'sql/climbr'", "sql/climber"),
        (["down", "nobody"], "no stack named 'nobody'", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_name_is_usage_with_a_suggestion(
    harness, words: list[str], complaint: str, suggestion: str
) -> None:
    result = harness(*words)
    assert result.returncode == USAGE
    assert complaint in error_of(result)
    assert suggestion in result.stderr


def test_unknown_setting_is_named_with_its_source(harness) -> None:
    result = harness("status", env={"HARNESS_API_PROT": "1"})
    assert result.returncode == USAGE
    assert "environment HARNESS_API_PROT: unknown setting" in error_of(result)
    assert "did you mean 'api_port'?" in result.stderr


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("HARNESS_API_PORT", "many", "api_port wants int"),
        ("HARNESS_DB_PORT", "70000", "db_port must be 0 to 65535"),
        ("HARNESS_DURABILITY", "some", "durability must be fast or full"),
    ],
)
def test_setting_out_of_range_is_refused(
    harness, setting: str, value: str, complaint: str
) -> None:
    result = harness("status", env={setting: value})
    assert result.returncode == USAGE
    assert complaint in error_of(result)


def fake_postgres(folder: Path, version: str) -> Path:
    for name in ("postgres", "initdb"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return folder


def test_postgres_too_old_is_named_with_what_is_needed(harness, tmp_path: Path) -> None:
    old = fake_postgres(tmp_path, "12.4")
    result = harness("up", env={"HARNESS_POSTGRES": str(old)})
    assert result.returncode == HARNESS_ERROR
    assert "PostgreSQL 15 or newer is needed" in error_of(result)
    assert "12.4" in error_of(result)
    assert "hint: " in result.stderr


def test_folder_without_postgres_is_named(harness, tmp_path: Path) -> None:
    result = harness("up", env={"HARNESS_POSTGRES": str(tmp_path)})
    assert result.returncode == HARNESS_ERROR
    assert f"no PostgreSQL server programs in {tmp_path}" in error_of(result)


def migrations(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "schema"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


BROKEN: dict[str, tuple[str, str, str]] = {
    "statement in the middle": (
        "create table a (id int);\n\ncreate table b (id itn);\ncreate table c ();\n",
        ":3: ",
        "[42704]",
    ),
    "syntax": ("create table a (id int);\ncreate tabel b ();\n", ":2: ", "syntax"),
    "extension that is missing": (
        "create table a (id int);\ncreate extension timescaledb;\n",
        ":2: ",
        "timescaledb",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_migration_names_file_line_and_reason(
    harness, tmp_path: Path, what: str
) -> None:
    text, line, reason = BROKEN[what]
    folder = migrations(tmp_path, **{"20260101000000_broken": text})
    result = harness("check", str(folder))
    assert result.returncode == HARNESS_ERROR
    message = next(x for x in result.stderr.splitlines() if x.startswith("error: "))
    assert f"20260101000000_broken.sql{line}" in message
    assert reason in message


def test_policy_that_raises_is_a_finding_and_no_crash(harness, tmp_path: Path) -> None:
    folder = migrations(
        tmp_path,
        **{
            "20260101000000_notes": """
            create table public.notes (
              id uuid primary key default gen_random_uuid(),
              user_id uuid not null references auth.users, body text);
            alter table public.notes enable row level security;
            create policy reads on public.notes for select
              using ((1 / (select 0)) = 1 and user_id = (select auth.uid()));
            """
        },
    )
    result = harness("check", str(folder), "--seed", "1")
    assert result.returncode == 1, result.stderr
    assert "public.notes" in result.stdout
    assert "division by zero" in result.stdout


def test_absent_docker_is_told_with_the_way_out(harness) -> None:
    result = harness(
        "run", "climber", "--stack", "containers",
        env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    )  # fmt: skip
    assert result.returncode == HARNESS_ERROR
    line = next(x for x in result.stderr.splitlines() if x.startswith("error: "))
    assert "Docker daemon" in line
    assert "--stack embedded needs no Docker" in result.stderr


def test_remote_stack_without_its_secrets_is_told_what_it_needs(harness) -> None:
    result = harness("run", "climber", "--stack", "https://project.example.test")
    assert result.returncode == USAGE
    line = next(x for x in result.stderr.splitlines() if x.startswith("error: "))
    assert "SUPABASE_DB_URL" in line


def test_a_run_whose_stack_does_not_start_leaves_no_report(
    harness, environment
) -> None:
    result = harness("--postgres", "postgresql://db.example/x", "check", "sql/climber")
    assert result.returncode == USAGE
    assert "a stack starts a PostgreSQL of its own" in error_of(result)
    assert result.stdout == ""
    assert list(Path(environment["HARNESS_REPORTS_DIR"]).iterdir()) == []


def test_reports_folder_that_is_a_file_is_an_error(harness, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("not a folder")
    result = harness("load", "smoke")
    assert result.returncode == HARNESS_ERROR
    assert "cannot make a report folder" in error_of(result)


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may mount a small disk"
)


@needs_mounts
def test_full_disk_under_the_report_ends_the_run_with_that_reason(
    harness, tmp_path: Path
) -> None:
    folder = migrations(
        tmp_path, **{"20260101000000_notes": "create table public.notes (id int);"}
    )
    with SmallDisk(1024**2) as small:
        fill_disk(small.path, leave_bytes=8192)
        result = harness("check", str(folder), "--reports", str(small.path / "reports"))
    assert result.returncode == HARNESS_ERROR
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in told[0]
    assert "Traceback" not in result.stderr
    assert "free some space" in result.stderr


@needs_mounts
def test_read_only_disk_under_the_report_is_told_before_anything_starts(
    harness, tmp_path: Path
) -> None:
    with SmallDisk(1024**2) as small:
        subprocess.run(
            ["mount", "-o", "remount,ro", str(small.path)], check=True, timeout=10
        )
        result = harness("check", "sql/storymimi", "--reports", str(small.path / "new"))
    assert result.returncode == HARNESS_ERROR
    assert "Read-only file system" in error_of(result)
    assert "stack" not in result.stderr.splitlines()[0]


BreakIt = Callable[[Path], object]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda run: (run / "events.jsonl").write_text("{nonsense\n"),
        lambda run: (run / "events.jsonl").write_text(""),
        lambda run: (run / "events.jsonl").unlink(missing_ok=True),
    ],
    ids=["garbled", "empty", "missing"],
)
def test_broken_report_folder_is_an_error(
    harness, tmp_path: Path, break_it: BreakIt
) -> None:
    run = tmp_path / "reports" / "20260101T000000Z-climber-1"
    run.mkdir(parents=True)
    break_it(run)
    result = harness("report", run.name)
    assert result.returncode == HARNESS_ERROR
    assert run.name in error_of(result)
