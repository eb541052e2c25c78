"""A freshly initialised data directory in a tenth of the time that initdb takes.

The first start of a version runs ``initdb`` and keeps the result in the cache folder,
keyed by everything that shapes it; later starts copy it.  Differences from a plain
cluster: the superuser is ``supabase_admin``, the database ``postgres`` is renamed to
``_supabase`` (as maintenance database, so that ``postgres`` can be a project), local
connections are trusted (the socket folder is private) and TCP asks for a password.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.db.account import Account
from harness.db.discovery import PostgresInstallation
from harness.errors import StackError

__all__ = [
    "MAINTENANCE_DB",
    "SUPERUSER",
    "default_cache_dir",
    "fill_data_dir",
    "runnable_by",
]

SUPERUSER = "supabase_admin"
MAINTENANCE_DB = "_supabase"
ON_LINUX = platform.system() == "Linux"
INITDB_TIMEOUT_S = 120.0
# Part of the cache key: raise it when the code below changes what it makes.
CACHE_FORMAT = 1

HBA = """\
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


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
    if variant and variant_exists(cache_dir, installation, variant):
        copy_tree(_cached(cache_dir, installation, variant), data_dir, account)
        return
    cached = _cached(cache_dir, installation)
    if not cached.is_dir():
        _initdb(data_dir, installation, account)
        _keep(data_dir, cached)
        return
    copy_tree(cached, data_dir, account)


def runnable_by(
    installation: PostgresInstallation, account: Account | None, *, cache_dir: Path
) -> PostgresInstallation:
    """Return an installation that ``account`` can run.

    A wheel in a virtual environment below ``/root`` is closed to the account that the
    server runs as; then the server's tree is copied into the cache once.
    """
    if account is None or _can_run(installation, account):
        return installation
    prefix = installation.bin_dir.parent
    copied = cache_dir / f"postgres-{_key(installation)}"
    if not copied.is_dir():
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache_dir))
        shutil.copytree(prefix, building, symlinks=True, dirs_exist_ok=True)
        building.chmod(0o755)
        try:
            building.rename(copied)
        except OSError:
            # Another process was faster; its copy is as good.
            shutil.rmtree(building)
    moved = dataclasses.replace(installation, bin_dir=copied / "bin")
    if not _can_run(moved, account):
        raise StackError(
            f"account {account.name} cannot run {moved.program('postgres')}",
            service="postgres",
            hint="set XDG_CACHE_HOME to a folder that every account may read",
        )
    return moved


def _can_run(installation: PostgresInstallation, account: Account) -> bool:
    command = [str(installation.program("postgres")), "--version"]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


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
        *_options(installation),
    )
    return (
        f"{installation.major}-{hashlib.sha256(repr(shape).encode()).hexdigest()[:16]}"
    )


def _options(installation: PostgresInstallation) -> tuple[str, ...]:
    options = [
        f"--username={SUPERUSER}",
        "--auth=trust",
        "--encoding=UTF8",
        *_locale(installation),
        "--no-sync",
        "--no-instructions",
    ]
    if installation.major >= 18:
        # On by default from 18; a throw-away cluster does not need them.
        options.append("--no-data-checksums")
    return tuple(options)


def _locale(installation: PostgresInstallation) -> tuple[str, ...]:
    """Return the options for code point order with Unicode case rules."""
    if ON_LINUX:
        return ("--locale=C.UTF-8",)
    if installation.major >= 17:
        return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return ("--locale=en_US.UTF-8", "--lc-collate=C")


def _initdb(
    data_dir: Path, installation: PostgresInstallation, account: Account | None
) -> None:
    initdb = str(installation.program("initdb"))
    _run([initdb, *_options(installation), "-D", str(data_dir)], data_dir, account)
    rename = f"alter database postgres rename to {MAINTENANCE_DB};\n"
    server = str(installation.program("postgres"))
    single = [server, "--single", "-F", "-D", str(data_dir), "template1"]
    _run(single, data_dir, account, stdin=rename)
    (data_dir / "pg_hba.conf").write_text(HBA)


def _run(
    command: list[str], cwd: Path, account: Account | None, stdin: str = ""
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise StackError(f"{command[0]} failed: {exc}", service="postgres") from exc
    if done.returncode or "FATAL" in done.stderr or "ERROR" in done.stderr:
        raise StackError(
            f"{command[0]} failed with status {done.returncode}",
            service="postgres",
            log_tail=done.stdout + done.stderr,
        )


def _keep(data_dir: Path, cached: Path) -> None:
    """Put a copy into the cache; who loses a race keeps the winner's."""
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=cached.parent))
    try:
        copy_tree(data_dir, building, None)
        building.rename(cached)
    except OSError:
        # A full disk or a race: without the cache the next start is merely slower.
        shutil.rmtree(building, ignore_errors=True)
