"""A TCP proxy that does to connections what networks do.

Each direction of a connection is a pump: one task reads and stamps every chunk with the
time at which it is due, another writes it then.  Latency so delays bytes and does not
slow them down, and order is kept.  Conditions may change at any time and hold for the
bytes that are read from then on; a black hole also holds back what is under way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from random import Random
from types import TracebackType
from typing import Any, Self

__all__ = ["LinkConditions", "TcpProxy"]

CHUNK_BYTES = 65536
QUEUE_CHUNKS = 64  # what is under way; beyond it the sender feels back-pressure
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger on, for 0 s: close sends RST


@dataclass(frozen=True, slots=True)
class LinkConditions:
    """The state of a link; the default is a good one.

    ``latency_s`` may vary by ``jitter_s`` either way, ``bytes_per_s`` 0 is unlimited.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    is_blackhole: bool = False
    is_refusing: bool = False


class TcpProxy:
    """Listens on loopback and passes connections on to ``host``:``port``.

    ``async with TcpProxy(host, port, seed=1) as proxy`` starts it; clients connect to
    ``proxy.port``.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self._upstream = (host, port)
        self._random = Random(seed)
        self._conditions = LinkConditions()
        self._is_passing = asyncio.Event()
        self._is_passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.host = "127.0.0.1"
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def conditions(self) -> LinkConditions:
        """The conditions that hold now."""
        return self._conditions

    def set_conditions(self, conditions: LinkConditions) -> None:
        """Let ``conditions`` hold from now on."""
        self._conditions = conditions
        if conditions.is_blackhole:
            self._is_passing.clear()
        else:
            self._is_passing.set()

    @asynccontextmanager
    async def changed(self, **conditions: Any) -> AsyncIterator[LinkConditions]:
        """Change some conditions while the block runs, then put them back."""
        before = self._conditions
        self.set_conditions(replace(before, **conditions))
        try:
            yield self._conditions
        finally:
            self.set_conditions(before)

    def cut(self, *, reset: bool = False) -> int:
        """Close every connection (``reset``: with RST); returns how many there were."""
        count = len(self._writers) // 2
        for writer in list(self._writers):
            if reset:
                _linger_zero(writer)
            writer.transport.abort()
        return count

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._conditions.is_refusing:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()  # the client sees what it would see without us
            return
        await self._join((reader, writer), upstream)

    async def _join(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        writers = (client[1], upstream[1])
        self._writers.update(writers)
        try:
            await asyncio.gather(
                self._pump(client[0], upstream[1]), self._pump(upstream[0], client[1])
            )
        finally:
            self._writers.difference_update(writers)
            for writer in writers:
                writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(reader, under_way))
            group.create_task(self._write(under_way, writer))

    async def _read(
        self,
        reader: asyncio.StreamReader,
        under_way: asyncio.Queue[tuple[float, bytes]],
    ) -> None:
        loop = asyncio.get_running_loop()
        due_s = 0.0
        data = b"."
        while data:
            try:
                data = await reader.read(CHUNK_BYTES)
            except OSError:
                data = b""  # a reset ends the stream as an end of file does
            # Bytes never overtake each other, whatever the jitter says.
            due_s = max(due_s, loop.time() + self._draw_latency_s())
            if self._conditions.bytes_per_s:
                due_s += len(data) / self._conditions.bytes_per_s
            await under_way.put((due_s, data))

    async def _write(
        self,
        under_way: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        is_open = True
        data = b"."
        while data:
            due_s, data = await under_way.get()
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await self._is_passing.wait()
            if is_open:
                is_open = await _deliver(writer, data)

    def _draw_latency_s(self) -> float:
        conditions = self._conditions
        spread_s = self._random.uniform(-conditions.jitter_s, conditions.jitter_s)
        return max(0.0, conditions.latency_s + spread_s)


async def _deliver(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Write ``data`` (empty: the end); returns whether the peer still listens."""
    try:
        if data:
            writer.write(data)
            await writer.drain()
        elif writer.can_write_eof():
            writer.write_eof()
    except (OSError, RuntimeError):
        return False  # the peer is gone; what it would have read is read to the end
    return True


def _linger_zero(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):  # closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
