"""The filters of ``postgres_changes``: ``column=[not.]operator.value`` and commas.

:func:`parse_filters` reads the text a client sent; :func:`predicate` turns one filter
into a test of a text value, for the types whose printed form says everything, and
returns ``None`` where PostgreSQL has to decide (collations, patterns, intervals).
SQL's rule holds throughout: a comparison with NULL is neither true nor negatably false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from harness.errors import RemoteProtocolError

__all__ = [
    "OPERATORS",
    "Filter",
    "FilterSyntaxError",
    "Predicate",
    "array_literal",
    "parse_filters",
    "predicate",
    "read_array",
    "split_list",
]

OPERATORS = (
    "eq",
    "neq",
    "lt",
    "lte",
    "gt",
    "gte",
    "in",
    "like",
    "ilike",
    "is",
    "match",
    "imatch",
    "isdistinct",
)
# Equal values of these types print alike, and unequal ones do not.
CANONICAL_TYPES = frozenset(
    {"int2", "int4", "int8", "oid", "uuid", "bool", "text", "varchar", "name", "enum"}
    | {"date", "time", "timestamp", "timestamptz"}
)
INTEGER_TYPES = frozenset({"int2", "int4", "int8", "oid"})
IS_TEXTS = {"null": None, "unknown": None, "true": "t", "false": "f"}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}

Predicate = Callable[[str | None], bool]


class FilterSyntaxError(RemoteProtocolError):
    """A filter that cannot be read; the message is what the subscriber is told."""


class Filter(NamedTuple):
    """One condition; ``value`` of an ``in`` is a PostgreSQL array literal."""

    column: str
    op: str
    value: str
    negate: bool = False

    def __str__(self) -> str:
        """Return the filter as error messages of the service show it."""
        column, op, value = (
            orjson.dumps(part).decode() for part in (self.column, self.op, self.value)
        )
        return f"{{{column}, {op}, {value}, {str(self.negate).lower()}}}"


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Return the conditions of ``text``, all of which must hold; none when blank."""
    if not text.strip():
        return ()
    segments = split_list(text)
    if any(not segment.strip() for segment in segments):
        raise FilterSyntaxError(
            "filter must not contain empty segments (check for extra commas)"
        )
    return tuple(_parse_filter(segment.strip()) for segment in segments)


def split_list(text: str, *, parentheses: bool = True) -> list[str]:
    """Split at commas outside of quotes and, unless told otherwise, parentheses."""
    parts, start, depth, quoted, escaped = [], 0, 0, False, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif parentheses and not quoted and char == "(":
            depth += 1
        elif parentheses and not quoted and char == ")":
            depth = max(0, depth - 1)
        elif char == "," and not quoted and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def array_literal(items: list[str]) -> str:
    """Return a PostgreSQL array of text items, quoted where they need it."""
    return "{" + ",".join(_array_item(item) for item in items) + "}"


def predicate(condition: Filter, type_name: str) -> Predicate | None:
    """Return a test of a column's text value, or ``None`` where only SQL can tell.

    ``condition.value`` must be in the type's canonical form, as PostgreSQL prints it.
    """
    op, negate = condition.op, condition.negate
    if op == "is":
        wanted = IS_TEXTS[condition.value.lower()]
        return lambda value: (value == wanted) is not negate
    if op == "in":
        return _membership(condition, type_name)
    if op == "isdistinct":
        if type_name not in CANONICAL_TYPES:
            return None
        other = condition.value
        return lambda value: (value != other) is not negate
    if op in COMPARISONS:
        return _comparison(condition, type_name)
    return None


def _parse_filter(segment: str) -> Filter:
    column, separator, rest = segment.partition("=")
    params = [column, rest] if separator else [column]
    name, _, value = rest.partition(".")
    negate = name == "not"
    if negate:
        name, _, value = value.partition(".")
    if not column or name not in OPERATORS or not rest.partition(".")[1]:
        shown = ", ".join(orjson.dumps(part).decode() for part in params)
        raise FilterSyntaxError(f"Error parsing `filter` params: [{shown}]")
    if name == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise FilterSyntaxError("`in` filter value must be wrapped by parentheses")
        inner = value[1:-1]
        items = [_unquote(item) for item in split_list(inner)] if inner else []
        return Filter(column, name, array_literal(items), negate)
    return Filter(column, name, _unquote(value), negate)


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    chars, escaped = [], False
    for char in text[1:-1]:
        if char == "\\" and not escaped:
            escaped = True
            continue
        chars.append(char)
        escaped = False
    return "".join(chars)


def _array_item(item: str) -> str:
    plain = item and not any(c in '{},"\\' or c.isspace() for c in item)
    if plain and item.lower() != "null":
        return item
    return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _comparison(condition: Filter, type_name: str) -> Predicate | None:
    compare, negate = COMPARISONS[condition.op], condition.negate
    if type_name in INTEGER_TYPES:
        number = int(condition.value)
        return lambda value: (
            value is not None and compare(int(value), number) is not negate
        )
    if type_name == "numeric":
        amount = Decimal(condition.value)
        if not amount.is_finite():
            return None
        return lambda value: (
            value is not None and _compare_numeric(compare, value, amount) is not negate
        )
    if condition.op in ("eq", "neq") and type_name in CANONICAL_TYPES:
        text = condition.value
        return lambda value: value is not None and compare(value, text) is not negate
    return None


def _compare_numeric(
    compare: Callable[[Any, Any], bool], value: str, amount: Decimal
) -> bool:
    number = Decimal(value)
    # PostgreSQL sorts NaN after every number, infinity included.
    return compare(Decimal("Infinity") if number.is_nan() else number, amount)


def _membership(condition: Filter, type_name: str) -> Predicate | None:
    if type_name not in CANONICAL_TYPES:
        return None
    members = frozenset(read_array(condition.value))
    negate = condition.negate
    if not members:
        # Nothing equals any of nothing: false, even for NULL.
        return lambda value: negate
    return lambda value: value is not None and (value in members) is not negate


def read_array(literal: str) -> list[str]:
    """Return the items of a one-dimensional array literal without NULLs."""
    inner = literal[1:-1]
    if not inner:
        return []
    return [_unquote(item) for item in split_list(inner, parentheses=False)]
