"""The body of a write: JSON, CSV or a form, and the columns it brings.

PostgreSQL reads the values out of the JSON text itself; here only the shape is checked
(one object, or objects with the same keys).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from harness.protocols.postgrest_errors import body_invalid
from harness.protocols.postgrest_media import CSV, FORM, JSON, OCTETS, TEXT, XML

__all__ = ["Payload", "call_payload", "write_payload"]

CSV_NULL = "NULL"
RAW_TYPES = (TEXT, XML, OCTETS)


class Payload(NamedTuple):
    """A body as JSON text (or raw bytes), with the keys of its objects.

    ``is_object`` tells a single object from an array; ``rows`` are the parsed objects
    where they were needed.
    """

    text: bytes
    keys: tuple[str, ...]
    is_object: bool
    value: Any = None


EMPTY = Payload(b"[]", (), is_object=False, value=[])


def write_payload(
    body: bytes, content_type: str, columns: Sequence[str] | None
) -> Payload:
    """Return the payload of an insert or update; raises ``RestError``."""
    if content_type == JSON:
        return _json(body, columns)
    if content_type == CSV:
        return _csv(body, columns)
    if content_type == FORM:
        return _of_object(dict(_form(body)), columns)
    raise body_invalid(f"Content-Type not acceptable: {content_type}")


def call_payload(
    body: bytes, content_type: str, columns: Sequence[str] | None
) -> Payload:
    """Return the arguments of a function call; raises ``RestError``.

    For a form, ``value`` is the list of pairs, because a name may come twice.
    """
    if content_type in RAW_TYPES:
        return Payload(body, (), is_object=False)
    if content_type == FORM:
        pairs = _form(body)
        return Payload(b"", tuple(dict.fromkeys(k for k, _ in pairs)), True, pairs)
    if not body and content_type == JSON:
        return Payload(b"{}", (), is_object=True, value={})
    return write_payload(body, content_type, columns)


def _json(body: bytes, columns: Sequence[str] | None) -> Payload:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise body_invalid("Empty or invalid json") from exc
    if columns is not None:
        return Payload(body, tuple(columns), isinstance(value, dict), value)
    if isinstance(value, dict):
        return Payload(body, tuple(value), is_object=True, value=value)
    if not isinstance(value, list) or not value:
        # PostgREST takes any other JSON value for an array without objects.
        return EMPTY
    return Payload(body, _same_keys(value), is_object=False, value=value)


def _same_keys(rows: list[Any]) -> tuple[str, ...]:
    first = rows[0]
    if isinstance(first, dict):
        keys = first.keys()
        if all(isinstance(row, dict) and row.keys() == keys for row in rows):
            return tuple(first)
    raise body_invalid("All object keys must match")


def _csv(body: bytes, columns: Sequence[str] | None) -> Payload:
    try:
        text = body.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise body_invalid(f"Empty or invalid csv: {exc}") from exc
    rows = [row for row in rows if row]
    if not rows:
        raise body_invalid("Empty or invalid csv")
    header = rows[0]
    if any(len(row) != len(header) for row in rows):
        raise body_invalid("All lines must have same number of fields")
    objects = [
        {k: None if v == CSV_NULL else v for k, v in zip(header, row, strict=True)}
        for row in rows[1:]
    ]
    keys = tuple(columns) if columns is not None else tuple(dict.fromkeys(header))
    return Payload(_dump(objects), keys, is_object=False, value=objects)


def _of_object(value: dict[str, str], columns: Sequence[str] | None) -> Payload:
    keys = tuple(columns) if columns is not None else tuple(value)
    return Payload(_dump(value), keys, is_object=True, value=value)


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError as exc:
        raise body_invalid("Empty or invalid form") from exc


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as exc:
        raise body_invalid(f"Body cannot be put as JSON: {exc}") from exc
