"""The query string of a PostgREST request, parsed into what it asks for.

This module sorts the parameters (``select``, ``order``, ``limit``, filters, logic
trees, function arguments); each grammar has its own module beside this one.  Nothing
here knows the schema: names may not exist.

Source: PostgREST v14, "Tables and Views", "Resource Embedding", "Functions as RPC".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from harness.protocols.postgrest_errors import RestError, range_unsatisfiable
from harness.protocols.postgrest_filters import (
    Filter,
    Literal,
    Logic,
    Path,
    filter_with_value,
    operation_prefix,
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

__all__ = [
    "EVERYTHING",
    "Query",
    "RowRange",
    "Shape",
    "canonical_query",
    "parse_query",
    "parse_shape",
    "query_shape",
]

RESERVED = frozenset({"select", "columns", "on_conflict"})
SPECIAL = frozenset({"limit", "offset", "order", "and", "or"})


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


class Shape(NamedTuple):
    """A query string taken apart: what it asks for, and the values it asks with.

    Two requests with equal ``parts`` differ in ``values`` only, so that what was worked
    out for one serves the other.
    """

    parts: tuple[tuple[str, str | None, int], ...]
    values: tuple[str, ...]


def query_shape(raw: str) -> Shape:
    """Return the shape of a raw query string; raises ``RestError``."""
    parts: list[tuple[str, str | None, int]] = []
    values: list[str] = []
    for key, value in split_query(raw):
        split = operation_prefix(value) if value and _is_filter(key) else None
        if split is None:
            parts.append((key, value, -1))
        else:
            parts.append((key, split[0], len(values)))
            values.append(split[1])
    return Shape(tuple(parts), tuple(values))


@lru_cache(maxsize=1024)
def _is_filter(key: str) -> bool:
    return key not in RESERVED and key.rpartition(".")[2] not in SPECIAL


def parse_shape(shape: Shape) -> Query:
    """Return what the query asks for, its values marked by their slots."""
    query = Query()
    reader = _Reader(query, arguments_allowed=False)
    for key, text, slot in shape.parts:
        if slot < 0:
            reader.read(key, text)
        else:
            value = Literal(shape.values[slot])
            value.slot = slot
            query.filters.append(filter_with_value(key, text or "", value))
    reader.finish()
    return query


def parse_query(raw: str, *, arguments_allowed: bool = False) -> Query:
    """Return what the raw (percent-encoded) query string asks for.

    With ``arguments_allowed`` (a function called by GET), a parameter that is no
    filter is an argument.  Raises ``RestError``.
    """
    query = Query()
    if raw:
        reader = _Reader(query, arguments_allowed=arguments_allowed)
        for key, value in split_query(raw):
            reader.read(key, value)
        reader.finish()
    return query


class _Reader:
    """Sorts the parameters of one query string."""

    def __init__(self, query: Query, *, arguments_allowed: bool) -> None:
        self._query = query
        self._arguments_allowed = arguments_allowed
        self._limits: dict[Path, int] = {}
        self._offsets: dict[Path, int] = {}
        self._seen: set[str] = set()

    def read(self, key: str, value: str | None) -> None:
        """Take one parameter; the first of several equal reserved ones counts."""
        if value is None:
            return
        query = self._query
        last = key.rpartition(".")[2]
        if key in RESERVED:
            if key not in self._seen:
                _reserved(query, key, value)
            self._seen.add(key)
        elif last == "limit":
            _number(self._limits, key, value)
        elif last == "offset":
            _number(self._offsets, key, value)
        elif last == "order":
            path, _ = parse_path(key)
            query.orders[path] = parse_order(value)
        elif last in ("and", "or"):
            query.logic.append(parse_logic(key, value))
        elif self._arguments_allowed and _is_argument(key, value):
            query.arguments.append((key, value))
        else:
            query.filters.append(parse_filter(key, value))

    def finish(self) -> None:
        """Put limits and offsets together once all are read."""
        for path in {**self._limits, **self._offsets}:
            limit, offset = self._limits.get(path), self._offsets.get(path, 0)
            self._query.ranges[path] = _range(limit, offset)


def _is_argument(key: str, value: str) -> bool:
    return "." not in key and not starts_as_operation(value)


def split_query(raw: str) -> list[tuple[str, str | None]]:
    """Split a query string at ``&`` and ``;`` and decode both sides."""
    pairs: list[tuple[str, str | None]] = []
    plain = "%" not in raw and "+" not in raw and raw.isascii()
    for part in raw.replace(";", "&").split("&"):
        if not part:
            continue
        key, equals, value = part.partition("=")
        if plain:
            pairs.append((key, value if equals else None))
        else:
            pairs.append((_decode(key), _decode(value) if equals else None))
    return pairs


def canonical_query(raw: str) -> str:
    """Return the query string with its parameters sorted, for ``Content-Location``."""
    return "&".join(sorted(raw.split("&"))) if "&" in raw else raw


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
