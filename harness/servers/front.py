"""The connections of the one port: plain requests here, sockets to Realtime.

A request that :mod:`harness.servers.heads` understands is answered on the spot, with
as little between socket and gateway as HTTP allows.  ``GET .../realtime/v1/websocket``
with an Upgrade header makes the connection Realtime's for good, be it the first request
on it or not.  Any other request (a chunked body, an older version, a broken head) hands
the connection to aiohttp's protocol, whose limits and words hold from there on; it only
comes back for a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from harness.servers.exchange import READ_AHEAD_BYTES, PlainRequest, send_answer
from harness.servers.gateway import locate
from harness.servers.heads import HEAD_LIMIT_BYTES, Head, Heads, begins_a_head
from harness.servers.hosting import HostedProject, ProjectRegistry, RealtimeSockets
from harness.servers.upgrades import SOCKET_PATH, Upgrade, Upgrades, is_socket_line

if TYPE_CHECKING:
    import ssl

__all__ = ["Front", "FrontFactory"]

logger = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HEAD_TIMEOUT_S: Final = 60.0  # for the first request
KEEPALIVE_S: Final = 75.0  # for the next one, from the end of the answer before
LINGER_S: Final = 10.0  # for the rest of a body that the answer did not wait for
SOCKET_MARK = SOCKET_PATH.encode()


class FrontFactory:
    """Makes the protocol of each new connection and knows those it still has."""

    def __init__(
        self, server: Server, registry: ProjectRegistry, handle: Handler
    ) -> None:
        self.server = server
        server.request_handler = self._answer_unusual
        self.registry = registry
        self.handle = handle
        self.heads = Heads()
        self.upgrades = Upgrades()
        self.fronts: set[Front] = set()
        self.websockets = 0

    def __call__(self) -> Front:
        """Return the protocol for a new connection."""
        return Front(self, asyncio.get_running_loop())

    async def _answer_unusual(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that aiohttp read; one for a socket ends its reading."""
        if SOCKET_PATH in request.path and request._message.upgrade:
            head = _head_of(request)
            upgrade = self.upgrades.parse(head)
            host = request.headers.get("Host", "")
            if upgrade and locate(self.registry, upgrade.path, host)[0] is not None:
                self._take_back(request, head)
                # aiohttp's task has nothing left to answer to.
                raise asyncio.CancelledError
        return await self.handle(request)

    def _take_back(self, request: web.BaseRequest, head: bytes) -> None:
        handler, transport = request.protocol, request.transport
        if handler is None or transport is None:
            return  # the client went away
        behind = handler._message_tail
        handler.transport = None  # what has lost its connection would close it
        handler.connection_lost(None)
        front = self()
        transport.set_protocol(front)
        front.connection_made(transport)
        front.data_received(head + behind)

    async def shutdown(self, grace_s: float) -> None:
        """Close the connections; answers under way may end within ``grace_s``."""
        for front in list(self.fronts):
            front.stop()
        answering = [front.answering for front in self.fronts if front.answering]
        if answering:
            await asyncio.wait(answering, timeout=grace_s)
        for front in list(self.fronts):
            front.abort()


