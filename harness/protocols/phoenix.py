"""Phoenix channel messages, versions 1.0.0 and 2.0.0, with Supabase's binary frames.

Version 1 is a JSON object, version 2 a JSON array; both carry a topic, an event and a
payload, and refs that are echoed as they came.  Version 2 also has binary frames for
broadcasts, whose payload travels untouched::

    3 user broadcast push   03 jrSz refSz topicSz eventSz metaSz enc | names payload
    4 user broadcast        04 topicSz eventSz metaSz enc            | names payload

Every size is one byte.  Encoders return message payloads; framing is left to
:mod:`harness.protocols.websocket`.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Protocol

import orjson

from harness.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "V1",
    "V2",
    "BinaryBroadcast",
    "MalformedMessageError",
    "Message",
    "Serializer",
    "decode_binary",
    "decode_json",
    "encode_binary_broadcast",
    "encode_json",
    "serializer_for",
]

KIND_PUSH = 0
KIND_USER_BROADCAST_PUSH = 3
KIND_USER_BROADCAST = 4
ENCODING_BINARY = 0
ENCODING_JSON = 1
MAX_NAME_BYTES = 255
MAX_DEPTH = 250  # of containers in one another: what every reader and writer can take

# orjson reads integers beyond 64 bits as floats; digits must survive a relay.
_LONG_NUMBER = re.compile(rb"\d{19}")


class MalformedMessageError(RemoteProtocolError):
    """A frame that is not a message of this version."""


class Message(NamedTuple):
    """One message; ``payload`` is a JSON value or, for a binary push, bytes."""

    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: Any


class BinaryBroadcast(NamedTuple):
    """A broadcast that came as a binary frame of kind 3."""

    join_ref: str
    ref: str
    topic: str
    event: str
    payload: bytes
    is_json: bool


class Serializer(Protocol):
    """One version of the text form."""

    version: str

    def decode(self, data: bytes) -> Message:
        """Read a text frame, or raise :class:`MalformedMessageError`."""
        ...

    def reply(
        self, join_ref: Any, ref: Any, topic: str, status: str, response: Any
    ) -> bytes:
        """Return the reply to a message."""
        ...

    def push(self, join_ref: Any, topic: str, event: str, payload: bytes) -> bytes:
        """Return a message that the server starts; ``payload`` is JSON already."""
        ...

    def close(self, join_ref: Any, topic: str, event: str, payload: bytes) -> bytes:
        """Return ``phx_close`` or ``phx_error``, whose ref is the join's ref."""
        ...


