"""Changes as subscribers see them: JSON built from the text that PostgreSQL printed.

Values look as ``to_jsonb`` writes them: numbers keep their digits, timestamps are ISO
8601, bytea is bare hex, NaN and infinity are null.  A :class:`ChangeEncoder` holds what
all changes of a table have in common for readers of the same columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from harness.protocols.pgoutput import UNCHANGED, Change, Row, Unchanged
from harness.servers.realtime.json_values import value_encoder
from harness.servers.realtime.tables import Table

__all__ = ["NO_KEY", "UNAUTHORIZED", "ChangeEncoder", "commit_timestamp", "refused"]

KEPT_BYTES_WHEN_LARGE = 64
NO_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"
TOO_LARGE = b',"errors":["Error 413: Payload Too Large"]}'
NO_ERRORS = b',"errors":null}'

Cast = Mapping[tuple[str, str], bytes]


class _Member(NamedTuple):
    """A column in its place in the row: how its name and its values are written."""

    place: int
    name: bytes
    encode: Callable[[str], bytes]


@functools.lru_cache(maxsize=256)
def commit_timestamp(unix_us: int) -> str:
    """Return a commit time in UTC with milliseconds."""
    seconds, rest_us = divmod(unix_us, 1_000_000)
    return f"{_to_the_second(seconds)}.{rest_us // 1000:03d}Z"


@functools.lru_cache(maxsize=256)
def _to_the_second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class ChangeEncoder:
    """Writes the ``data`` of changes of ``table`` with the columns in ``visible``.

    ``cast`` holds the JSON of (SQL type, text) for values that only PostgreSQL can
    write; it may grow after the encoder was made.
    """

    def __init__(
        self, table: Table, visible: frozenset[str], cast: Cast, max_bytes: int
    ) -> None:
        self._table = table
        self._max_bytes = max_bytes
        columns = [column for column in table.columns if column.name in visible]
        places = {name: i for i, name in enumerate(table.relation.columns)}
        self._members = [
            _Member(
                places[column.name],
                orjson.dumps(column.name) + b":",
                value_encoder(column, cast),
            )
            for column in columns
            if column.name in places
        ]
        keys = {column.name for column in table.key}
        names = table.relation.columns
        self._key_members = [m for m in self._members if names[m.place] in keys]
        identity = table.relation.key_columns
        self._identity_members = [m for m in self._members if identity[m.place]]
        shown = [{"name": c.name, "type": c.type_name} for c in columns]
        self._tail = b'","columns":' + orjson.dumps(shown)
        self._heads: dict[str, bytes] = {}

    def encode(self, change: Change, commit_us: int, *, old_row: bool) -> bytes:
        """Return one change as JSON.

        ``old_row`` tells whether columns beyond the key may be shown in ``old_record``.
        """
        parts = [
            self._head(change.operation),
            commit_timestamp(commit_us).encode(),
            self._tail,
        ]
        is_large = change.size_bytes > self._max_bytes
        if change.new is not None:
            row = change.new
            if change.old_is_full and change.old is not None and UNCHANGED in row:
                row = _filled(row, change.old)
            parts.append(b',"record":' + _record(self._members, row, is_large))
        if change.operation != "INSERT":
            old = self._old_record(change, is_large, old_row=old_row)
            parts.append(b',"old_record":' + old)
        parts.append(TOO_LARGE if is_large else NO_ERRORS)
        return b"".join(parts)

    def _head(self, operation: str) -> bytes:
        head = self._heads.get(operation)
        if head is None:
            shown = {
                "schema": self._table.relation.schema,
                "table": self._table.relation.name,
                "type": operation,
                "commit_timestamp": "",
            }
            head = self._heads[operation] = orjson.dumps(shown)[:-2]
        return head

    def _old_record(self, change: Change, is_large: bool, *, old_row: bool) -> bytes:
        if change.old is None:
            # The key did not change and the stream left it out.
            return _record(self._key_members, change.new or (), is_large)
        if change.old_is_full:
            members = self._members if old_row else self._key_members
        elif old_row:
            members = self._identity_members
        else:
            members = [m for m in self._key_members if m in self._identity_members]
        return _record(members, change.old, is_large)


def refused(change: Change, error: str) -> bytes:
    """Return the ``data`` of a change that may not be shown, with the reason."""
    shown: dict[str, object] = {
        "schema": change.relation.schema,
        "table": change.relation.name,
        "type": change.operation,
        "commit_timestamp": None,
        "columns": [],
        "record": {},
        "errors": [error],
    }
    return orjson.dumps(shown)


def _record(members: list[_Member], row: Row, is_large: bool) -> bytes:
    parts = []
    for place, name, encode in members:
        text = row[place]
        if isinstance(text, str):
            if is_large and len(text.encode()) > KEPT_BYTES_WHEN_LARGE:
                continue
            parts.append(name + encode(text))
        elif text is None:
            parts.append(name + b"null")
    return b"{" + b",".join(parts) + b"}"


def _filled(new: Row, old: Row) -> Row:
    """Return the new row with values that did not change taken from the old one."""
    return tuple(
        before if isinstance(after, Unchanged) else after
        for after, before in zip(new, old, strict=True)
    )
