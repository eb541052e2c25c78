"""Scratch copies of a database, where worlds are stored and probes run.

The database under check is only ever the template of a copy, so nothing that a probe
does, sequences included, can reach it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg

from harness.db.address import DatabaseAddress
from harness.db.initdb import MAINTENANCE_DB, SUPERUSER
from harness.db.templates import TemplateStore
from harness.policies.probing import Prober, install_probes

__all__ = ["ScratchFactory", "cloned", "scratch_prober"]

ScratchFactory = Callable[
    [DatabaseAddress], AbstractAsyncContextManager[DatabaseAddress]
]


@asynccontextmanager
async def cloned(database: DatabaseAddress) -> AsyncIterator[DatabaseAddress]:
    """Copy ``database`` on its own server, and drop the copy in the end.

    Nobody may be connected to ``database`` while it is copied.
    """
    server = DatabaseAddress(
        database.host, database.port, MAINTENANCE_DB, database.password
    )
    async with TemplateStore(server) as store:
        name = await store.clone(database.dbname)
        try:
            yield store.address(name)
        finally:
            await store.drop(name)


@asynccontextmanager
async def scratch_prober(
    scratch: DatabaseAddress, *, statement_timeout_ms: int, installed: bool = False
) -> AsyncIterator[Prober]:
    """Connect to a scratch database as superuser, the probe functions installed."""
    connection = await asyncpg.connect(
        **scratch.connect_args(SUPERUSER),
        statement_cache_size=0,
        server_settings={"search_path": ""},
    )
    try:
        prober = Prober(connection, statement_timeout_ms=statement_timeout_ms)
        await prober.prepare()
        if not installed:
            await install_probes(connection)
        yield prober
    finally:
        await connection.close()