class SerializerV1:
    """``{"topic","event","payload","ref"}``; ``join_ref`` is read but never written."""

    version = "1.0.0"

    def decode(self, data: bytes) -> Message:
        """Read a text frame; the key ``ref`` must be there, ``null`` will do."""
        value = decode_json(data)
        try:
            topic, event = value["topic"], value["event"]
            message = Message(
                value.get("join_ref"), value["ref"], topic, event, value["payload"]
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise MalformedMessageError("not a version 1 message") from exc
        return _checked(message)

    def reply(
        self, join_ref: Any, ref: Any, topic: str, status: str, response: Any
    ) -> bytes:
        """Return the reply to a message."""
        return encode_json(
            {
                "ref": ref,
                "event": "phx_reply",
                "payload": {"status": status, "response": response},
                "topic": topic,
            }
        )

    def push(self, join_ref: Any, topic: str, event: str, payload: bytes) -> bytes:
        """Return a message that the server starts."""
        return b'{"ref":null,"event":%b,"payload":%b,"topic":%b}' % (
            encode_json(event),
            payload,
            encode_json(topic),
        )

    def close(self, join_ref: Any, topic: str, event: str, payload: bytes) -> bytes:
        """Return ``phx_close`` or ``phx_error``."""
        return b'{"ref":%b,"event":%b,"payload":%b,"topic":%b}' % (
            encode_json(join_ref),
            encode_json(event),
            payload,
            encode_json(topic),
        )


class SerializerV2:
    """``[join_ref, ref, topic, event, payload]``."""

    version = "2.0.0"

    def decode(self, data: bytes) -> Message:
        """Read a text frame of exactly five elements."""
        value = decode_json(data)
        if not isinstance(value, list) or len(value) != 5:
            raise MalformedMessageError("not a version 2 message")
        return _checked(Message(*value))

    def reply(
        self, join_ref: Any, ref: Any, topic: str, status: str, response: Any
    ) -> bytes:
        """Return the reply to a message."""
        return encode_json(
            [
                join_ref,
                ref,
                topic,
                "phx_reply",
                {"status": status, "response": response},
            ]
        )

    def push(self, join_ref: Any, topic: str, event: str, payload: bytes) -> bytes:
        """Return a message that the server starts."""
        return b"[%b,null,%b,%b,%b]" % (
            encode_json(join_ref),
            encode_json(topic),
            encode_json(event),
            payload,
        )

    def close(self, join_ref: Any, topic: str, event: str, payload: bytes) -> bytes:
        """Return ``phx_close`` or ``phx_error``."""
        ref = encode_json(join_ref)
        return b"[%b,%b,%b,%b,%b]" % (
            ref,
            ref,
            encode_json(topic),
            encode_json(event),
            payload,
        )


V1 = SerializerV1()
V2 = SerializerV2()


def serializer_for(vsn: str | None) -> Serializer | None:
    """Return the serializer of a ``vsn`` parameter (none means 1.0.0), if it exists."""
    if vsn is None or vsn == V1.version:
        return V1
    return V2 if vsn == V2.version else None


def decode_binary(data: bytes) -> BinaryBroadcast | Message:
    """Read a binary frame of a version 2 client: a push or a user broadcast."""
    try:
        if data[0] == KIND_USER_BROADCAST_PUSH:
            return _decode_user_broadcast(data)
        if data[0] == KIND_PUSH:
            (join_ref, ref, topic, event), rest = _names(data, data[1:5], 5)
            return Message(join_ref or None, ref or None, topic, event, rest)
    except (IndexError, ValueError) as exc:  # too short, or names that are no text
        raise MalformedMessageError("binary frame with wrong lengths") from exc
    raise MalformedMessageError(f"binary frame of kind {data[0]}")


def encode_binary_broadcast(
    topic: str, event: str, payload: bytes, *, is_json: bool, metadata: bytes = b""
) -> bytes:
    """Return a user broadcast (kind 4).

    Raises :class:`LocalProtocolError` when a name is longer than its one-byte size
    can say.
    """
    topic_bytes, event_bytes = topic.encode(), event.encode()
    sizes = (len(topic_bytes), len(event_bytes), len(metadata))
    if max(sizes) > MAX_NAME_BYTES:
        raise LocalProtocolError("a name is longer than 255 bytes")
    encoding = ENCODING_JSON if is_json else ENCODING_BINARY
    head = bytes((KIND_USER_BROADCAST, *sizes, encoding))
    return b"".join((head, topic_bytes, event_bytes, metadata, payload))


def decode_json(data: bytes) -> Any:
    """Return the JSON value of ``data``, or raise :class:`MalformedMessageError`.

    Whatever is returned can be written again by :func:`encode_json`.
    """
    try:
        if _LONG_NUMBER.search(data):
            value = json.loads(data.decode(), parse_constant=_refuse_constant)
            # This reader, unlike the other, takes halves of characters and numbers
            # beyond every float.
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        else:
            value = orjson.loads(data)
    except (ValueError, RecursionError) as exc:
        raise MalformedMessageError("not JSON") from exc
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for container in level
            if isinstance(container, list | dict)
            for item in (
                container.values() if isinstance(container, dict) else container
            )
        ]
        if not level:
            return
    raise MalformedMessageError(f"nested more than {MAX_DEPTH} deep")


def encode_json(value: Any) -> bytes:
    """Return ``value`` as compact JSON, integers of any size included."""
    try:
        return orjson.dumps(value)
    except TypeError:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return text.encode()


def _decode_user_broadcast(data: bytes) -> BinaryBroadcast:
    encoding = data[6]
    if encoding not in (ENCODING_BINARY, ENCODING_JSON):
        raise MalformedMessageError(f"payload encoding {encoding}")
    # The client's metadata is read, so that the payload is found, and not passed on.
    (join_ref, ref, topic, event, _), payload = _names(data, data[1:6], 7)
    return BinaryBroadcast(
        join_ref, ref, topic, event, payload, encoding == ENCODING_JSON
    )


def _names(data: bytes, sizes: bytes, start: int) -> tuple[list[str], bytes]:
    names = []
    for size in sizes:
        end = start + size
        if end > len(data):
            raise IndexError(end)
        names.append(data[start:end].decode())
        start = end
    return names, data[start:]


def _checked(message: Message) -> Message:
    if not isinstance(message.topic, str) or not isinstance(message.event, str):
        raise MalformedMessageError("topic and event must be strings")
    return message


def _refuse_constant(name: str) -> Any:
    raise MalformedMessageError(f"{name} is not JSON")
