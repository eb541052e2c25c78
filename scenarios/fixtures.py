"""Fixtures and types that the suites of all systems share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest_asyncio

if TYPE_CHECKING:
    from supabase import AsyncClient

    from harness.stack.project import Persona, Project

__all__ = ["AsPersona", "Sql", "become", "sql"]

Sql: TypeAlias = "asyncpg.Connection[Any]"
AsPersona: TypeAlias = "Callable[[Persona], Awaitable[AsyncClient]]"


@pytest_asyncio.fixture(loop_scope="session")
async def sql(project: Project) -> AsyncIterator[Sql]:
    """Yield a database connection that sees everything."""
    connection = await project.connect()
    yield connection
    await connection.close()


async def become(connection: Sql, persona: Persona) -> None:
    """Speak for a user, as the services do, until the transaction ends."""
    await connection.execute(
        "select set_config('role', $1, true),"
        " set_config('request.jwt.claims',"
        "   json_build_object('sub', nullif($2, ''), 'role', $1)::text, true)",
        persona.role,
        persona.id,
    )
