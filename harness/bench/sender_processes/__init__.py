"""Bare processes that write frames to sockets, to see what more of them could win.

They do the least that any Realtime server must: one write of ready frames to each
connection.  What two of them do not gain over one, no division of the service can.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

from harness.errors import StackError
from harness.load.cpu import tree_cpu_s

__all__ = ["FRAME", "Senders", "open_senders"]

FRAME = b"\x82\x7e\x00\xa0" + bytes(160)  # as large as the broadcasts that are measured
HOST = "127.0.0.1"
STOP_TIMEOUT_S = 5.0


class _Listener(asyncio.Protocol):
    """Counts what comes, for all connections together."""

    def __init__(self, senders: Senders) -> None:
        self._senders = senders

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._senders.transports.append(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._senders.take(len(data))


class Senders:
    """Running sender processes and the connections that listen to them."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.transports: list[asyncio.Transport] = []
        self._missing_bytes = 0
        self._complete = asyncio.Event()

    async def start(self, processes: int, connections: int) -> None:
        """Start the processes and spread the connections over them."""
        loop = asyncio.get_running_loop()
        for number in range(processes):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "harness.bench.sender_processes"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self.processes.append(process)
            assert process.stdout is not None
            port = await process.stdout.readline()
            if not port:
                raise StackError("a sender process did not start", service="bench")
            share = range(number, connections, processes)
            for _ in share:
                await loop.create_connection(lambda: _Listener(self), HOST, int(port))

    async def stop(self) -> None:
        """End the processes."""
        for transport in self.transports:
            transport.close()
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()

    async def send(self, frames: int) -> None:
        """Let every connection get ``frames`` frames in one write; wait for them."""
        self._missing_bytes = frames * len(FRAME) * len(self.transports)
        self._complete.clear()
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(b"%d\n" % frames)
        await self._complete.wait()

    def take(self, count: int) -> None:
        """Count received bytes."""
        self._missing_bytes -= count
        if not self._missing_bytes:
            self._complete.set()

    def cpu_s(self) -> float:
        """Return the CPU seconds that the processes have used."""
        return tree_cpu_s([process.pid for process in self.processes])


@asynccontextmanager
async def open_senders(processes: int, connections: int) -> AsyncIterator[Senders]:
    """Run senders for as long as the context lasts."""
    async with AsyncExitStack() as stack:
        senders = Senders()
        stack.push_async_callback(senders.stop)
        await senders.start(processes, connections)
        yield senders
