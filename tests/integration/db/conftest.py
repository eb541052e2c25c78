"""Connections to the test's database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest_asyncio

from harness.db.address import Connection, DatabaseAddress

Connect = Callable[..., Awaitable[Connection]]


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect to a database as a user; closed after the test."""
    opened: list[Connection] = []

    async def connect_to(
        address: DatabaseAddress, user: str = "supabase_admin"
    ) -> Connection:
        opened.append(
            await asyncpg.connect(
                **address.connect_args(user), statement_cache_size=0, timeout=10
            )
        )
        return opened[-1]

    yield connect_to
    for connection in opened:
        connection.terminate()


@pytest_asyncio.fixture
async def admin(database: DatabaseAddress, connect: Connect) -> Connection:
    """Connect to the test's database as the superuser."""
    return await connect(database)


@pytest_asyncio.fixture
async def postgres_role(database: DatabaseAddress, connect: Connect) -> Connection:
    """Connect to the test's database as role ``postgres``."""
    return await connect(database, "postgres")
