"""What ``harness check`` and ``harness diff`` are pointed at, made into a database."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.db.address import DatabaseAddress
from harness.db.discovery import installations
from harness.db.schema_copy import copy_schema
from harness.db.supabase_project import find_project
from harness.errors import StackError, UsageError
from harness.stack.base import Stack

__all__ = ["SchemaUnderTest", "schema_under_test"]

RULES = "rules.toml"


@dataclass(frozen=True, slots=True)
class SchemaUnderTest:
    """A schema by name; ``make`` gives a database of a stack that holds it."""

    name: str
    make: Callable[[Stack], Awaitable[DatabaseAddress]]
    rules: Path | None = None


def schema_under_test(name: str) -> SchemaUnderTest | None:
    """Return the schema that ``name`` names, or ``None`` if it names nothing."""
    if name.startswith(("postgres://", "postgresql://")):
        return _of_database(name)
    folder = Path(name)
    if not folder.is_dir():
        return None
    project = find_project(folder)
    if project is None and not list(folder.glob("*.sql")):
        raise UsageError(
            f"no SQL files in {name}",
            hint="name a folder of migrations or a project of the Supabase CLI",
        )
    rules = (project or folder) / RULES
    resolved = folder.resolve()
    return SchemaUnderTest(
        name=f"{resolved.parent.name}/{resolved.name}",
        make=lambda stack: stack.create_database((folder,)),
        rules=rules if rules.is_file() else None,
    )


def _of_database(url: str) -> SchemaUnderTest:
    async def make(stack: Stack) -> DatabaseAddress:
        return await stack.create_database(await copy_schema(url, pg_dump=_pg_dump()))

    return SchemaUnderTest(name=urlsplit(url).path.lstrip("/") or "database", make=make)


def _pg_dump() -> Path:
    """Return the newest ``pg_dump`` here: it reads servers up to its own version."""
    found = [
        installation
        for installation in installations(os.environ.get("PATH", os.defpath))
        if installation.program("pg_dump").exists()
    ]
    if not found:
        raise StackError(
            "no pg_dump was found, which reads the schema of a database",
            hint="install the PostgreSQL client programs",
        )
    return max(found, key=lambda i: i.version).program("pg_dump")