class Front(BaseProtocol):
    """Reads requests one after the other and has each answered before the next."""

    def __init__(self, factory: FrontFactory, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._factory = factory
        self._buffer = b""
        self._owed = 0  # bytes of the current body that have not come yet
        self._payload: StreamReader | None = None
        self._request: PlainRequest | None = None
        self._held = False  # reading is paused until the next request is taken
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._idle_since_s = 0.0
        self._patience_s = HEAD_TIMEOUT_S
        self.answering: asyncio.Task[None] | None = None
        self._peername: Any = None
        self._sockname: Any = None
        self.ssl_context: ssl.SSLContext | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for the first request."""
        # Not through aiohttp, which sets TCP_NODELAY: event loops have done so.
        self.transport = cast(asyncio.Transport, transport)
        self._factory.fronts.add(self)
        self._idle_since_s = self._loop.time()
        self._timer = self._loop.call_later(self._patience_s, self._look_at_the_time)

    @property
    def peername(self) -> Any:
        """The address of the client, once it was asked for while connected."""
        if self._peername is None and self.transport is not None:
            self._peername = self.transport.get_extra_info("peername")
        return self._peername

    @property
    def sockname(self) -> Any:
        """Our own address, likewise."""
        if self._sockname is None and self.transport is not None:
            self._sockname = self.transport.get_extra_info("sockname")
        return self._sockname

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection; whoever still reads from it hears of the end."""
        super().connection_lost(exc)
        self._leave()
        if self._request is not None:
            self._request._cancel(exc or ConnectionResetError("Connection lost"))
        elif self.answering is not None:
            self.answering.cancel()  # a socket that was being opened

    def data_received(self, data: bytes) -> None:
        """Take bytes of a body, or of a head."""
        if self._owed:
            data = self._feed(data)
            if not data:
                return
        self._buffer = self._buffer + data if self._buffer else data
        if self.answering is None:
            self._next()
        elif len(self._buffer) > HEAD_LIMIT_BYTES:
            self._held = True
            self._pause_transport_reading()

    def pause_reading(self) -> None:
        """Let no more of a body come: its service is slow."""
        self._reading_paused = True
        self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Let more of a body come."""
        # Readers say so whenever they run low.
        if self._reading_paused:
            self._reading_paused = False
            self._resume_transport_reading()

    def resume_writing(self) -> None:
        """Go on: the client has taken what was sent."""
        super().resume_writing()
        if self.answering is None:
            self._next()

    def stop(self) -> None:
        """Close the connection, after the answer under way if there is one."""
        self._stopping = True
        if self.answering is None:
            self.close()

    def close(self) -> None:
        """Close the connection once all that was written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once, and end what still answers."""
        if self.answering is not None:
            self.answering.cancel()
        if self.transport is not None:
            self.transport.abort()

    def _look_at_the_time(self) -> None:
        """Close the connection if the client let it wait too long."""
        left_s = self._idle_since_s + self._patience_s - self._loop.time()
        if self.answering is None and left_s <= 0:
            self.close()
            return
        delay_s = left_s if left_s > 0 else self._patience_s
        self._timer = self._loop.call_later(delay_s, self._look_at_the_time)

    def _leave(self) -> None:
        self._factory.fronts.discard(self)
        for timer in (self._timer, self._lingering):
            if timer is not None:
                timer.cancel()
        self._timer = self._lingering = None

    def _feed(self, data: bytes) -> bytes:
        """Pass the body's share of ``data`` on and return the rest."""
        part = data if len(data) <= self._owed else data[: self._owed]
        self._owed -= len(part)
        if self._payload is not None:
            self._payload.feed_data(part)
            if not self._owed:
                self._payload.feed_eof()
        elif not self._owed:
            self._answered()
        return data[len(part) :]

    def _next(self) -> None:
        """Take the next request, if it is there."""
        if not self._buffer or self.transport is None or self.writing_paused:
            return
        end = self._buffer.find(b"\r\n\r\n")
        first_line = self._buffer[: self._buffer.find(b"\r\n")]
        if SOCKET_MARK in first_line:
            if end >= 0:
                if self._open_socket(end + 4):
                    return
            elif len(self._buffer) <= HEAD_LIMIT_BYTES and is_socket_line(first_line):
                return
        if end < 0 and begins_a_head(self._buffer):
            return
        head = None
        if 0 <= end <= HEAD_LIMIT_BYTES:
            head = self._factory.heads.parse(self._buffer[: end + 2])
        if head is None:
            self._hand_to_http()
            return
        self._buffer = self._buffer[end + 4 :]
        self._begin(head)

    def _begin(self, head: Head) -> None:
        length = head.fields.length
        body: StreamReader | bytes = EMPTY_PAYLOAD
        if length and len(self._buffer) >= length:
            body, self._buffer = self._buffer[:length], self._buffer[length:]
        elif length:
            body = self._payload = StreamReader(self, READ_AHEAD_BYTES, loop=self._loop)
            self._owed = length
        request = self._request = PlainRequest(head, body, self, self._loop)
        self.answering = self._loop.create_task(self._answer(request))
        if self._owed and self._buffer:
            self._buffer = self._feed(self._buffer)
        if self._held and len(self._buffer) <= HEAD_LIMIT_BYTES:
            self._held = False
            self._resume_transport_reading()

    async def _answer(self, request: PlainRequest) -> None:
        try:
            response = await self._factory.handle(request)
            keep = await send_answer(request, response)
        except asyncio.CancelledError:
            # There will be no answer: the client must not wait for one.
            if self.transport is not None:
                self.transport.abort()
            raise
        except ConnectionError:
            keep = False  # the client went away
        except Exception:
            # Nobody awaits this task: the fault is logged, the answer breaks off.
            logger.exception("request %s broke off", request.request_id)
            keep = False
        self._end(keep=keep and not self._stopping)

    def _end(self, *, keep: bool) -> None:
        self._request = self._payload = None
        if not keep:
            self._stopping = True
        self.resume_reading()
        if self._owed and self.transport is not None:
            # Closing on a client that still sends could lose it the answer.
            self._lingering = self._loop.call_later(LINGER_S, self.close)
        else:
            self._answered()

    def _answered(self) -> None:
        """Turn to the next request: the one before is over, body and answer."""
        self.answering = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._stopping:
            self.close()
            return
        self._idle_since_s = self._loop.time()
        self._patience_s = KEEPALIVE_S
        if self._buffer:
            self._next()

    def _hand_to_http(self) -> None:
        assert self.transport is not None
        transport = self.transport
        self._leave()
        handler: RequestHandler = self._factory.server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(self._buffer)
        if self._held:
            self._resume_transport_reading()
        self._buffer = b""

    def _open_socket(self, end: int) -> bool:
        """Hand a complete WebSocket request to Realtime; False if it is none."""
        upgrade = self._factory.upgrades.parse(self._buffer[:end])
        if upgrade is None:
            return False
        host = upgrade.headers.get("host", "")
        hosted = locate(self._factory.registry, upgrade.path, host)[0]
        if hosted is None:
            return False
        self._buffer = self._buffer[end:]
        sockets = hosted.running_sockets
        if sockets is not None:
            self._hand_to_realtime(sockets, hosted, upgrade)
            return True
        self._pause_transport_reading()
        self.answering = self._loop.create_task(self._start_realtime(hosted, upgrade))
        return True

    async def _start_realtime(self, hosted: HostedProject, upgrade: Upgrade) -> None:
        try:
            sockets = await hosted.sockets()
        except Exception:
            # Nobody awaits this task: the fault is logged here, the client is cut off.
            logger.exception("Realtime could not be started for %s", upgrade.path)
            if self.transport is not None:
                self.transport.abort()
            return
        self._hand_to_realtime(sockets, hosted, upgrade)

    def _hand_to_realtime(
        self, sockets: RealtimeSockets, hosted: HostedProject, upgrade: Upgrade
    ) -> None:
        transport, rest = self.transport, self._buffer
        assert transport is not None
        key, path, query, headers = upgrade
        # The CLI's gateway translates the keys of a socket in its query.
        query = hosted.api_keys.translated(query, "apikey")
        headers = hosted.api_keys.translated(headers, "x-api-key")
        try:
            protocol = sockets.websocket(transport, key, query, headers)
        except Exception:
            # Nobody else would hear of it: logged here, and the client is cut off.
            logger.exception("a WebSocket for %s could not be opened", path)
            transport.abort()
            return
        self._leave()
        self._factory.websockets += 1
        transport.set_protocol(protocol)
        if self.answering is not None:
            with contextlib.suppress(RuntimeError):  # the handshake may have closed it
                transport.resume_reading()
        if rest:
            protocol.data_received(rest)
        remote = self.peername[0] if self.peername else None
        hosted.project.record("realtime", "websocket", path=path, remote=remote)


def _head_of(request: web.BaseRequest) -> bytes:
    """Return the head of a request as it was sent, but for blanks."""
    message = request._message
    lines = [f"{message.method} {message.path} HTTP/1.1".encode("latin-1", "replace")]
    lines += [name + b": " + value for name, value in message.raw_headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
