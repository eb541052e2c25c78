"""The WebSocket decoder and encoder, against RFC 6455 and another implementation."""

from __future__ import annotations

import tracemalloc

import pytest
from websockets.frames import Frame, Opcode

from harness.protocols.websocket import (
    OP_BINARY,
    OP_CLOSE,
    OP_PING,
    OP_TEXT,
    MessageDecoder,
    WebSocketError,
    accept_key,
    encode_close,
    encode_frame,
    parse_close,
)

LIMIT = 1 << 20


def client_frame(
    payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True
) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=True)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_frames_of_every_length_form_are_read(length: int) -> None:
    payload = bytes(i % 251 for i in range(length))
    messages = MessageDecoder(LIMIT).feed(client_frame(payload, Opcode.BINARY))
    assert messages == [(OP_BINARY, payload)]


def test_bytes_one_by_one_give_the_same_messages() -> None:
    data = client_frame(b"one") + client_frame(b"x" * 300) + client_frame(b"three")
    decoder = MessageDecoder(LIMIT)
    messages = [m for i in range(len(data)) for m in decoder.feed(data[i : i + 1])]
    assert [m.payload for m in messages] == [b"one", b"x" * 300, b"three"]


def test_fragments_are_joined_around_control_frames() -> None:
    data = (
        client_frame(b"a", fin=False)
        + client_frame(b"ping", Opcode.PING)
        + client_frame(b"b", Opcode.CONT, fin=False)
        + client_frame(b"c", Opcode.CONT)
    )
    assert MessageDecoder(LIMIT).feed(data) == [(OP_PING, b"ping"), (OP_TEXT, b"abc")]


def test_fragments_of_no_bytes_take_no_memory() -> None:
    decoder = MessageDecoder(LIMIT)
    decoder.feed(client_frame(b"a", fin=False))
    empty = client_frame(b"", Opcode.CONT, fin=False) * 1000
    tracemalloc.start()
    try:
        for _ in range(100):
            decoder.feed(empty)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 50_000
    assert decoder.feed(client_frame(b"b", Opcode.CONT)) == [(OP_TEXT, b"ab")]


BROKEN = {
    "not masked": (Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002),
    "reserved bit": (b"\xc1\x80abcd", 1002),
    "reserved opcode": (b"\x83\x80abcd", 1002),
    "reserved control opcode": (b"\x8b\x80abcd", 1002),
    "fragmented ping": (b"\x09\x80abcd", 1002),
    "ping of 126 bytes": (b"\x89\xfe\x00\x7eabcd", 1002),
    "continuation of nothing": (client_frame(b"x", Opcode.CONT), 1002),
    "message in a message": (client_frame(b"a", fin=False) + client_frame(b"b"), 1002),
    "too large": (client_frame(b"x" * (LIMIT + 1))[:20], 1009),
    "too large together": (
        client_frame(b"x" * LIMIT, fin=False) + client_frame(b"x", Opcode.CONT),
        1009,
    ),
    "absurd length": (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_frames_name_their_close_code(data: bytes, code: int) -> None:
    with pytest.raises(WebSocketError) as caught:
        MessageDecoder(LIMIT).feed(data)
    assert caught.value.code == code


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_encoded_frames_are_as_another_implementation_makes_them(length: int) -> None:
    payload = b"z" * length
    expected = Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert encode_frame(OP_TEXT, payload) == expected


def test_close_frames_carry_code_and_a_reason_that_fits() -> None:
    frame = encode_close(1013, "é" * 100)
    assert frame[0] == 0x80 | OP_CLOSE
    assert frame[1] <= 125
    assert parse_close(frame[2:]) == 1013
    assert frame[4:].decode() == "é" * 61
    assert parse_close(b"") == 1005
    with pytest.raises(WebSocketError):
        parse_close(b"x")


def test_accept_key_is_the_example_of_the_standard() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
