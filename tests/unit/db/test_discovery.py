"""Finding a PostgreSQL: order, versions, and what is said when there is none."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.db import discovery
from harness.db.discovery import (
    find_postgres,
    installations,
)
from harness.errors import PostgresNotFoundError, UsageError

MakeBin = Callable[..., Path]


@pytest.fixture
def make_bin(tmp_path: Path) -> MakeBin:
    """Return a function that makes a folder of programs that tell a version."""

    def make(name: str, says: str, *, script: str = "") -> Path:
        folder = tmp_path / name / "bin"
        folder.mkdir(parents=True)
        for program in ("postgres", "initdb"):
            path = folder / program
            path.write_text(script or f"#!/bin/sh\necho '{says}'\n")
            path.chmod(0o755)
        return folder

    return make


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the PostgreSQL of this machine."""
    monkeypatch.setattr(discovery, "SYSTEM_PATTERNS", ())
    monkeypatch.setattr(discovery, "WHEELS", ())


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("postgres (PostgreSQL) 18beta1", (18, 0)),
        ("postgres (PostgreSQL) 17.10", (17, 10)),
    ],
)
def test_version_is_what_the_server_tells(
    make_bin: MakeBin, says: str, version: tuple[int, int]
) -> None:
    found = find_postgres(str(make_bin("pg", says)))
    assert (found.version, found.source) == (version, "explicit")
    assert found.program("initdb").name == "initdb"


def test_explicit_may_be_bin_prefix_or_program(make_bin: MakeBin) -> None:
    folder = make_bin("pg", "postgres (PostgreSQL) 16.1")
    for named in (folder, folder.parent, folder / "postgres"):
        assert find_postgres(str(named)).bin_dir == folder


def test_newest_on_the_path_wins_and_links_are_followed(
    make_bin: MakeBin, tmp_path: Path
) -> None:
    old = make_bin("old", "postgres (PostgreSQL) 15.1")
    new = make_bin("new", "postgres (PostgreSQL) 16.2")
    links = tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(new / "postgres")
    found = installations(f"{old}:{links}:/nowhere")
    assert [(i.bin_dir, i.major) for i in found] == [(new, 16), (old, 15)]
    assert find_postgres(search_path=f"{old}:{links}").bin_dir == new


def test_too_old_is_told_from_missing(make_bin: MakeBin) -> None:
    old = make_bin("old", "postgres (PostgreSQL) 14.9")
    with pytest.raises(PostgresNotFoundError, match=r"15 or newer .* 14\.9") as caught:
        find_postgres(search_path=str(old))
    assert "HARNESS_POSTGRES" in (caught.value.hint or "")
    with pytest.raises(PostgresNotFoundError, match="no PostgreSQL server found"):
        find_postgres(search_path="/nowhere")
    with pytest.raises(PostgresNotFoundError, match=r"14\.9"):
        find_postgres(str(old))


def test_broken_installation_does_not_hide_a_good_one(make_bin: MakeBin) -> None:
    broken = make_bin("broken", "", script="#!/bin/sh\nexit 127\n")
    alien = make_bin("alien", "", script="#!/no/such/interpreter\n")
    good = make_bin("good", "postgres (PostgreSQL) 17.0")
    found = find_postgres(search_path=f"{broken}:{alien}:{good}")
    assert found.bin_dir == good


def test_explicit_that_is_broken_or_absent_is_an_error(
    make_bin: MakeBin, tmp_path: Path
) -> None:
    with pytest.raises(PostgresNotFoundError, match="no PostgreSQL server programs"):
        find_postgres(str(tmp_path))
    mute = make_bin("mute", "hello")
    with pytest.raises(PostgresNotFoundError, match="does not tell its version"):
        find_postgres(str(mute))


def test_wheel_is_used_where_the_system_has_none(
    make_bin: MakeBin, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bin("pginstall", "postgres (PostgreSQL) 17.10")

    class File:
        name = "initdb"
        parent = Path("x/bin")

        def locate(self) -> Path:
            return folder / "initdb"

    def files(name: str) -> list[File]:
        if name == "shipped":
            return [File()]
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(discovery, "WHEELS", ("absent", "shipped"))
    monkeypatch.setattr(importlib.metadata, "files", files)
    found = find_postgres(search_path="")
    assert (found.bin_dir, found.source) == (folder, "wheel")
    system = make_bin("system", "postgres (PostgreSQL) 15.1")
    assert find_postgres(search_path=str(system)).source == "system"


def test_a_running_server_is_not_taken() -> None:
    with pytest.raises(UsageError, match="a stack starts a PostgreSQL of its own"):
        find_postgres("postgresql://me:p%40ss@db.example:6543/app?x=1")
