"""Changes as subscribers see them: JSON built from the text that PostgreSQL printed.

Values look as ``to_jsonb`` writes them: numbers keep their digits, timestamps are ISO
8601, bytea is bare hex, NaN and infinity are null.  A change is encoded once for each
set of columns that its readers may see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime

import orjson

from harness.protocols.pgoutput import UNCHANGED, Change, Row, Unchanged
from harness.servers.realtime.tables import Column, Table

__all__ = ["ErrorText", "commit_timestamp", "encode_change", "encode_error", "to_json"]

KEPT_BYTES_WHEN_LARGE = 64
NOT_JSON_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})


class ErrorText:
    """What ``errors`` of a payload may hold."""

    NO_KEY = "Error 400: Bad Request, no primary key"
    UNAUTHORIZED = "Error 401: Unauthorized"
    TOO_LARGE = "Error 413: Payload Too Large"


def commit_timestamp(unix_us: int) -> str:
    """Return a commit time in UTC with milliseconds."""
    seconds, rest_us = divmod(unix_us, 1_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{rest_us // 1000:03d}Z"


def encode_change(
    change: Change,
    table: Table,
    commit_us: int,
    visible: Collection[str],
    *,
    old_row: bool,
    max_bytes: int,
    cast: dict[tuple[str, str], bytes],
) -> bytes:
    """Return the ``data`` of one change with the columns named in ``visible``.

    ``old_row`` tells whether columns beyond the key may be shown in ``old_record``.
    ``cast`` holds the JSON of (SQL type, text) for values that only PostgreSQL can
    convert.
    """
    columns = [column for column in table.columns if column.name in visible]
    new = _named(table, change.new) if change.new is not None else {}
    old = _old_values(change, table, new, old_row=old_row)
    if change.old_is_full:
        new = _fill_unchanged(new, change, table)
    is_large = _size(change.new, change.old) > max_bytes
    parts = [_head(change, table, commit_timestamp(commit_us), columns)]
    if change.operation != "DELETE":
        parts.append(b',"record":' + _record(columns, new, is_large, cast))
    if change.operation != "INSERT":
        parts.append(b',"old_record":' + _record(columns, old, is_large, cast))
    errors = orjson.dumps([ErrorText.TOO_LARGE]) if is_large else b"null"
    parts.append(b',"errors":' + errors + b"}")
    return b"".join(parts)


def encode_error(change: Change, table: Table, error: str) -> bytes:
    """Return the ``data`` of a change that may not be shown, with the reason."""
    relation = table.relation
    shown: dict[str, object] = {
        "schema": relation.schema,
        "table": relation.name,
        "type": change.operation,
        "commit_timestamp": None,
        "columns": [],
        "record": {},
        "errors": [error],
    }
    return orjson.dumps(shown)


def to_json(column: Column, text: str, cast: dict[tuple[str, str], bytes]) -> bytes:
    """Return one value as JSON."""
    if column.form == "sql":
        return cast[column.sql_type, text]
    if column.form.startswith("array:"):
        return _array(text, FORMS[column.form.removeprefix("array:")])
    return FORMS[column.form](text)


def _head(change: Change, table: Table, stamp: str, columns: Iterable[Column]) -> bytes:
    shown = {
        "schema": table.relation.schema,
        "table": table.relation.name,
        "type": change.operation,
        "commit_timestamp": stamp,
        "columns": [{"name": c.name, "type": c.type_name} for c in columns],
    }
    return orjson.dumps(shown)[:-1]


def _record(
    columns: Sequence[Column],
    values: dict[str, str | None],
    is_large: bool,
    cast: dict[tuple[str, str], bytes],
) -> bytes:
    members = []
    for column in columns:
        if column.name not in values:
            continue
        text = values[column.name]
        if text is None:
            value = b"null"
        elif is_large and len(text.encode()) > KEPT_BYTES_WHEN_LARGE:
            continue
        else:
            value = to_json(column, text, cast)
        members.append(orjson.dumps(column.name) + b":" + value)
    return b"{" + b",".join(members) + b"}"


def _named(table: Table, row: Row) -> dict[str, str | None]:
    """Return the values by column, without those that were not sent."""
    return {
        name: value
        for name, value in zip(table.relation.columns, row, strict=True)
        if not isinstance(value, Unchanged)
    }


def _old_values(
    change: Change, table: Table, new: dict[str, str | None], *, old_row: bool
) -> dict[str, str | None]:
    if change.old is None:
        # The key did not change and the stream left it out.
        return {c.name: new[c.name] for c in table.key if c.name in new}
    old = _named(table, change.old)
    if change.old_is_full:
        shown = {c.name for c in table.key} if not old_row else set(old)
    else:
        relation = table.relation
        flags = zip(relation.columns, relation.key_columns, strict=True)
        shown = {name for name, is_key in flags if is_key}
        if not old_row:
            shown &= {c.name for c in table.key}
    return {name: value for name, value in old.items() if name in shown}


def _fill_unchanged(
    new: dict[str, str | None], change: Change, table: Table
) -> dict[str, str | None]:
    if change.new is None or change.old is None or UNCHANGED not in change.new:
        return new
    return {**_named(table, change.old), **new}


def _size(*rows: Row | None) -> int:
    return sum(
        len(value) for row in rows if row for value in row if isinstance(value, str)
    )


# Values ------------------------------------------------------------------------------


def _number(text: str) -> bytes:
    return b"null" if text in NOT_JSON_NUMBERS else text.encode()


def _bool(text: str) -> bytes:
    return b"true" if text == "t" else b"false"


def _verbatim(text: str) -> bytes:
    return text.encode()


def _timestamp(text: str) -> bytes:
    date, blank, rest = text.partition(" ")
    if not blank:
        return orjson.dumps(text)  # infinity
    clock, era, _ = rest.partition(" BC")
    sign = max(clock.rfind("+"), clock.rfind("-"))
    if sign > 0 and len(clock) - sign == 3:
        clock += ":00"  # JSON offsets always have minutes
    return orjson.dumps(f"{date}T{clock}{era}")


def _bytea(text: str) -> bytes:
    return orjson.dumps(text.removeprefix("\\x"))


def _string(text: str) -> bytes:
    return orjson.dumps(text)


FORMS: dict[str, Callable[[str], bytes]] = {
    "number": _number,
    "bool": _bool,
    "verbatim": _verbatim,
    "timestamp": _timestamp,
    "bytea": _bytea,
    "string": _string,
}


def _array(text: str, encode: Callable[[str], bytes]) -> bytes:
    """Rewrite an array literal of any depth as JSON."""
    # Unusual lower bounds stand in front: [0:1]={..}
    start = text.index("{") if text.startswith("[") else 0
    out: list[bytes] = []
    index = start
    while index < len(text):
        char = text[index]
        if char in "{},":
            out.append({"{": b"[", "}": b"]", ",": b","}[char])
            index += 1
        elif char == '"':
            item, index = _quoted_item(text, index + 1)
            out.append(encode(item))
        else:
            end = index
            while text[end] not in ",}":
                end += 1
            item = text[index:end]
            out.append(b"null" if item == "NULL" else encode(item))
            index = end
    return b"".join(out)


def _quoted_item(text: str, start: int) -> tuple[str, int]:
    chars = []
    index = start
    while text[index] != '"':
        if text[index] == "\\":
            index += 1
        chars.append(text[index])
        index += 1
    return "".join(chars), index + 1
