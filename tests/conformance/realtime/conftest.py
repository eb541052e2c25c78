"""The official Python client, connected to a service of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from realtime import AsyncRealtimeClient

from harness.db.address import DatabaseAddress
from tests.integration.realtime.server import RealtimeServer

Connect = Callable[..., Awaitable[AsyncRealtimeClient]]


@pytest.fixture
async def server(
    database: DatabaseAddress, tmp_path: Path
) -> AsyncIterator[RealtimeServer]:
    """Serve the test's database."""
    async with RealtimeServer(database, tmp_path) as running:
        yield running


@pytest.fixture
async def connect(server: RealtimeServer) -> AsyncIterator[Connect]:
    """Open clients of any role and claims."""
    opened: list[AsyncRealtimeClient] = []

    async def connecting(role: str = "anon", **claims: Any) -> AsyncRealtimeClient:
        client = AsyncRealtimeClient(server.url, token=server.token(role, **claims))
        await client.connect()
        opened.append(client)
        return client

    yield connecting
    for client in opened:
        await client.close()
