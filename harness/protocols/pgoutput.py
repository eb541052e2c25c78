"""PostgreSQL's logical replication stream, decoded from ``pgoutput`` (protocol 1).

Source: PostgreSQL documentation, "Logical Replication Message Formats" and "Streaming
Replication Protocol".  Tuples hold text values as PostgreSQL prints them; a value that
an update did not touch and that is stored out of line is :data:`UNCHANGED`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from harness.errors import RemoteProtocolError

__all__ = [
    "UNCHANGED",
    "Begin",
    "Change",
    "Commit",
    "Decoder",
    "Keepalive",
    "Relation",
    "Truncate",
    "Unchanged",
    "WalData",
    "encode_standby_status",
    "parse_stream_message",
]

POSTGRES_EPOCH_S = 946_684_800  # 2000-01-01 in Unix seconds

_U16 = struct.Struct("!H").unpack_from
_U32 = struct.Struct("!I").unpack_from
_I64 = struct.Struct("!q").unpack_from
_U64 = struct.Struct("!Q").unpack_from
_STATUS = struct.Struct("!cQQQqB")

KIND_BEGIN, KIND_COMMIT, KIND_RELATION = ord("B"), ord("C"), ord("R")
KIND_INSERT, KIND_UPDATE, KIND_DELETE = ord("I"), ord("U"), ord("D")
KIND_TRUNCATE = ord("T")
IGNORED_KINDS = frozenset(b"YOM")  # type, origin, message
TUPLE_NULL, TUPLE_UNCHANGED, TUPLE_TEXT = ord("n"), ord("u"), ord("t")
OLD_ROW_KINDS = frozenset(b"KO")  # the key columns, or the whole old row


class Unchanged:
    """The type of :data:`UNCHANGED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()
Value = str | None | Unchanged
Row = tuple[Value, ...]
Operation = Literal["INSERT", "UPDATE", "DELETE"]


class Relation(NamedTuple):
    """A table as the stream describes it; ``key_columns`` is its replica identity."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[str, ...]
    type_oids: tuple[int, ...]
    key_columns: tuple[bool, ...]


class Begin(NamedTuple):
    """A transaction starts; ``commit_us`` is Unix microseconds, ``xid`` has 32 bits."""

    final_lsn: int
    commit_us: int
    xid: int


class Commit(NamedTuple):
    """A transaction ended; the next one follows ``end_lsn``."""

    commit_lsn: int
    end_lsn: int


@dataclass(slots=True)
class Change:
    """One row changed.

    ``old`` is ``None`` when the stream carried no old row; ``old_is_full`` tells the
    whole old row (replica identity FULL) from its key alone.  ``size_bytes`` is the
    size of the message.
    """

    operation: Operation
    relation: Relation
    new: Row | None
    old: Row | None
    old_is_full: bool
    size_bytes: int


class Truncate(NamedTuple):
    """Tables that were truncated together."""

    relations: tuple[Relation, ...]


class WalData(NamedTuple):
    """One logical message of the stream and where it stands in the log."""

    start_lsn: int
    payload: bytes


class Keepalive(NamedTuple):
    """The server's position; it may ask for an answer at once."""

    end_lsn: int
    reply_requested: bool


class Decoder:
    """Reads logical messages one by one, remembering the tables they refer to."""

    __slots__ = ("relations",)

    def __init__(self) -> None:
        self.relations: dict[int, Relation] = {}

    def decode(
        self, data: bytes
    ) -> Begin | Commit | Relation | Change | Truncate | None:
        """Return what one message says; ``None`` for kinds that carry no change."""
        try:
            return self._decode(data)
        except (IndexError, KeyError, ValueError, struct.error) as exc:
            raise RemoteProtocolError(
                f"replication message not understood: {data[:40]!r}"
            ) from exc

    def _decode(
        self, data: bytes
    ) -> Begin | Commit | Relation | Change | Truncate | None:
        kind = data[0]
        if kind == KIND_INSERT:
            relation = self.relations[_U32(data, 1)[0]]
            new, _ = _read_row(data, 6)
            return Change("INSERT", relation, new, None, False, len(data))
        if kind == KIND_UPDATE:
            return self._update(data)
        if kind == KIND_DELETE:
            relation = self.relations[_U32(data, 1)[0]]
            old, _ = _read_row(data, 6)
            is_full = data[5] == ord("O")
            return Change("DELETE", relation, None, old, is_full, len(data))
        if kind == KIND_BEGIN:
            return Begin(_U64(data, 1)[0], _unix_us(data, 9), _U32(data, 17)[0])
        if kind == KIND_COMMIT:
            return Commit(_U64(data, 2)[0], _U64(data, 10)[0])
        if kind == KIND_RELATION:
            return self._relation(data)
        if kind == KIND_TRUNCATE:
            count = _U32(data, 1)[0]
            oids = (_U32(data, 6 + 4 * i)[0] for i in range(count))
            return Truncate(tuple(self.relations[oid] for oid in oids))
        if kind in IGNORED_KINDS:
            return None
        raise ValueError(f"message kind {kind}")

    def _update(self, data: bytes) -> Change:
        relation = self.relations[_U32(data, 1)[0]]
        old: Row | None = None
        old_is_full = data[5] == ord("O")
        start = 6
        if data[5] in OLD_ROW_KINDS:
            old, start = _read_row(data, 6)
            start += 1
        new, _ = _read_row(data, start)
        return Change("UPDATE", relation, new, old, old_is_full, len(data))

    def _relation(self, data: bytes) -> Relation:
        oid = _U32(data, 1)[0]
        schema, start = _read_name(data, 5)
        name, start = _read_name(data, start)
        identity = chr(data[start])
        (count,) = _U16(data, start + 1)
        start += 3
        columns, type_oids, keys = [], [], []
        for _ in range(count):
            keys.append(bool(data[start] & 1))
            column, start = _read_name(data, start + 1)
            columns.append(column)
            type_oids.append(_U32(data, start)[0])
            start += 8  # type oid and type modifier
        relation = Relation(
            oid,
            # An empty namespace stands for pg_catalog.
            schema or "pg_catalog",
            name,
            identity,
            tuple(columns),
            tuple(type_oids),
            tuple(keys),
        )
        self.relations[oid] = relation
        return relation


def parse_stream_message(data: bytes) -> WalData | Keepalive:
    """Read one message of the COPY stream that carries replication."""
    try:
        if data[0] == ord("w"):
            return WalData(_U64(data, 1)[0], data[25:])
        if data[0] == ord("k"):
            return Keepalive(_U64(data, 1)[0], data[17] == 1)
    except (IndexError, struct.error) as exc:
        raise RemoteProtocolError("replication message is cut short") from exc
    raise RemoteProtocolError(f"stream message kind {data[0]}")


def encode_standby_status(lsn: int, *, unix_us: int) -> bytes:
    """Return the message that confirms everything up to ``lsn``."""
    clock = unix_us - POSTGRES_EPOCH_S * 1_000_000
    return _STATUS.pack(b"r", lsn, lsn, lsn, clock, 0)


def _read_row(data: bytes, start: int) -> tuple[Row, int]:
    count = (data[start] << 8) | data[start + 1]
    start += 2
    values: list[Any] = []
    for _ in range(count):
        kind = data[start]
        start += 1
        if kind == TUPLE_TEXT:
            end = start + 4 + _U32(data, start)[0]
            if end > len(data):
                raise IndexError(end)
            values.append(data[start + 4 : end].decode())
            start = end
        elif kind == TUPLE_NULL:
            values.append(None)
        elif kind == TUPLE_UNCHANGED:
            values.append(UNCHANGED)
        else:
            raise ValueError(f"tuple value kind {kind}")
    return tuple(values), start


def _read_name(data: bytes, start: int) -> tuple[str, int]:
    end = data.index(0, start)
    return data[start:end].decode(), end + 1


def _unix_us(data: bytes, start: int) -> int:
    return int(_I64(data, start)[0]) + POSTGRES_EPOCH_S * 1_000_000
