"""What ``harness check`` and ``harness diff`` are pointed at, made into a database."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.db.address import DatabaseAddress
from harness.db.discovery import installations
from harness.db.schema_copy import copy_schema
from harness.db.supabase_project import find_project
from harness.errors import StackError, UsageError
from harness.stack.base import SchemaSource, Stack

__all__ = ["SchemaUnderTest", "schema_under_test"]

RULES = "rules.toml"


@dataclass(frozen=True, slots=True)
class SchemaUnderTest:
    """A schema by name; ``sources`` gives what a stack makes databases from."""

    name: str
    sources: Callable[[], Awaitable[Sequence[SchemaSource]]]
    rules: Path | None = None

    async def make(self, stack: Stack) -> DatabaseAddress:
        """Return a database of ``stack`` that holds the schema."""
        return await stack.create_database(await self.sources())


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

    async def sources() -> Sequence[SchemaSource]:
        return (folder,)

    return SchemaUnderTest(
        name=f"{resolved.parent.name}/{resolved.name}",
        sources=sources,
        rules=rules if rules.is_file() else None,
    )


def _of_database(url: str) -> SchemaUnderTest:
    async def sources() -> Sequence[SchemaSource]:
        return await copy_schema(url, pg_dump=_pg_dump())

    name = urlsplit(url).path.lstrip("/") or "database"
    return SchemaUnderTest(name=name, sources=sources)


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
