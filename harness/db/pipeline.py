"""Connections that send a whole transaction in one write: libpq's pipeline mode.

A request of the REST service is two or three statements that never wait for each
other.  Sent as one batch they cost one round trip and form one implicit transaction,
which PostgreSQL ends at the batch's sync point.  Statements are prepared once per
connection and *scope*; the scope is the database role, because PostgreSQL checks some
privileges (use of a schema, inlined functions) when it parses and plans, so a statement
prepared as one role must not serve another.

Libpq decides and parses; this module waits, on asyncio's readiness callbacks.  Where
several batches go out together, all but the last end with a sync point that does not
flush, which libpq has since version 17 and psycopg does not show.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias, cast

import psycopg
from psycopg import pq

from harness.errors import HarnessError, StackError

__all__ = [
    "Batch",
    "ConnectionLostError",
    "Pipeline",
    "PipelinePool",
    "PoolTimeoutError",
    "Statement",
    "StatementError",
]

MAX_PREPARED = 400  # statements a connection keeps; the least recently used go first
ACQUIRE_TIMEOUT_S = 10.0
IDLE_S = 30.0

_ROWS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)


class StatementError(HarnessError):
    """PostgreSQL refused a statement; the fields are those of its error report."""

    def __init__(
        self, sqlstate: str, message: str, *, detail: str | None, hint: str | None
    ) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate
        self.detail = detail


class ConnectionLostError(StackError):
    """The connection to PostgreSQL broke or could not be made.

    ``reused`` says that it had served before, and so may have been dead for long.
    """

    def __init__(
        self, message: str, *, service: str | None = None, reused: bool = False
    ) -> None:
        super().__init__(message, service=service)
        self.reused = reused


class PoolTimeoutError(StackError):
    """No connection became free in time."""


class Statement(NamedTuple):
    """SQL with ``$1``-style parameters, whose values are text in the client encoding.

    ``keep`` prepares it for reuse; a statement of one use is sent unnamed.
    """

    sql: str
    params: Sequence[bytes | None] = ()
    keep: bool = True


def _find_unflushed_sync() -> Callable[[int | None], int] | None:
    """Return libpq's ``PQsendPipelineSync``, or None where it cannot be had."""
    try:
        # Among the libraries that the extension module is linked with.
        library = ctypes.CDLL(sys.modules[pq.PGconn.__module__].__file__)
        function = library.PQsendPipelineSync
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p]
    function.restype = ctypes.c_int
    return cast("Callable[[int | None], int]", function)


_sync_unflushed = _find_unflushed_sync()

# What a coming result is for: True, a statement's own; a key, its preparation; None,
# the closing of an old one.
_Kind: TypeAlias = "tuple[str, str] | bool | None"


