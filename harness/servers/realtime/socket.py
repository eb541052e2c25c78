"""One client's connection: handshake, frames, channels by topic, and back-pressure.

The socket answers the upgrade request itself, reads messages with the sans-IO protocols
and hands each to the channel of its topic.  A client that reads too slowly is told why
and cut; what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.protocols.phoenix import (
    V2,
    BinaryBroadcast,
    MalformedMessageError,
    Message,
    Serializer,
    decode_binary,
    encode_json,
)
from harness.protocols.websocket import (
    OP_BINARY,
    OP_CLOSE,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    VERSION,
    MessageDecoder,
    WebSocketError,
    accept_key,
    encode_close,
    encode_frame,
    parse_close,
)
from harness.servers.realtime.tokens import Identity

if TYPE_CHECKING:
    from harness.servers.realtime.channel import Channel
    from harness.servers.realtime.service import RealtimeService

__all__ = ["RefusingSocket", "Socket"]

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013
WRITE_HIGH_WATER_BYTES = 256 * 1024
HELD_BYTES = 1024 * 1024  # that a client may send while channels wait for the database
KEPT_HEADERS_BYTES = 4 * 1024
TOO_SLOW = "Client reads too slowly: messages are waiting beyond the limit"


class Socket(asyncio.Protocol):
    """A connected client.  ``last_seen_s`` is the service's time of its last frame."""

    __slots__ = (
        "_decoder",
        "_headers",
        "_held_bytes",
        "_waits",
        "channels",
        "closed",
        "congested",
        "empty_since_s",
        "identity",
        "last_seen_s",
        "serializer",
        "service",
        "transport",
        "write",
    )

    def __init__(
        self,
        service: RealtimeService,
        transport: asyncio.Transport,
        key: str,
        serializer: Serializer,
        identity: Identity,
        headers: Mapping[str, str],
    ) -> None:
        self.service = service
        if service.writers is not None:
            transport = service.writers.hand(transport, self)
        self.transport = transport
        self.write = transport.write
        self.serializer = serializer
        self.identity = identity
        self._headers = headers
        self.channels: dict[str, Channel] = {}
        self.closed = False
        self.congested = False
        self._waits = self._held_bytes = 0
        self.last_seen_s = self.empty_since_s = service.now_s
        self._decoder = MessageDecoder(service.settings.max_frame_bytes)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
            % accept_key(key).encode()
        )

    # What the transport tells ---------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Act on every message that ``data`` completes."""
        if self.closed:
            return
        self.last_seen_s = self.service.now_s
        if self._waits:
            self._held_bytes += len(data)
            if self._held_bytes > HELD_BYTES:
                self.transport.pause_reading()
        try:
            for opcode, payload in self._decoder.feed(data):
                self._receive(opcode, payload)
        except WebSocketError as exc:
            self.close(exc.code, str(exc))

    def eof_received(self) -> bool:
        """Close when the client stops sending."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave every channel."""
        self._forget()
        if self.service.writers is not None:
            self.transport.abort()  # its writer is to let go of it as well

    def pause_writing(self) -> None:
        """Note that the client has stopped keeping up."""
        self.congested = True

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self.congested = False

    @property
    def headers_json(self) -> str:
        """What ``request.headers`` holds for policies; equal texts are one object."""
        return _headers_json(self._headers)

    # What channels and the service do -------------------------------------------------

    def begin_wait(self) -> None:
        """Note that a channel keeps its messages for later."""
        self._waits += 1

    def end_wait(self) -> None:
        """Note that a channel has handled what it kept; read on after the last one."""
        self._waits -= 1
        if not self._waits:
            self._held_bytes = 0
            self.transport.resume_reading()

    def send_text(self, text: bytes) -> None:
        """Send one text message."""
        self.send(encode_frame(OP_TEXT, text))

    def send(self, frames: bytes) -> None:
        """Send whole frames."""
        if self.congested:
            self.send_congested(frames)
        elif not self.closed:
            self.write(frames)

    def send_congested(self, frames: bytes) -> None:
        """Queue for a client that does not keep up, or give it up."""
        if self.takes(len(frames)):
            self.write(frames)

    def takes(self, size: int) -> bool:
        """Tell whether so much more may wait for the client; if not, give it up."""
        if self.closed:
            return False
        waiting = self.transport.get_write_buffer_size() + size
        if waiting <= self.service.settings.congested_bytes:
            return True
        self.service.metrics.cut_clients += 1
        self.closed = True
        # Later, because whoever sends may be going through the audience of a bus.
        asyncio.get_running_loop().call_soon(self._cut)
        return False

    def reply(self, message: Message, status: str, response: Any) -> None:
        """Answer one message."""
        self.send_text(
            self.serializer.reply(
                message.join_ref, message.ref, message.topic, status, response
            )
        )

    def close(self, code: int, reason: str = "") -> None:
        """Leave every channel and close with ``code``."""
        if not self.closed:
            self.write(encode_close(code, reason))
        self._forget()
        self.transport.close()

    def drop(self) -> None:
        """Close without a word, as for a socket that never joined."""
        self._forget()
        self.transport.abort()

    # Messages -------------------------------------------------------------------------

    def _receive(self, opcode: int, payload: bytes) -> None:
        if self.closed:
            return
        if opcode == OP_TEXT:
            self._receive_text(payload)
        elif opcode == OP_BINARY:
            self._receive_binary(payload)
        elif opcode == OP_PING:
            self.send(encode_frame(OP_PONG, payload))
        elif opcode == OP_CLOSE:
            code = parse_close(payload)
            self.close(code if code != 1005 else CLOSE_NORMAL)

    def _receive_text(self, payload: bytes) -> None:
        try:
            message = self.serializer.decode(payload)
        except MalformedMessageError:
            self.service.metrics.malformed_messages += 1
            return
        self.service.quotas.events.add()
        if message.topic == "phoenix":
            self._receive_phoenix(message)
        else:
            self.receive(message)

    def _receive_binary(self, payload: bytes) -> None:
        try:
            if self.serializer is not V2:
                raise MalformedMessageError("binary frame of a version 1 client")
            message = decode_binary(payload)
        except MalformedMessageError:
            self.service.metrics.malformed_messages += 1
            return
        self.service.quotas.events.add()
        self.receive(message)

    def _receive_phoenix(self, message: Message) -> None:
        if message.event == "heartbeat":
            self.reply(message, "ok", {})
        else:
            self.refuse_unmatched(message)

    def receive(self, message: Message | BinaryBroadcast) -> None:
        """Hand a message to the channel of its topic, or start one."""
        channel = self.channels.get(message.topic)
        if channel is not None:
            channel.handle(message)
        elif message.event == "phx_join" and isinstance(message, Message):
            self.service.joiner.join(self, message)
        elif message.event == "phx_leave" and isinstance(message, Message):
            self.reply(message, "ok", {})
        else:
            self.refuse_unmatched(message)

    def refuse_unmatched(self, message: Message | BinaryBroadcast) -> None:
        """Answer a message to a topic that is not joined."""
        response = {"reason": "unmatched topic"}
        self.send_text(
            self.serializer.reply(None, message.ref, message.topic, "error", response)
        )

    # Ends -----------------------------------------------------------------------------

    def _forget(self) -> None:
        self.closed = True
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.detach()
        self.service.forget(self)

    def _cut(self) -> None:
        for channel in self.channels.values():
            payload = encode_json(channel.system_payload("error", "system", TOO_SLOW))
            text = self.serializer.push(
                channel.join_ref, channel.topic, "system", payload
            )
            self.write(encode_frame(OP_TEXT, text))
        self.write(encode_close(CLOSE_TRY_LATER, TOO_SLOW))
        self._forget()
        self.transport.close()
        # close() waits until the client has read it all; a dead client never will.
        grace_s = self.service.settings.congested_grace_s
        asyncio.get_running_loop().call_later(grace_s, self.transport.abort)


class RefusingSocket(asyncio.Protocol):
    """A connection that is refused with an HTTP response, after ``delay_s``."""

    __slots__ = ()

    def __init__(
        self,
        transport: asyncio.Transport,
        status: str,
        error: str | None,
        delay_s: float = 0.0,
    ) -> None:
        body = b"" if error is None else encode_json({"error": error})
        kind = b"" if error is None else b"content-type: application/json\r\n"
        if status.startswith("426"):
            kind += b"upgrade: websocket\r\nsec-websocket-version: %b\r\n" % (
                VERSION.encode()
            )
        response = (
            b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status.encode(), kind, len(body), body)
        )

        def answer() -> None:
            if not transport.is_closing():
                transport.write(response)
                transport.close()

        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, answer)
        else:
            answer()


def _headers_json(headers: Mapping[str, str]) -> str:
    kept = {
        name: value
        for name, value in headers.items()
        if not name.startswith("sec-websocket-")
    }
    text = encode_json(kept).decode()
    return _interned(text) if len(text) <= KEPT_HEADERS_BYTES else text


@functools.lru_cache(maxsize=1024)
def _interned(text: str) -> str:
    return text
