"""The server's side of a WebSocket (RFC 6455), as bytes in and messages out.

:class:`MessageDecoder` takes whatever the network gave and returns complete messages;
:func:`encode_frame` makes one frame to send.  No extension is offered.  Text is handed
on as bytes: what reads it (a JSON parser) refuses bad UTF-8 by itself.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import NamedTuple

from websockets.speedups import apply_mask

from harness.errors import RemoteProtocolError

__all__ = [
    "OP_BINARY",
    "OP_CLOSE",
    "OP_PING",
    "OP_PONG",
    "OP_TEXT",
    "VERSION",
    "MessageDecoder",
    "WebSocketError",
    "WireMessage",
    "accept_key",
    "encode_close",
    "encode_frame",
    "parse_close",
]

VERSION = "13"  # of the protocol; there is no other

OP_CONTINUATION = 0x0
OP_TEXT = 0x1
OP_BINARY = 0x2
OP_CLOSE = 0x8
OP_PING = 0x9
OP_PONG = 0xA

FIN = 0x80
MASKED = 0x80
RESERVED_BITS = 0x70
CONTROL_BIT = 0x08
MAX_CONTROL_BYTES = 125
HANDSHAKE_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3

CLOSE_PROTOCOL_ERROR = 1002
CLOSE_TOO_BIG = 1009

_U16 = struct.Struct("!H")
_U64 = struct.Struct("!Q")


class WebSocketError(RemoteProtocolError):
    """The peer broke RFC 6455; ``code`` is the close code that it is told."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class WireMessage(NamedTuple):
    """One complete message: its opcode (fragments joined) and unmasked payload."""

    opcode: int
    payload: bytes


class _Frame(NamedTuple):
    first: int
    payload: bytes
    end: int


class MessageDecoder:
    """Turns received bytes into messages, holding back what is incomplete.

    Raises :class:`WebSocketError` once the peer breaks the protocol or exceeds
    ``max_bytes``; the decoder must not be fed after that.
    """

    __slots__ = ("_fragments", "_opcode", "_partial", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._partial: bytearray | None = None
        # One buffer: fragments of no bytes, however many, are to cost nothing.
        self._fragments: bytearray | None = None
        self._opcode = OP_CONTINUATION

    def feed(self, data: bytes) -> list[WireMessage]:
        """Return the messages that ``data`` completes, control frames included."""
        if self._partial is not None:
            # Appending in place keeps a frame that arrives byte by byte linear.
            self._partial += data
            if not self._is_complete(self._partial):
                return []
            data = bytes(self._partial)
            self._partial = None
        messages: list[WireMessage] = []
        start = 0
        while start < len(data):
            frame = self._read_frame(data, start)
            if frame is None:
                self._partial = bytearray(data[start:])
                break
            start = frame.end
            message = self._accept(frame)
            if message is not None:
                messages.append(message)
        return messages

    def _is_complete(self, data: bytearray) -> bool:
        header = self._read_header(data, 0)
        return header is not None and len(data) >= header[0] + 4 + header[1]

    def _read_frame(self, data: bytes, start: int) -> _Frame | None:
        header = self._read_header(data, start)
        if header is None:
            return None
        mask_start, length = header
        payload_start = mask_start + 4
        end = payload_start + length
        if len(data) < end:
            return None
        mask = data[mask_start:payload_start]
        payload = apply_mask(data[payload_start:end], mask) if length else b""
        return _Frame(data[start], payload, end)

    def _read_header(
        self, data: bytes | bytearray, start: int
    ) -> tuple[int, int] | None:
        """Return where the mask begins and how long the payload is, once known."""
        available = len(data) - start
        if available < 2:
            return None
        first, second = data[start], data[start + 1]
        _check_bits(first, second)
        length = second & 0x7F
        mask_start = start + 2
        if length == 126:
            if available < 4:
                return None
            length = _U16.unpack_from(data, mask_start)[0]
            mask_start += 2
        elif length == 127:
            if available < 10:
                return None
            length = _U64.unpack_from(data, mask_start)[0]
            mask_start += 8
        if length + len(self._fragments or b"") > self.max_bytes:
            raise WebSocketError(CLOSE_TOO_BIG, f"message of {length} bytes")
        return mask_start, length

    def _accept(self, frame: _Frame) -> WireMessage | None:
        opcode = frame.first & 0x0F
        if opcode & CONTROL_BIT:
            return WireMessage(opcode, frame.payload)
        if self._fragments is None:
            return self._begin(opcode, frame)
        if opcode != OP_CONTINUATION:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, "message inside a message")
        self._fragments += frame.payload
        return self._finish() if frame.first & FIN else None

    def _begin(self, opcode: int, frame: _Frame) -> WireMessage | None:
        if opcode == OP_CONTINUATION:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, "continuation of nothing")
        if frame.first & FIN:
            return WireMessage(opcode, frame.payload)
        self._opcode = opcode
        self._fragments = bytearray(frame.payload)
        return None

    def _finish(self) -> WireMessage:
        payload = bytes(self._fragments or b"")
        self._fragments = None
        return WireMessage(self._opcode, payload)


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` value for a client's key."""
    digest = hashlib.sha1(key.encode() + HANDSHAKE_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Return one unmasked, unfragmented frame."""
    length = len(payload)
    if length < 126:
        return bytes((FIN | opcode, length)) + payload
    if length < 0x10000:
        return bytes((FIN | opcode, 126)) + _U16.pack(length) + payload
    return bytes((FIN | opcode, 127)) + _U64.pack(length) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason is cut to what a control frame holds."""
    text = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return encode_frame(OP_CLOSE, _U16.pack(code) + text)


def parse_close(payload: bytes) -> int:
    """Return the code of a received close frame, 1005 when it carries none."""
    if not payload:
        return 1005
    if len(payload) == 1:
        raise WebSocketError(CLOSE_PROTOCOL_ERROR, "close frame of one byte")
    return int(_U16.unpack_from(payload)[0])


def _check_bits(first: int, second: int) -> None:
    opcode = first & 0x0F
    if first & RESERVED_BITS:
        raise WebSocketError(CLOSE_PROTOCOL_ERROR, "reserved bits are set")
    if not second & MASKED:
        raise WebSocketError(CLOSE_PROTOCOL_ERROR, "frame is not masked")
    if opcode & CONTROL_BIT:
        if opcode > OP_PONG:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, f"opcode {opcode}")
        if not first & FIN or second & 0x7F > MAX_CONTROL_BYTES:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, "control frame is fragmented")
    elif opcode > OP_BINARY:
        raise WebSocketError(CLOSE_PROTOCOL_ERROR, f"opcode {opcode}")