class Batch:
    """Statements sent together; ``done`` gets one result for each, or an error.

    A batch without ``BEGIN`` is one transaction, also where others go before and after
    it in the same write.
    """

    __slots__ = ("done", "kinds", "results", "scope", "statements")

    def __init__(
        self,
        statements: Sequence[Statement],
        scope: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.statements = statements
        self.scope = scope
        self.done: asyncio.Future[list[pq.abc.PGresult]] = loop.create_future()
        self.kinds: list[_Kind] = []
        self.results: list[pq.abc.PGresult] = []


class Pipeline:
    """One connection in pipeline mode, used by one task or one set of batches."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._loop = asyncio.get_running_loop()
        self._fd = self._pgconn.socket
        self._prepared: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._named = 0
        self._closing = 0  # statements whose end was asked for and not yet told
        self._batches: deque[Batch] = deque()
        self.generation = 0
        self.lost = False
        self.used_before = False
        self.on_notify: Callable[[str], None] | None = None
        self.on_batch: Callable[[Pipeline, Batch], None] | None = None
        self._loop.add_reader(self._fd, self._readable)

    @classmethod
    async def connect(cls, conninfo: str) -> Pipeline:
        """Open a connection; raises :class:`ConnectionLostError`."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True, client_encoding="UTF8"
            )
        except psycopg.OperationalError as exc:
            raise ConnectionLostError(str(exc).strip(), service="postgres") from exc
        return cls(connection)

    async def run(
        self, statements: Sequence[Statement], *, scope: str = ""
    ) -> list[pq.abc.PGresult]:
        """Run ``statements`` as one batch and return one result for each.

        The first error raises :class:`StatementError` after the batch is over; those
        behind it did not run.  A batch without ``BEGIN`` is one transaction.
        """
        batch = Batch(statements, scope, self._loop)
        self.start((batch,))
        try:
            return await batch.done
        except asyncio.CancelledError:
            # Results of the abandoned batch are still to come: unusable from here on.
            self.close()
            raise

    def start(self, batches: Sequence[Batch]) -> None:
        """Send ``batches`` in one write; ``on_batch`` hears of the end of each."""
        self._batches.extend(batches)
        try:
            for batch in batches:
                self._send(batch, last=batch is batches[-1])
            if self._pgconn.flush():
                self._loop.add_writer(self._fd, self._writable)
        except psycopg.OperationalError as exc:
            self.close(str(exc).strip())

    def has_prepared(self, batch: Batch) -> bool:
        """Whether nothing of ``batch`` has to be prepared before it can run."""
        return all(
            (batch.scope, statement.sql) in self._prepared
            for statement in batch.statements
        )

    def forget(self, generation: int) -> None:
        """Prepare everything anew from here on: the schema has changed."""
        self.generation = generation
        for name in self._prepared.values():
            self._pgconn.send_close_prepared(name)
        self._closing += len(self._prepared)
        self._prepared.clear()

    def loop_time_s(self) -> float:
        """Return the time by the clock of the connection's loop."""
        return self._loop.time()

    @property
    def in_transaction(self) -> bool:
        """Whether a ``BEGIN`` is still open, failed or not."""
        return self._pgconn.transaction_status != pq.TransactionStatus.IDLE

    def close(self, why: str = "connection closed") -> None:
        """Close the connection at once, whatever it is doing."""
        if not self.lost:
            self.lost = True
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._pgconn.finish()
        batches, self._batches = self._batches, deque()
        for batch in batches:
            if not batch.done.done():
                lost = ConnectionLostError(
                    why, service="postgres", reused=self.used_before
                )
                batch.done.set_exception(lost)
            if self.on_batch is not None:
                self.on_batch(self, batch)

    def _send(self, batch: Batch, *, last: bool) -> None:
        pgconn = self._pgconn
        kinds = batch.kinds
        if self._closing:
            kinds += [None] * self._closing
            self._closing = 0
        scope = batch.scope
        for statement in batch.statements:
            if not statement.keep:
                pgconn.send_query_params(statement.sql.encode(), statement.params)
                kinds.append(True)
                continue
            key = (scope, statement.sql)
            name = self._prepared.get(key)
            if name is None:
                name = self._prepare(key, kinds)
            else:
                self._prepared.move_to_end(key)
            pgconn.send_query_prepared(name, statement.params)
            kinds.append(True)
        if last or _sync_unflushed is None:
            pgconn.pipeline_sync()
            return
        # Asked for anew each time: it is None once the connection is finished.
        address: int | None = pgconn.pgconn_ptr  # type: ignore[attr-defined]
        if not _sync_unflushed(address):
            pgconn.pipeline_sync()

    def _prepare(self, key: tuple[str, str], kinds: list[_Kind]) -> bytes:
        if len(self._prepared) >= MAX_PREPARED:
            _, oldest = self._prepared.popitem(last=False)
            self._pgconn.send_close_prepared(oldest)
            kinds.append(None)
        self._named += 1
        name = b"p%d" % self._named
        self._pgconn.send_prepare(name, key[1].encode())
        kinds.append(key)
        self._prepared[key] = name
        return name

    def _settle(self, batch: Batch) -> None:
        """Tell a batch how it ended, if anybody still waits for it."""
        rows: list[pq.abc.PGresult] = []
        failure: pq.abc.PGresult | None = None
        kinds, results = batch.kinds, batch.results
        for kind, result in zip(kinds, results, strict=False):
            good = result.status in _ROWS
            if isinstance(kind, tuple) and not good:
                self._prepared.pop(kind, None)
            if kind is True and good:
                rows.append(result)
            if not good and failure is None:
                failure = result
        if failure is None and len(results) > len(kinds):
            # An error at the sync point itself: a deferred constraint.
            failure = results[-1]
        if batch.done.done():
            return
        if failure is None:
            batch.done.set_result(rows)
        else:
            batch.done.set_exception(_statement_error(failure))

    def _readable(self) -> None:
        pgconn, batches = self._pgconn, self._batches
        try:
            pgconn.consume_input()
            if not batches:
                # Nothing is asked: a notification, or the server said goodbye.
                pgconn.is_busy()
                self._notified()
                return
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    continue
                if result.status != pq.ExecStatus.PIPELINE_SYNC:
                    batches[0].results.append(result)
                    continue
                batch = batches.popleft()
                self._settle(batch)
                if not batches:
                    self._notified()
                if self.on_batch is not None:
                    self.on_batch(self, batch)
                if self.lost or not batches:
                    return
        except psycopg.OperationalError as exc:
            self.close(str(exc).strip())

    def _notified(self) -> None:
        while (notice := self._pgconn.notifies()) is not None:
            if self.on_notify is not None:
                self.on_notify(notice.extra.decode("utf-8", "replace"))

    def _writable(self) -> None:
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(self._fd)
        except psycopg.OperationalError:
            # The reader sees the same failure and reports it to whoever waits.
            self._loop.remove_writer(self._fd)


