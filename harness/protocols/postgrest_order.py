"""The ``order`` grammar: fields, fields of embedded resources, direction, nulls."""

from __future__ import annotations

from typing import Literal, NamedTuple

from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_scanner import AFTER_NAME, Field, Scanner

__all__ = ["OrderTerm", "parse_order"]

DIRECTIONS = ("asc", "desc")
NULLS = ("nullsfirst", "nullslast")
AFTER_TERM = ("delimiter (.)", '","', "end of input")


class OrderTerm(NamedTuple):
    """One sort key; ``relation`` names the embedded resource it belongs to."""

    field: Field
    relation: str | None = None
    direction: Literal["ASC", "DESC"] | None = None
    nulls: Literal["NULLS FIRST", "NULLS LAST"] | None = None


def parse_order(text: str) -> tuple[OrderTerm, ...]:
    """Return the sort keys of an ``order`` parameter; raises ``RestError``."""
    scanner = Scanner(text, "order")
    terms = [_term(scanner)]
    while scanner.take(","):
        terms.append(_term(scanner))
    scanner.end('","')
    return tuple(terms)


def _term(scanner: Scanner) -> OrderTerm:
    scanner.blank()
    name = scanner.name()
    if scanner.peek("("):
        return _relation_term(scanner, name)
    field = Field(name, scanner.json_path())
    direction, nulls = _direction(scanner)
    _term_end(scanner, field, direction, nulls)
    return OrderTerm(field, None, direction, nulls)


def _relation_term(scanner: Scanner, name: str) -> OrderTerm:
    """Read the rest of ``relation(field)``; a mistake anywhere in it is its bracket."""
    start = scanner.pos
    try:
        scanner.expect("(")
        field = scanner.field()
        scanner.expect(")")
        direction, nulls = _direction(scanner)
        _term_end(scanner, field, direction, nulls)
    except RestError:
        scanner.pos = start
        raise scanner.error(*AFTER_NAME, *AFTER_TERM, quote="'") from None
    return OrderTerm(field, name, direction, nulls)


def _term_end(
    scanner: Scanner, field: Field, direction: str | None, nulls: str | None
) -> None:
    scanner.blank()
    if scanner.at_end() or scanner.peek(","):
        return
    if nulls is not None:
        raise scanner.error('","', "end of input", quote="'")
    if scanner.take("."):
        words = NULLS if direction is not None else DIRECTIONS + NULLS
        quoted = [f'"{word}"' for word in words]
        raise scanner.error(*quoted, instead_of=words[0])
    before = () if direction is not None or field.path else AFTER_NAME
    raise scanner.error(*before, *AFTER_TERM, quote="'")


def _direction(
    scanner: Scanner,
) -> tuple[Literal["ASC", "DESC"] | None, Literal["NULLS FIRST", "NULLS LAST"] | None]:
    direction: Literal["ASC", "DESC"] | None = None
    nulls: Literal["NULLS FIRST", "NULLS LAST"] | None = None
    if scanner.take(".asc"):
        direction = "ASC"
    elif scanner.take(".desc"):
        direction = "DESC"
    if scanner.take(".nullsfirst"):
        nulls = "NULLS FIRST"
    elif scanner.take(".nullslast"):
        nulls = "NULLS LAST"
    return direction, nulls
