"""Connections of the Storage API: none is lost, whenever its user gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.clock import SystemClock
from harness.db.address import DatabaseAddress
from harness.servers.project import ProjectKeys, ServedProject
from harness.servers.storage.connections import Connections

LIMIT = 2
TRIES = 60
STEP_S = 0.0002
DEADLINE_S = 20.0


@pytest.fixture
async def project(
    database: DatabaseAddress, tmp_path: Path
) -> AsyncIterator[ServedProject]:
    """Yield a project without services."""
    served = ServedProject(
        "test", "http://127.0.0.1", database, ProjectKeys(), tmp_path, SystemClock()
    )
    yield served
    await served.close()


async def test_no_connection_is_lost_when_its_user_gives_up(
    project: ServedProject,
) -> None:
    connections = Connections(project, LIMIT)
    pool = await project.pool("supabase_storage_admin")
    for tried in range(TRIES):
        # From before the connection is made to after the statement has run.
        asking = asyncio.create_task(connections.row("select 1 as one"))
        await asyncio.sleep(tried * STEP_S)
        asking.cancel()
        await asyncio.wait([asking])
        await connections.close()
    async with asyncio.timeout(DEADLINE_S):
        rows = await asyncio.gather(
            *(connections.row("select pg_backend_pid() as pid") for _ in range(LIMIT))
        )
    await connections.close()
    assert len({row["pid"] for row in rows}) <= LIMIT
    assert pool.get_size() - pool.get_idle_size() == 0
