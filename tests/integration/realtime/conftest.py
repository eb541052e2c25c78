"""A served database, and sockets that speak the wire protocol to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.db.address import DatabaseAddress
from tests.integration.realtime.server import RealtimeServer

Serve = Callable[..., Awaitable[RealtimeServer]]


@pytest.fixture
async def serve(database: DatabaseAddress, tmp_path: Path) -> AsyncIterator[Serve]:
    """Serve the test's database with settings of the test."""
    async with AsyncExitStack() as stack:

        async def serving(**settings: Any) -> RealtimeServer:
            server = RealtimeServer(database, tmp_path, **settings)
            return await stack.enter_async_context(server)

        yield serving


@pytest.fixture
async def server(serve: Serve) -> RealtimeServer:
    """Serve the test's database with defaults."""
    return await serve()