class PipelinePool:
    """Connections of one login, opened on demand and closed when idle."""

    def __init__(
        self,
        conninfo: str,
        *,
        max_size: int = 10,
        idle_s: float = IDLE_S,
        acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
    ) -> None:
        self._conninfo = conninfo
        self._max_size = max_size
        self._idle_s = idle_s
        self._acquire_timeout_s = acquire_timeout_s
        self._size = 0
        self._idle: list[tuple[Pipeline, float]] = []
        self._busy: set[Pipeline] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False
        self.generation = 0

    @property
    def contended(self) -> bool:
        """Whether somebody waits for a connection."""
        return bool(self._waiting)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Pipeline]:
        """Lend a connection; one that broke or was left mid-transaction is closed."""
        pipeline = await self.acquire()
        try:
            yield pipeline
        finally:
            self.release(pipeline)

    async def acquire(self) -> Pipeline:
        """Take a connection, waiting for one if all are in use."""
        while True:
            if (pipeline := self.take()) is not None:
                return pipeline
            if self._closed:
                raise ConnectionLostError("the pool is closed", service="postgres")
            if self._size < self._max_size:
                return await self._open()
            await self._wait()

    def take(self) -> Pipeline | None:
        """Take a connection if one is free."""
        while self._idle:
            pipeline, _ = self._idle.pop()
            if not pipeline.lost:
                self._busy.add(pipeline)
                pipeline.used_before = True
                if pipeline.generation != self.generation:
                    pipeline.forget(self.generation)
                return pipeline
            self._size -= 1
        return None

    def release(self, pipeline: Pipeline) -> None:
        """Give a connection back."""
        self._busy.discard(pipeline)
        if self._closed:
            pipeline.close()
        if not pipeline.lost and pipeline.in_transaction:
            pipeline.close()  # nobody may inherit somebody's transaction
        if pipeline.lost:
            self._size -= 1
        else:
            self._idle.append((pipeline, pipeline.loop_time_s()))
            if self._reaper is None:
                self._schedule_reaper()
        if self._waiting:
            self._wake_next()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses: the server has lost them too."""
        for pipeline, _ in self._idle:
            pipeline.close()
        self._size -= len(self._idle)
        self._idle.clear()

    def close(self) -> None:
        """Close every connection, those in use included."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        self.drop_idle()
        for pipeline in list(self._busy):
            pipeline.close()
        while self._waiting:
            self._wake_next()

    async def _open(self) -> Pipeline:
        self._size += 1
        try:
            pipeline = await Pipeline.connect(self._conninfo)
        except BaseException:
            self._size -= 1
            self._wake_next()
            raise
        pipeline.generation = self.generation
        self._busy.add(pipeline)
        return pipeline

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._acquire_timeout_s):
                await waiter
        except TimeoutError as exc:
            raise PoolTimeoutError(
                f"no connection was free after {self._acquire_timeout_s:.0f} s",
                service="postgres",
            ) from exc
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _wake_next(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _schedule_reaper(self) -> None:
        loop = asyncio.get_running_loop()
        self._reaper = loop.call_later(self._idle_s, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        oldest = asyncio.get_running_loop().time() - self._idle_s
        kept: list[tuple[Pipeline, float]] = []
        for pipeline, since in self._idle:
            if pipeline.lost or since <= oldest:
                pipeline.close()
                self._size -= 1
            else:
                kept.append((pipeline, since))
        self._idle = kept
        if kept:
            self._schedule_reaper()


def _statement_error(result: pq.abc.PGresult) -> StatementError:
    def text(field: pq.DiagnosticField) -> str | None:
        value = result.error_field(field)
        return None if value is None else value.decode("utf-8", "replace")

    message = text(pq.DiagnosticField.MESSAGE_PRIMARY)
    if message is None:
        message = result.error_message.decode("utf-8", "replace").strip()
    return StatementError(
        text(pq.DiagnosticField.SQLSTATE) or "08006",
        message,
        detail=text(pq.DiagnosticField.MESSAGE_DETAIL),
        hint=text(pq.DiagnosticField.MESSAGE_HINT),
    )
