"""Environment files of a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.db.dotenv import env_files, load_env, parse_env
from harness.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("export A = 1 # why", {"A": "1"}),
        ("A=has#hash", {"A": "has#hash"}),
        ("A=", {"A": ""}),
        ("A: yaml", {"A": "yaml"}),
        ("A='raw $B #'", {"A": "raw $B #"}),
        ('A="x\\ny \\"z\\""', {"A": 'x\ny "z"'}),
        ('A="two\nlines"\nB=2', {"A": "two\nlines", "B": "2"}),
        ("A=1\nB=$A-${A}", {"A": "1", "B": "1-1"}),
        ('A="\\$B"', {"A": "$B"}),
        ("B=$MISSING.", {"B": "."}),
        ("B=$HOME", {"B": "/home"}),
        ("# note\n\n  A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ],
)
def test_parse_reads_assignments(text: str, expected: dict[str, str]) -> None:
    assert parse_env(text, {"HOME": "/home"}) == expected


def test_parse_names_the_line_of_nonsense() -> None:
    with pytest.raises(ConfigError, match=r"x\.env:3: not NAME=value"):
        parse_env("A=1\n\nnonsense here\n", source="x.env")


def test_files_are_ordered_by_strength(tmp_path: Path) -> None:
    supabase = tmp_path / "supabase"
    supabase.mkdir()
    (tmp_path / ".git").mkdir()
    names = [str(p.relative_to(tmp_path)) for p in env_files(supabase, "staging")]
    own = [".env.staging.local", ".env.local", ".env.staging", ".env"]
    assert names == [f"supabase/{name}" for name in own] + own
    assert "supabase/.env.local" not in map(str, env_files(supabase, "test"))


def test_environment_wins_over_files_and_earlier_files_over_later(
    tmp_path: Path,
) -> None:
    supabase = tmp_path / "supabase"
    supabase.mkdir()
    (supabase / ".env.local").write_text("A=local\nB=local")
    (supabase / ".env").write_text("A=shared\nB=shared\nC=shared\nD=$A")
    (tmp_path / ".env").write_text("C=project\nE=project")
    merged = load_env(supabase, {"A": "environment"})
    assert merged == {
        "A": "environment",
        "B": "local",
        "C": "shared",
        "D": "environment",
        "E": "project",
    }


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.env cannot be read"):
        load_env(tmp_path, {})
