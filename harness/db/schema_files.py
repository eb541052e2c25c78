"""Schema files on disk: which ones a folder offers, in which order.

A folder of ``<digits>_<name>.sql`` files is applied in file-name order, as the
Supabase CLI does, other names being skipped; a folder without any such file is applied
in plain name order.  ``seed.sql`` comes last.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import MigrationError, UsageError

__all__ = ["Schema", "SchemaFile", "digest", "read_file", "read_schema"]

MIGRATION_NAME = re.compile(r"^([0-9]+)_(.*)\.sql$")
SEED = "seed.sql"

Role = Literal["postgres", "supabase_admin"]


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One file: ``label`` is how messages name it, ``version`` '' if it has none."""

    label: str
    version: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Schema:
    """Files to apply in order, as ``role``.

    ``recorded``: versions are entered in ``supabase_migrations.schema_migrations``.
    ``skipped`` names the files that were left out.
    """

    files: tuple[SchemaFile, ...]
    role: Role = "postgres"
    recorded: bool = True
    skipped: tuple[str, ...] = ()


def read_schema(
    path: Path, *, role: Role = "postgres", recorded: bool = True
) -> Schema:
    """Read a folder of SQL files, or a single file.

    Raises :class:`UsageError` if there is none.
    """
    if path.is_file():
        return Schema((read_file(path),), role=role, recorded=False)
    names = sorted(p for p in path.glob("*.sql") if p.is_file())
    if not names:
        raise UsageError(
            f"no SQL files in {path}",
            hint="name a folder of <14 digits>_<name>.sql files, or one .sql file",
        )
    seed = [p for p in names if p.name == SEED]
    migrations = [p for p in names if MIGRATION_NAME.match(p.name)]
    skipped = [p for p in names if migrations and p not in migrations and p not in seed]
    chosen = [*(migrations or [p for p in names if p not in seed]), *seed]
    return Schema(
        tuple(read_file(p) for p in chosen),
        role=role,
        recorded=recorded,
        skipped=tuple(p.name for p in skipped),
    )


def read_file(path: Path) -> SchemaFile:
    """Read one file; its version and name come from its file name."""
    label = _label(path)
    try:
        # A byte order mark is an editor's habit, not SQL.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        line = path.read_bytes().count(b"\n", 0, exc.start) + 1
        raise MigrationError(
            "not UTF-8", file=label, line=line, hint="save the file as UTF-8"
        ) from exc
    except OSError as exc:
        raise UsageError(f"cannot read {label}: {exc.strerror}") from exc
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise MigrationError("a NUL byte is not SQL", file=label, line=line)
    match = MIGRATION_NAME.match(path.name)
    version, name = match.groups() if match else ("", path.stem)
    return SchemaFile(label=label, version=version, name=name, text=text)


def digest(schemas: Iterable[Schema]) -> str:
    """Return 16 hex digits that change with anything that would be applied."""
    hashed = hashlib.sha256()
    for schema in schemas:
        hashed.update(f"\0{schema.role}\0{schema.recorded}".encode())
        for file in schema.files:
            hashed.update(f"\0{file.version}\0{file.name}\0".encode())
            hashed.update(file.text.encode())
    return hashed.hexdigest()[:16]


def _label(path: Path) -> str:
    """Return the shortest name that leads to the file from the working directory."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
