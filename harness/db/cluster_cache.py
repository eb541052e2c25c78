"""The cache folder: initialised clusters and readable copies of server programs.

Everything in it can be made again at any time.  Who copies from it holds a shared lock,
so that the oldest entries are only removed while nobody reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.db.account import Account
from harness.db.discovery import PostgresInstallation
from harness.db.initdb import initdb, initdb_options
from harness.errors import StackError

__all__ = [
    "default_cache_dir",
    "fill_data_dir",
    "keep_variant",
    "variant_exists",
]

ON_LINUX = platform.system() == "Linux"
# Part of the key: raise it when what initdb() makes changes.
CACHE_FORMAT = 1
# A data directory is about 40 MB, one with templates a few times that.
KEPT_AT_MOST = 8
BUILDING = ".building-"
ABANDONED_S = 3600.0


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Return a writable folder for what may be rebuilt at any time.

    Root's own cache is closed to the account that runs the server, so root uses the
    system's.  A machine without any writable home gets a folder beside its temporary
    files.
    """
    candidates = [Path(tempfile.gettempdir()) / f"supabase-harness-cache-{os.getuid()}"]
    if os.geteuid() == 0:
        candidates.insert(0, Path("/var/cache/supabase-harness"))
    elif home := environ.get("HOME"):
        candidates.insert(0, Path(home) / ".cache" / "supabase-harness")
    if xdg := environ.get("XDG_CACHE_HOME"):
        candidates.insert(0, Path(xdg) / "supabase-harness")
    for candidate in candidates:
        if _usable(candidate):
            return candidate
    raise StackError(
        f"no folder can be written for the cache, tried {candidates[-1]}",
        service="postgres",
        hint="set XDG_CACHE_HOME or TMPDIR to a writable folder",
    )


def fill_data_dir(
    data_dir: Path,
    installation: PostgresInstallation,
    *,
    cache_dir: Path,
    account: Account | None,
    variant: str = "",
) -> None:
    """Make ``data_dir`` (existing, empty, owned by the server) a data directory.

    A ``variant`` that is in the cache is copied instead of a fresh cluster.
    """
    with _reading(cache_dir):
        for name in (variant, ""):
            cached = _cached(cache_dir, installation, name)
            if cached.is_dir():
                copy_tree(cached, data_dir, account)
                os.utime(cached)
                return
    initdb(data_dir, installation, account)
    _keep(data_dir, _cached(cache_dir, installation))


def variant_exists(
    cache_dir: Path, installation: PostgresInstallation, variant: str
) -> bool:
    """Tell whether the cache holds the data directory ``variant``."""
    return _cached(cache_dir, installation, variant).is_dir()


def keep_variant(
    data_dir: Path,
    cache_dir: Path,
    installation: PostgresInstallation,
    variant: str,
) -> None:
    """Keep the data directory of a cleanly ended server as ``variant``."""
    _keep(data_dir, _cached(cache_dir, installation, variant))


def _cached(
    cache_dir: Path, installation: PostgresInstallation, variant: str = ""
) -> Path:
    key = _key(installation)
    return cache_dir / (f"cluster-{key}-{variant}" if variant else f"cluster-{key}")


def _keep(data_dir: Path, cached: Path) -> None:
    """Put a copy into the cache; who loses a race keeps the winner's."""
    building = cached.with_name(f"{BUILDING}{secrets.token_hex(4)}")
    try:
        building.mkdir(mode=0o700)
        copy_tree(data_dir, building, None)
        building.rename(cached)
    except OSError:
        # A full disk or a race: without the cache the next start is merely slower.
        shutil.rmtree(building, ignore_errors=True)
    _evict(cached.parent)


def _evict(cache_dir: Path) -> None:
    """Remove what was not used for longest, and what a crash left half-made."""
    with _locked(cache_dir, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        if not alone:
            return
        clusters = sorted(cache_dir.glob("cluster-*"), key=_used_at, reverse=True)
        halves = cache_dir.glob(f"{BUILDING}*")
        old = [p for p in halves if time.time() - _used_at(p) > ABANDONED_S]
        for path in [*clusters[KEPT_AT_MOST:], *old]:
            shutil.rmtree(path, ignore_errors=True)


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def _reading(cache_dir: Path) -> Iterator[None]:
    with _locked(cache_dir, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(cache_dir: Path, how: int) -> Iterator[bool]:
    """Hold the cache's lock; yields whether it was had."""
    descriptor = os.open(cache_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def copy_tree(source: Path, target: Path, account: Account | None) -> None:
    """Copy files and folders into the existing folder ``target``, private to the owner.

    Written out because ``shutil.copytree`` spends half its time on attributes that do
    not matter here.
    """
    with os.scandir(source) as entries:
        for entry in entries:
            path = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                path.mkdir(mode=0o700)
                _own(path, account)
                copy_tree(Path(entry.path), path, account)
            else:
                _copy_file(entry.path, str(path), account)


def _copy_file(source: str, target: str, account: Account | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(source, "rb", buffering=0) as reader:
        size = os.fstat(reader.fileno()).st_size
        writer = os.open(target, flags, 0o600)
        try:
            if account is not None:
                os.fchown(writer, account.uid, account.gid)
            while size > 0:
                size -= _send(writer, reader.fileno(), size)
        finally:
            os.close(writer)


def _send(writer: int, reader: int, size: int) -> int:
    """Copy up to ``size`` bytes between files at their positions; returns how many."""
    if ON_LINUX:
        return os.sendfile(writer, reader, None, size)
    return os.write(writer, os.read(reader, min(size, 1 << 20)))


def _own(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    # A folder that somebody else made could hold anything.
    return folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)


def _key(installation: PostgresInstallation) -> str:
    server = installation.program("postgres").stat()
    shape = (
        CACHE_FORMAT,
        installation.version,
        str(installation.bin_dir),
        server.st_size,
        server.st_mtime_ns,
        *initdb_options(installation),
    )
    return (
        f"{installation.major}-{hashlib.sha256(repr(shape).encode()).hexdigest()[:16]}"
    )
