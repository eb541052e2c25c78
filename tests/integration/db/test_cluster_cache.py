"""The cache of initialised clusters: bounded, whole entries only, safe to share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.db import cluster_cache
from harness.db.account import give, server_account
from harness.db.cluster_cache import (
    default_cache_dir,
    fill_data_dir,
    keep_variant,
    variant_exists,
)
from harness.db.discovery import PostgresInstallation
from harness.db.rundir import run_roots
from harness.errors import StackError


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder that the server's account may pass through."""
    with TemporaryDirectory(dir=run_roots()[0]) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def cache_dir(folder: Path) -> Path:
    (folder / "cache").mkdir()
    return folder / "cache"


def data_dir(folder: Path, name: str) -> Path:
    """Make an empty data directory that belongs to the server's account."""
    path = folder / name
    path.mkdir(mode=0o700)
    give(path, server_account())
    return path


def test_copy_is_like_the_first_and_belongs_to_the_account(
    postgres_installation: PostgresInstallation, folder: Path, cache_dir: Path
) -> None:
    account = server_account()
    made = []
    for name in ("one", "two"):
        made.append(data_dir(folder, name))
        fill_data_dir(
            made[-1], postgres_installation, cache_dir=cache_dir, account=account
        )
    first, second = (
        {str(p.relative_to(d)): p.stat().st_size for p in d.rglob("*") if p.is_file()}
        for d in made
    )
    assert first == second
    assert len(first) > 500
    owners = {p.stat().st_uid for p in made[1].rglob("*")}
    assert owners == {account.uid if account else os.getuid()}
    modes = {p.stat().st_mode & 0o077 for p in made[1].rglob("*")}
    assert modes == {0}


def test_makers_at_the_same_time_leave_one_entry(
    postgres_installation: PostgresInstallation, folder: Path, cache_dir: Path
) -> None:
    targets = [data_dir(folder, f"d{i}") for i in range(3)]

    def fill(target: Path) -> None:
        fill_data_dir(
            target,
            postgres_installation,
            cache_dir=cache_dir,
            account=server_account(),
        )

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fill, targets))
    assert len(list(cache_dir.iterdir())) == 1
    assert all((target / "PG_VERSION").is_file() for target in targets)


def test_oldest_entries_go_but_not_while_somebody_reads(
    postgres_installation: PostgresInstallation,
    folder: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_cache, "KEPT_AT_MOST", 2)
    source = folder / "source"
    source.mkdir()
    (source / "file").write_text("x")
    abandoned = cache_dir / f"{cluster_cache.BUILDING}0"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))

    def keep(name: str, age_s: int) -> None:
        keep_variant(source, cache_dir, postgres_installation, name)
        for path in cache_dir.glob(f"*-{name}"):
            os.utime(path, (1_000_000 - age_s,) * 2)

    reader = os.open(cache_dir, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    for age, name in enumerate(("new", "middle", "old")):
        keep(name, age)
    assert len(list(cache_dir.iterdir())) == 4
    os.close(reader)
    keep("newest", -1)
    kept = [
        name
        for name in ("newest", "new", "middle", "old")
        if variant_exists(cache_dir, postgres_installation, name)
    ]
    assert kept == ["newest", "new"]
    assert not abandoned.exists()


def test_cache_folder_follows_the_environment(tmp_path: Path) -> None:
    chosen = default_cache_dir({"XDG_CACHE_HOME": str(tmp_path / "xdg")})
    assert chosen == tmp_path / "xdg" / "supabase-harness"
    assert chosen.is_dir()
    if os.geteuid() != 0:
        assert default_cache_dir({"HOME": str(tmp_path)}) == (
            tmp_path / ".cache" / "supabase-harness"
        )


def test_cache_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(cluster_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(cluster_cache.os, "getuid", lambda: 12345)
    monkeypatch.setattr(cluster_cache.os, "geteuid", lambda: 12345)
    with pytest.raises(StackError, match="no folder can be written"):
        default_cache_dir({"HOME": str(tmp_path / "file")})
