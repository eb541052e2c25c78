"""One database for all examples of a module: examples clean up after themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import Schema
from tests.integration.realtime.server import RealtimeServer


@pytest.fixture(scope="module")
async def module_server(
    database_runner: Any,
    platform_schema: Schema,
    tmp_path_factory: Callable[..., Path],
) -> AsyncIterator[RealtimeServer]:
    """Serve one database to every example of the module."""
    address: DatabaseAddress = database_runner.clone(platform_schema)
    folder: Any = tmp_path_factory
    async with RealtimeServer(address, folder.mktemp("objects")) as server:
        yield server
