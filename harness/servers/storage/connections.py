"""Database connections of the Storage API, kept open between requests.

A connection is taken from the project's pool once and reused without the pool's reset
query: every setting of a request is local to its transaction, so there is nothing to
reset.  Connections idle for :data:`IDLE_S` go back to the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from harness.servers.project import ServedProject
from harness.servers.storage import errors

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["Connections"]

LOGIN: Final = "supabase_storage_admin"
IDLE_S: Final = 5.0
PREPARE: Final = (
    "set search_path = storage, public, extensions; set statement_timeout = '30s'"
)

FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Connections:
    """Up to ``limit`` connections as supabase_storage_admin."""

    def __init__(self, project: ServedProject, limit: int) -> None:
        self._project = project
        self._limit = limit
        self._free = asyncio.Semaphore(limit)
        self._idle: list[PoolConnectionProxy[asyncpg.Record]] = []
        self._least_idle = 0
        self._trimming: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Give every idle connection back."""
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
        idle, self._idle = self._idle, []
        await self._release(idle)

    async def row(self, statement: str, *args: Any) -> asyncpg.Record:
        """Run one statement in its own transaction and return its one row."""
        # Written out: a context manager costs a tenth of a small request.
        if self._free.locked() or not self._idle or self._idle[-1].is_closed():
            async with self.connection() as connection:
                record = await connection.fetchrow(statement, *args)
        else:
            await self._free.acquire()
            connection = self._idle.pop()
            self._least_idle = min(self._least_idle, len(self._idle))
            try:
                record = await connection.fetchrow(statement, *args)
            except FAILURES as exc:
                raise _refusal_of(exc) from exc
            finally:
                if connection.is_closed():
                    await self._release([connection])
                else:
                    self._idle.append(connection)
                self._free.release()
        assert record is not None, statement
        return record

    async def rows(self, statement: str, *args: Any) -> Sequence[asyncpg.Record]:
        """Run one statement in its own transaction and return its rows."""
        async with self.connection() as connection:
            records: Sequence[asyncpg.Record] = await connection.fetch(statement, *args)
        return records

    async def execute(self, statement: str, *args: Any) -> None:
        """Run one statement in its own transaction."""
        async with self.connection() as connection:
            await connection.execute(statement, *args)

    @asynccontextmanager
    async def as_caller(
        self, settings: Sequence[str], *, service: bool = False
    ) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """Open a transaction as the caller, or as service_role for ``service``."""
        scope = "as_service" if service else "as_caller"
        async with self.connection() as connection, connection.transaction():
            await connection.fetchval(f"select _storage.{scope}($1)", settings)
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """Lend a connection; PostgreSQL's errors leave as refusals."""
        async with self._free:
            connection = await self._take()
            try:
                yield connection
            except FAILURES as exc:
                raise _refusal_of(exc) from exc
            finally:
                await self._give(connection)

    async def _take(self) -> PoolConnectionProxy[asyncpg.Record]:
        while self._idle:
            connection = self._idle.pop()
            self._least_idle = min(self._least_idle, len(self._idle))
            if not connection.is_closed():
                return connection
            await self._release([connection])
        try:
            pool = await self._project.pool(LOGIN)
            fresh = await pool.acquire()
            await fresh.execute(PREPARE)
        except FAILURES as exc:
            raise _refusal_of(exc) from exc
        return fresh

    async def _give(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            await self._release([connection])
            return
        self._idle.append(connection)
        if self._trimming is None:
            loop = asyncio.get_running_loop()
            self._trimming = loop.call_later(IDLE_S, self._trim, loop)

    def _trim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of what nobody needed since the last time."""
        unused, self._idle = (
            self._idle[: self._least_idle],
            self._idle[self._least_idle :],
        )
        self._trimming = None
        if unused:
            self._returning = loop.create_task(self._release(unused))
        self._least_idle = len(self._idle)
        if self._idle:
            self._trimming = loop.call_later(IDLE_S, self._trim, loop)

    async def _release(
        self, connections: Sequence[PoolConnectionProxy[asyncpg.Record]]
    ) -> None:
        if not connections:
            return
        pool = await self._project.pool(LOGIN)
        for connection in connections:
            try:
                await pool.release(connection)
            except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError):
                # A broken connection cannot be reset; the pool has dropped it.
                continue


def _refusal_of(exc: BaseException) -> errors.StorageError:
    if isinstance(exc, asyncpg.PostgresError):
        return errors.from_postgres(exc)
    # The connection broke under the statement, or could not be made.
    return errors.database_timeout()
