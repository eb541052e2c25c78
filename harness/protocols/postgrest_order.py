"""The ``order`` grammar: fields, fields of embedded resources, direction, nulls."""

from __future__ import annotations

from typing import Literal, NamedTuple

from harness.protocols.postgrest_scanner import Field, Scanner

__all__ = ["OrderTerm", "parse_order"]


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
    relation = None
    if scanner.take("("):
        relation, field = name, scanner.field()
        scanner.expect(")")
    else:
        field = Field(name, scanner.json_path())
    direction, nulls = _direction(scanner)
    scanner.blank()
    if not (scanner.at_end() or scanner.peek(",")):
        raise scanner.error("delimiter (.)", '","', "end of input")
    return OrderTerm(field, relation, direction, nulls)


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
