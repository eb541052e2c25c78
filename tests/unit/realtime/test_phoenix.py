"""Both text forms and the binary frames."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from harness.errors import LocalProtocolError
from harness.protocols.phoenix import (
    V1,
    V2,
    BinaryBroadcast,
    MalformedMessageError,
    Message,
    decode_binary,
    decode_json,
    encode_binary_broadcast,
    encode_json,
    serializer_for,
)


def test_versions_are_chosen_by_name() -> None:
    assert serializer_for(None) is V1
    assert serializer_for("1.0.0") is V1
    assert serializer_for("2.0.0") is V2
    assert serializer_for("3.0.0") is None


def test_version_one_is_an_object() -> None:
    data = b'{"topic":"t","event":"e","payload":{"a":1},"ref":"2","join_ref":"1"}'
    assert V1.decode(data) == Message("1", "2", "t", "e", {"a": 1})
    reply = orjson.loads(V1.reply("1", "2", "t", "ok", {}))
    assert reply == {
        "ref": "2",
        "event": "phx_reply",
        "payload": {"status": "ok", "response": {}},
        "topic": "t",
    }
    push = orjson.loads(V1.push("1", "t", "e", b'{"x":1}'))
    assert push == {"ref": None, "event": "e", "payload": {"x": 1}, "topic": "t"}
    close = orjson.loads(V1.close("1", "t", "phx_close", b"{}"))
    assert close == {"ref": "1", "event": "phx_close", "payload": {}, "topic": "t"}


def test_version_two_is_an_array() -> None:
    data = b'["1","2","t","e",{"a":1}]'
    assert V2.decode(data) == Message("1", "2", "t", "e", {"a": 1})
    reply = orjson.loads(V2.reply("1", "2", "t", "error", "no"))
    assert reply == [
        "1",
        "2",
        "t",
        "phx_reply",
        {"status": "error", "response": "no"},
    ]
    assert V2.push(None, "t", "e", b"{}") == b'[null,null,"t","e",{}]'
    assert V2.close("1", "t", "phx_close", b"{}") == b'["1","1","t","phx_close",{}]'


def test_user_broadcast_push_is_read() -> None:
    names = b"12" + b"topic" + b"ev" + b"{}"
    data = bytes([3, 1, 1, 5, 2, 2, 1]) + names + b'{"n":1}'
    broadcast = decode_binary(data)
    assert broadcast == BinaryBroadcast("1", "2", "topic", "ev", b'{"n":1}', True)


def test_binary_push_is_read() -> None:
    data = bytes([0, 0, 1, 1, 1]) + b"2te" + b"\xff"
    assert decode_binary(data) == Message(None, "2", "t", "e", b"\xff")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x00\x00\x00",
        b"\x03\x00\x00\x00\x00\x00",
        b"",
        b"\x01",
        b"\x03",
        b"\x03\x01\x01\x01\x01\x00",
        b"\x03\x00\x00\x01\x01\x00\x02te",  # an unknown encoding
        b"\x03\x00\x00\x02\x00\x00\x01\xff\xff",  # a topic that is not UTF-8
        b"\x00\x09\x01\x01\x01abc",
    ],
)
def test_broken_binary_frames_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_binary(data)


def test_binary_broadcast_is_written() -> None:
    frame = encode_binary_broadcast("t", "ev", b"\x00", is_json=False, metadata=b"{}")
    assert frame == bytes([4, 1, 2, 2, 0]) + b"tev{}" + b"\x00"
    with pytest.raises(LocalProtocolError):
        encode_binary_broadcast("t" * 256, "e", b"", is_json=True)


@pytest.mark.parametrize("value", [2**64, -(2**80), [1, {"a": 10**30}], 1.5, "é", None])
def test_json_survives_whatever_the_size_of_its_numbers(value: Any) -> None:
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"[1e]", b"\xff", b"[" * 100_000, b"1" * 5000, b'"\\ud800"'],
)
def test_what_is_not_json_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_json(data)
