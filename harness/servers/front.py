"""The first bytes of a connection: WebSockets to Realtime, the rest to aiohttp.

A connection whose first request is ``GET .../realtime/v1/websocket`` with an Upgrade
header belongs to Realtime for good, without an HTTP request object in between.  Any
other connection is handed to aiohttp's protocol as soon as its request line shows that
it is not one, so that aiohttp's own limits and time-outs hold for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import cast
from urllib.parse import parse_qsl

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from harness.servers.gateway import ABSOLUTE_FORM, locate
from harness.servers.hosting import HostedProject, ProjectRegistry, RealtimeSockets

__all__ = ["Front", "FrontFactory", "parse_upgrade"]

logger = logging.getLogger(__name__)

HEAD_LIMIT_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 60.0
SOCKET_PATH = "/realtime/v1/websocket"
METHOD = b"GET "
REQUEST_LINE = re.compile(r"GET (\S+) HTTP/1\.1")
HEADER_LINE = re.compile(r"([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*", re.ASCII)


class FrontFactory:
    """Makes the protocol of each new connection and knows those still undecided."""

    def __init__(self, server: Server, registry: ProjectRegistry) -> None:
        self.server = server
        self.registry = registry
        self.undecided: set[Front] = set()
        self.websockets = 0

    def __call__(self) -> Front:
        """Return the protocol for a new connection."""
        return Front(self)

    def close(self) -> None:
        """Close the connections that have not said what they want."""
        for front in list(self.undecided):
            front.close()


class Front(asyncio.Protocol):
    """Reads as much of the first head as tells whose connection this is."""

    def __init__(self, factory: FrontFactory) -> None:
        self._factory = factory
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first bytes."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._factory.undecided.add(self)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HEAD_TIMEOUT_S, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._decided()
        if self._opening is not None:
            self._opening.cancel()

    def data_received(self, data: bytes) -> None:
        """Collect the head until it is clear who takes the connection."""
        self._buffer += data
        if self._opening is None and not self._wants_more():
            self._choose()

    def close(self) -> None:
        """Drop the connection: it was too slow, or the server stops."""
        if self._transport is not None:
            self._transport.close()

    def _wants_more(self) -> bool:
        buffer = self._buffer
        if len(buffer) > HEAD_LIMIT_BYTES:
            return False
        if not buffer.startswith(METHOD[: len(buffer)]):
            return False
        line_end = buffer.find(b"\r\n")
        if line_end < 0:
            return True
        return bool(_socket_target(buffer[:line_end])) and b"\r\n\r\n" not in buffer

    def _choose(self) -> None:
        upgrade = parse_upgrade(self._buffer)
        if upgrade is None:
            self._hand_to_http()
            return
        target, headers = upgrade
        path, _, query = target.partition("?")
        hosted = locate(self._factory.registry, path, headers.get("host", ""))[0]
        if hosted is None:
            self._hand_to_http()
            return
        assert self._transport is not None
        self._transport.pause_reading()
        arguments = dict(parse_qsl(query, keep_blank_values=True))
        self._opening = asyncio.get_running_loop().create_task(
            self._hand_to_realtime(hosted, path, arguments, headers)
        )

    def _hand_to_http(self) -> None:
        assert self._transport is not None
        self._decided()
        handler: RequestHandler = self._factory.server()
        self._transport.set_protocol(handler)
        handler.connection_made(self._transport)
        handler.data_received(self._buffer)
        self._buffer = b""

    async def _hand_to_realtime(
        self,
        hosted: HostedProject,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
    ) -> None:
        transport = self._transport
        assert transport is not None
        # The CLI's gateway translates the keys of a socket in its query.
        for values, name in ((query, "apikey"), (headers, "x-api-key")):
            if name in values:
                values[name] = hosted.api_keys.token(values[name])
        try:
            sockets: RealtimeSockets = await hosted.sockets()
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            protocol = sockets.websocket(transport, head + b"\r\n\r\n", query, headers)
        except Exception:
            # Nobody awaits this task: the fault is logged here, the client is cut off.
            logger.exception("a WebSocket for %s could not be opened", path)
            transport.abort()
            return
        self._decided()
        self._factory.websockets += 1
        transport.set_protocol(protocol)
        with contextlib.suppress(RuntimeError):  # the handshake may have closed it
            transport.resume_reading()
        if rest:
            protocol.data_received(rest)
        peer = transport.get_extra_info("peername")
        remote = peer[0] if peer else None
        hosted.project.record("realtime", "websocket", path=path, remote=remote)

    def _decided(self) -> None:
        self._factory.undecided.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _socket_target(line: bytes) -> str:
    """Return the target if the request line asks for the socket, else ''."""
    request = REQUEST_LINE.fullmatch(line.decode("latin-1"))
    if request is None:
        return ""
    target = ABSOLUTE_FORM.sub("", request[1], count=1)
    return target if target.partition("?")[0].endswith(SOCKET_PATH) else ""


def parse_upgrade(buffer: bytes) -> tuple[str, dict[str, str]] | None:
    """Return (target, lower-case headers) of a complete WebSocket request."""
    head, blank, _ = buffer.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    target = _socket_target(line.encode("latin-1"))
    if not (blank and target):
        return None
    headers: dict[str, str] = {}
    for text in lines:
        header = HEADER_LINE.fullmatch(text)
        if header is None:
            return None  # aiohttp refuses a broken head in its own words
        headers[header[1].lower()] = header[2]
    return (
        (target, headers) if headers.get("upgrade", "").lower() == "websocket" else None
    )
