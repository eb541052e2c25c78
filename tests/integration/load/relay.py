"""A WebSocket relay that spoils what passes, to see whether the load notices.

It stands between real clients and the real server and understands just enough of the
server's frames to tell them apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from harness.load.probe import read_probe

__all__ = ["Probe", "RelayedClient", "SpoilingRelay"]

Spoil = Callable[["RelayedClient", bytes, "Probe"], None]


class Probe(NamedTuple):
    """What a message says of itself."""

    stream: int
    sequence: int
    intended_ns: int


class RelayedClient:
    """One client of the relay; ``kept`` is for whatever a spoiler holds back."""

    def __init__(self, relay: SpoilingRelay, writer: asyncio.StreamWriter) -> None:
        self.relay = relay
        self.writer = writer
        self.kept = b""

    @property
    def index(self) -> int:
        """Which client this is, in the order of connecting."""
        return self.relay.clients.index(self)

    def deliver(self, frame: bytes) -> None:
        """Pass a frame on to this client."""
        self.writer.write(frame)


class SpoilingRelay:
    """Passes everything on, but calls ``spoil(client, frame, probe)`` for messages."""

    def __init__(self, port: int, spoil: Spoil) -> None:
        self._upstream = port
        self._spoil = spoil
        self.clients: list[RelayedClient] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for client in self.clients:
            client.writer.close()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = RelayedClient(self, writer)
        self.clients.append(client)
        up_reader, up_writer = await asyncio.open_connection(
            "127.0.0.1", self._upstream
        )
        forth = asyncio.create_task(_copy(reader, up_writer))
        try:
            writer.write(await up_reader.readuntil(b"\r\n\r\n"))
            while frame := await _read_frame(up_reader):
                probe = read_probe(frame)
                if probe is None:
                    writer.write(frame)
                else:
                    self._spoil(client, frame, Probe(*probe))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side is gone, as it may be at any time
        finally:
            forth.cancel()
            up_writer.close()
            writer.close()


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    extra = {126: 2, 127: 8}.get(head[1], 0)
    wide = await reader.readexactly(extra)
    length = int.from_bytes(wide) if extra else head[1]
    return head + wide + await reader.readexactly(length)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
