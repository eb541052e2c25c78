"""Logical replication messages, byte by byte as PostgreSQL documents them."""

from __future__ import annotations

import struct

import pytest

from harness.errors import RemoteProtocolError
from harness.protocols.pgoutput import (
    POSTGRES_EPOCH_S,
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Decoder,
    Keepalive,
    Relation,
    Truncate,
    WalData,
    encode_standby_status,
    parse_stream_message,
)

RELATION = (
    b"R"
    + struct.pack("!I", 77)
    + b"public\0notes\0d"
    + struct.pack("!H", 2)
    + b"\x01id\0"
    + struct.pack("!Ii", 20, -1)
    + b"\x00body\0"
    + struct.pack("!Ii", 25, -1)
)


def row(*values: str | bytes | None) -> bytes:
    """Return a tuple; bytes stand for a raw kind without data."""
    out = struct.pack("!H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif isinstance(value, bytes):
            out += value
        else:
            out += b"t" + struct.pack("!I", len(value.encode())) + value.encode()
    return out


@pytest.fixture
def decoder() -> Decoder:
    """Know the table ``notes``."""
    known = Decoder()
    assert isinstance(known.decode(RELATION), Relation)
    return known


def test_relation_is_remembered(decoder: Decoder) -> None:
    assert decoder.relations[77] == Relation(
        77, "public", "notes", "d", ("id", "body"), (20, 25), (True, False)
    )


def test_insert(decoder: Decoder) -> None:
    data = b"I" + struct.pack("!I", 77) + b"N" + row("1", None)
    relation = decoder.relations[77]
    change = Change("INSERT", relation, ("1", None), None, False, len(data))
    assert decoder.decode(data) == change


@pytest.mark.parametrize("old", [None, b"K", b"O"])
def test_update_with_every_kind_of_old_row(decoder: Decoder, old: bytes | None) -> None:
    before = b"" if old is None else old + row("1", "é")
    data = b"U" + struct.pack("!I", 77) + before + b"N" + row("2", b"u")
    change = decoder.decode(data)
    assert isinstance(change, Change)
    assert change.operation == "UPDATE"
    assert change.new == ("2", UNCHANGED)
    assert change.old == (None if old is None else ("1", "é"))
    assert change.old_is_full is (old == b"O")


@pytest.mark.parametrize("kind", [b"K", b"O"])
def test_delete(decoder: Decoder, kind: bytes) -> None:
    data = b"D" + struct.pack("!I", 77) + kind + row("1", None)
    change = decoder.decode(data)
    assert isinstance(change, Change)
    assert (change.new, change.old) == (None, ("1", None))
    assert change.old_is_full is (kind == b"O")


def test_transactions_and_truncates(decoder: Decoder) -> None:
    begin = b"B" + struct.pack("!QqI", 5, 1_000_000, 9)
    at_us = (POSTGRES_EPOCH_S + 1) * 1_000_000
    assert decoder.decode(begin) == Begin(5, at_us, 9)
    assert decoder.decode(b"C\0" + struct.pack("!QQq", 5, 8, 0)) == Commit(5, 8)
    truncate = b"T" + struct.pack("!IBI", 1, 0, 77)
    assert decoder.decode(truncate) == Truncate((decoder.relations[77],))
    for ignored in (b"Y...", b"O...", b"M..."):
        assert decoder.decode(ignored) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"I",
        b"I\0\0\0\x09N\0\0",  # an unknown table
        b"I" + struct.pack("!I", 77) + b"N" + struct.pack("!H", 1),
        b"I" + struct.pack("!I", 77) + b"N" + struct.pack("!HcI", 1, b"t", 99) + b"x",
        b"I" + struct.pack("!I", 77) + b"N" + struct.pack("!Hc", 1, b"?"),
        b"R\0\0\0\x01public",
        b"B\0",
    ],
)
def test_broken_messages_are_named(decoder: Decoder, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decoder.decode(data)


def test_stream_messages() -> None:
    wal = b"w" + struct.pack("!QQq", 3, 4, 0) + b"payload"
    assert parse_stream_message(wal) == WalData(3, b"payload")
    keepalive = b"k" + struct.pack("!QqB", 6, 0, 1)
    assert parse_stream_message(keepalive) == Keepalive(6, True)
    for broken in (b"", b"w", b"x" * 30):
        with pytest.raises(RemoteProtocolError):
            parse_stream_message(broken)


def test_standby_status_is_thirty_four_bytes() -> None:
    status = encode_standby_status(7, unix_us=POSTGRES_EPOCH_S * 1_000_000 + 5)
    assert status == b"r" + struct.pack("!QQQqB", 7, 7, 7, 5, 0)
