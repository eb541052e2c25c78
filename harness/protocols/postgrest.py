"""The query string of a PostgREST request, parsed into what it asks for.

This module sorts the parameters (``select``, ``order``, ``limit``, filters, logic
trees, function arguments); each grammar has its own module beside this one.  Nothing
here knows the schema: names may not exist.

Source: PostgREST v14, "Tables and Views", "Resource Embedding", "Functions as RPC".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote_plus, unquote_to_bytes

from harness.protocols.postgrest_errors import RestError, range_unsatisfiable
from harness.protocols.postgrest_filters import (
    Filter,
    Logic,
    Path,
    parse_columns,
    parse_filter,
    parse_logic,
    parse_path,
    starts_as_operation,
)
from harness.protocols.postgrest_order import OrderTerm, parse_order
from harness.protocols.postgrest_scanner import Field
from harness.protocols.postgrest_select import (
    ALL_COLUMNS,
    SelectEmbed,
    SelectField,
    parse_select,
)

__all__ = ["EVERYTHING", "Query", "RowRange", "canonical_query", "parse_query"]

RESERVED = frozenset({"select", "columns", "on_conflict"})
Parameters = Sequence[tuple[str, str | None]]


class RowRange(NamedTuple):
    """Rows to skip and rows to return at most; ``None`` is no limit."""

    offset: int = 0
    limit: int | None = None


EVERYTHING = RowRange()
ALL_FIELDS: tuple[SelectField | SelectEmbed, ...] = (SelectField(Field(ALL_COLUMNS)),)


@dataclass(slots=True)
class Query:
    """What a query string asks for; keys of ``orders`` and ``ranges`` are embeds."""

    select: tuple[SelectField | SelectEmbed, ...] = ALL_FIELDS
    filters: list[tuple[Path, Filter]] = field(default_factory=list)
    logic: list[tuple[Path, Logic]] = field(default_factory=list)
    orders: dict[Path, tuple[OrderTerm, ...]] = field(default_factory=dict)
    ranges: dict[Path, RowRange] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    arguments: list[tuple[str, str]] = field(default_factory=list)


def parse_query(raw: str, *, arguments_allowed: bool = False) -> Query:
    """Return what the raw (percent-encoded) query string asks for.

    With ``arguments_allowed`` (a function called by GET), a parameter that is no
    filter is an argument.  Raises ``RestError``.
    """
    query = Query()
    if not raw:
        return query
    limits: dict[Path, int] = {}
    offsets: dict[Path, int] = {}
    seen: set[str] = set()
    for key, value in split_query(raw):
        if value is None:
            continue
        last = key.rpartition(".")[2]
        if key in RESERVED:
            if key not in seen:
                _reserved(query, key, value)
            seen.add(key)
        elif last == "limit":
            _number(limits, key, value)
        elif last == "offset":
            _number(offsets, key, value)
        elif last == "order":
            path, _ = parse_path(key)
            query.orders[path] = parse_order(value)
        elif last in ("and", "or"):
            query.logic.append(parse_logic(key, value))
        elif arguments_allowed and "." not in key and not starts_as_operation(value):
            query.arguments.append((key, value))
        else:
            query.filters.append(parse_filter(key, value))
    for path in {**limits, **offsets}:
        query.ranges[path] = _range(limits.get(path), offsets.get(path, 0))
    return query


def split_query(raw: str) -> list[tuple[str, str | None]]:
    """Split a query string at ``&`` and ``;`` and decode both sides."""
    pairs: list[tuple[str, str | None]] = []
    for part in raw.replace(";", "&").split("&"):
        if part:
            key, equals, value = part.partition("=")
            pairs.append((_decode(key), _decode(value) if equals else None))
    return pairs


def canonical_query(raw: str) -> str:
    """Return the query string with its parameters sorted, for ``Content-Location``."""
    pairs = sorted(split_query(raw), key=lambda pair: pair[0])
    return "&".join(f"{quote_plus(k)}={quote_plus(v or '')}" for k, v in pairs)


def _decode(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text and text.isascii():
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as exc:
        message = 'invalid byte sequence for encoding "UTF8" in the query string'
        raise RestError(400, "22021", message) from exc


def _reserved(query: Query, key: str, value: str) -> None:
    if key == "select":
        query.select = parse_select(value)
    elif key == "columns":
        query.columns = parse_columns(value, "columns")
    else:
        query.on_conflict = parse_columns(value, "on_conflict")


def _number(numbers: dict[Path, int], key: str, value: str) -> None:
    path, _ = parse_path(key)
    digits = value.strip()
    # PostgREST passes over what is no number; so does this.
    if digits.removeprefix("-").isdecimal() and digits.isascii():
        numbers[path] = int(digits[:40])


def _range(limit: int | None, offset: int) -> RowRange:
    if limit is not None and limit < 0:
        raise range_unsatisfiable("Limit should be greater than or equal to zero.")
    return RowRange(offset, limit)
