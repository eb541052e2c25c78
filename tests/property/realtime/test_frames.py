"""Whatever bytes come, the decoders answer as documented and never otherwise."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from harness.errors import RemoteProtocolError
from harness.protocols.pgoutput import Decoder, parse_stream_message
from harness.protocols.phoenix import (
    V1,
    V2,
    MalformedMessageError,
    Message,
    decode_binary,
)
from harness.protocols.websocket import MessageDecoder, WebSocketError, WireMessage

LIMIT = 1 << 16
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.data(), st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_chunks_do_not_matter(data: st.DataObject, payloads: list[bytes]) -> None:
    stream = b"".join(
        Frame(Opcode.BINARY, payload).serialize(mask=True) for payload in payloads
    )
    decoder = MessageDecoder(LIMIT)
    messages: list[WireMessage] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        messages += decoder.feed(stream[:size])
        stream = stream[size:]
    assert [message.payload for message in messages] == payloads


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_random_bytes_give_messages_or_a_protocol_error(chunks: list[bytes]) -> None:
    decoder = MessageDecoder(LIMIT)
    with contextlib.suppress(WebSocketError):
        for chunk in chunks:
            for message in decoder.feed(chunk):
                assert isinstance(message.payload, bytes)


@given(st.data(), st.binary(max_size=200))
def test_damaged_frames_give_messages_or_a_protocol_error(
    data: st.DataObject, payload: bytes
) -> None:
    frame = bytearray(Frame(Opcode.TEXT, payload).serialize(mask=True))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(
            st.integers(0, 255)
        )
    with contextlib.suppress(WebSocketError):
        MessageDecoder(LIMIT).feed(bytes(frame))


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda b: b"\x03" + b))
def test_binary_messages_are_read_or_malformed(data: bytes) -> None:
    try:
        message = decode_binary(data)
    except MalformedMessageError:
        return
    assert isinstance(message.topic, str)
    assert isinstance(message.payload, bytes)


@given(st.binary(max_size=100))
def test_text_messages_are_read_or_malformed(data: bytes) -> None:
    for serializer in (V1, V2):
        with contextlib.suppress(MalformedMessageError):
            assert isinstance(serializer.decode(data), Message)


@given(json_values, json_values, st.text(max_size=30), st.text(max_size=30))
def test_messages_come_back_as_they_were_sent(
    ref: Any, payload: Any, topic: str, event: str
) -> None:
    from harness.protocols.phoenix import encode_json

    two = encode_json([ref, ref, topic, event, payload])
    assert V2.decode(two) == Message(ref, ref, topic, event, payload)
    one = encode_json({"topic": topic, "event": event, "payload": payload, "ref": ref})
    assert V1.decode(one) == Message(None, ref, topic, event, payload)


@given(st.binary(max_size=80))
def test_replication_messages_are_read_or_named(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        Decoder().decode(data)
    with contextlib.suppress(RemoteProtocolError):
        parse_stream_message(data)
