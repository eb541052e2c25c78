"""Database connections of the Storage API, kept open between requests.

A connection is taken from the project's pool once and reused without the pool's reset
query: every setting of a request is local to its transaction, so there is nothing to
reset.  Connections idle for :data:`IDLE_S` go back to the pool.

Small questions (may this object be seen) go over connections of their own, which
several of them share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

from harness.servers.project import ServedProject
from harness.servers.storage import errors

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from harness.servers.storage.questions import Questions

__all__ = ["Connections", "calling"]

LOGIN: Final = "supabase_storage_admin"
IDLE_S: Final = 5.0
SETTINGS: Final = {
    "search_path": "storage,public,extensions",
    "statement_timeout": "30000",  # ms
    # The functions' own statements are few and exact: planning them anew costs more
    # than a plan for the values at hand could save.
    "plan_cache_mode": "force_generic_plan",
}
PREPARE: Final = "; ".join(f"set {name} = {value}" for name, value in SETTINGS.items())
OPTIONS: Final = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
READING_SHARE: Final = 3  # one connection in so many is for shared questions

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


def calling(function: str, arguments: int) -> str:
    """Return the call of a ``_storage`` function: eight settings, then arguments.

    The settings travel one by one: asyncpg looks into every element of a list.
    """
    settings = ", ".join(f"${n}::text" for n in range(1, 9))
    rest = "".join(f", ${n}" for n in range(9, 9 + arguments))
    return f"_storage.{function}(array[{settings}]{rest})"


class Connections:
    """Up to ``limit`` connections as supabase_storage_admin, and two at least."""

    def __init__(self, project: ServedProject, limit: int) -> None:
        self._project = project
        readers = max(1, limit // READING_SHARE)
        self._limit = max(1, limit - readers)
        self._readers = readers
        self._questions: Questions | None = None
        self._open = 0
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._least_idle = 0
        self._trimming: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give every idle connection back."""
        if self._questions is not None:
            self._questions.close()
            self._questions = None
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
        if self._returning:
            await asyncio.wait(self._returning)
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._drop(connection)

    async def row(self, statement: str, *args: Any) -> asyncpg.Record:
        """Run one statement in its own transaction and return its one row."""
        # Written out: a context manager costs a tenth of a small request.
        connection = self._take_idle() or await self._take()
        try:
            record = await connection.fetchrow(statement, *args)
        except FAILURES as exc:
            raise _refusal_of(exc) from exc
        finally:
            self._give(connection)
        assert record is not None, statement
        return record

    async def text(self, statement: str, *args: str) -> bytes | None:
        """Run a statement that changes nothing; return its one row's first column."""
        questions = self._questions or self._open_questions()
        return await questions.text(statement, *args)

    def _open_questions(self) -> Questions:
        # Loaded on first use: the first answer of a server comes 0.1 s earlier.
        from harness.servers.storage.questions import Questions

        conninfo = f"{self._project.database.dsn(LOGIN)} options='{OPTIONS}'"
        self._questions = Questions(conninfo, limit=self._readers, idle_s=IDLE_S)
        return self._questions

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
    ) -> AsyncIterator[Connection]:
        """Open a transaction as the caller, or as service_role for ``service``."""
        scope = calling("as_service" if service else "as_caller", 0)
        async with self.connection() as connection, connection.transaction():
            await connection.fetchval(f"select {scope}", *settings)
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; PostgreSQL's errors leave as refusals."""
        connection = self._take_idle() or await self._take()
        try:
            yield connection
        except FAILURES as exc:
            raise _refusal_of(exc) from exc
        finally:
            self._give(connection)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            self._least_idle = min(self._least_idle, len(self._idle))
            if not connection.is_closed():
                return connection
            self._drop_later(connection)
        return None

    async def _take(self) -> Connection:
        """Open a connection, or wait until one is given back."""
        while self._open >= self._limit:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                handed = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._pass_on(waiter.result())
                raise
            if handed is not None:
                return handed
        self._open += 1
        try:
            return await self._opened()
        except BaseException as exc:
            self._open -= 1
            self._pass_on(None)
            if isinstance(exc, FAILURES):
                raise _refusal_of(exc) from exc
            raise

    async def _opened(self) -> Connection:
        pool = await self._project.pool(LOGIN)
        connection: Connection = await pool.acquire()
        try:
            await connection.execute(PREPARE)
        except BaseException:
            # Whoever waited is gone, or the connection is broken: a pool that misses
            # one of its own could never be closed.
            with suppress(*FAILURES):
                await pool.release(connection)
            raise
        return connection

    def _give(self, connection: Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            self._drop_later(connection)
            return
        self._pass_on(connection)

    def _pass_on(self, connection: Connection | None) -> None:
        """Hand a connection, or the right to open one, to whoever waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            return
        self._idle.append(connection)
        if self._trimming is None:
            loop = asyncio.get_running_loop()
            self._trimming = loop.call_later(IDLE_S, self._trim, loop)

    def _trim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of what nobody needed since the last time."""
        unused = self._idle[: self._least_idle]
        self._idle = self._idle[self._least_idle :]
        self._trimming = None
        for connection in unused:
            self._drop_later(connection)
        self._least_idle = len(self._idle)
        if self._idle:
            self._trimming = loop.call_later(IDLE_S, self._trim, loop)

    def _drop_later(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._drop(connection))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _drop(self, connection: Connection) -> None:
        pool = await self._project.pool(LOGIN)
        # A broken connection cannot be reset: the pool has dropped it by itself.
        with suppress(*FAILURES):
            await pool.release(connection)
        self._open -= 1
        self._pass_on(None)


def _refusal_of(exc: BaseException) -> errors.StorageError:
    if isinstance(exc, asyncpg.PostgresError):
        return errors.from_postgres(exc)
    # The connection broke under the statement, or could not be made.
    return errors.database_timeout()
