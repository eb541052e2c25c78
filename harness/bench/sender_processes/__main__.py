"""One sender process: prints its port, then writes as often as its input says."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from harness.bench.sender_processes import FRAME, HOST


class _Sender(asyncio.Protocol):
    """A connection to write to."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(cast(asyncio.Transport, transport))


async def main() -> None:
    """Serve until the input ends."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    server = await loop.create_server(lambda: _Sender(transports), HOST, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while order := await orders.readline():
        data = FRAME * int(order)
        for transport in transports:
            transport.write(data)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
