"""A served database as a load target, and a relay that spoils what passes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.db.address import DatabaseAddress
from harness.db.cluster import Cluster
from harness.load.target import Target
from tests.integration.realtime.server import RealtimeServer


@pytest.fixture
async def server(
    database: DatabaseAddress, tmp_path: Path
) -> AsyncIterator[RealtimeServer]:
    """Serve the test's database in this process."""
    async with RealtimeServer(database, tmp_path) as serving:
        yield serving


@pytest.fixture
def target(server: RealtimeServer, postgres: Cluster) -> Target:
    """Aim at the server; this process is the server's process."""
    return Target(
        url=f"http://127.0.0.1:{server.port}",
        anon_key=server.keys.anon_key,
        jwt_secret=server.keys.jwt_secret,
        database=server.database,
        server_pids=(os.getpid(),),
        postgres_pid=postgres.pid,
    )
