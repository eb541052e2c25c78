"""When messages arrive, told by the kernel, for measuring latency.

A client of two hundred sockets in one process reads them one after the other: what it
sees of the time is mostly its own queue.  Here the kernel stamps each segment as it
comes to its socket (``SO_TIMESTAMPNS``), however long it lies there.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from harness.load.websocket_client import WebSocketClient, handshake_request

__all__ = ["ArrivalTransport", "Arrivals", "connect_stamped"]

SO_TIMESTAMPNS = 35  # Linux; the socket module does not name it
TIMESPEC = struct.Struct("@qq")
READ_BYTES = 65536
ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)


class Arrivals:
    """``last_s`` is when what is being read came, in Unix seconds."""

    def __init__(self) -> None:
        self.last_s = 0.0

    def stamp(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Take the time from a socket's control messages, or from the clock."""
        self.last_s = time.time()
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = TIMESPEC.unpack(data)
                self.last_s = seconds + nanoseconds * 1e-9


class ArrivalTransport(asyncio.Transport):
    """A connected socket whose reads are stamped; it sends little, and at once."""

    def __init__(
        self, connected: socket.socket, protocol: asyncio.Protocol, arrivals: Arrivals
    ) -> None:
        super().__init__()
        self._socket = connected
        self._protocol = protocol
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        protocol.connection_made(self)
        self._loop.add_reader(connected, self._read)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, which must fit the socket's buffer."""
        sent = self._socket.send(data)
        assert sent == len(data), "more than a socket takes at once"

    def close(self) -> None:
        """Close the connection."""
        if not self._is_closing:
            self._is_closing = True
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """Close the connection."""
        self.close()

    def is_closing(self) -> bool:
        """Whether the connection was closed."""
        return self._is_closing

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self.close()
            return
        self._arrivals.stamp(ancillary)
        self._protocol.data_received(data)


async def connect_stamped(
    url: str,
    on_frame: Callable[[int, bytes], None],
    on_lost: Callable[[int], None],
    arrivals: Arrivals,
) -> WebSocketClient:
    """Return an open connection to ``ws://``, its reads stamped in ``arrivals``."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    connected = socket.socket()
    connected.setblocking(False)
    await loop.sock_connect(connected, (parts.hostname or "", parts.port or 80))
    if sys.platform == "linux":
        connected.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    client = WebSocketClient(handshake_request(parts), on_frame, on_lost)
    ArrivalTransport(connected, client, arrivals)
    await client.opened
    return client
