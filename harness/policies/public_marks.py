"""Marks in a row that make it public on purpose: a flag, a state, a publication date.

A condition that asks both for the caller and for such a mark (``owner or is_public``,
often inside a helper) admits strangers by design to rows that bear the mark, whether
the row itself bears it or something that it hangs on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pglast import enums

from harness.db.catalog import Catalog, Name, Relation
from harness.policies.comparisons import Clock, Col, Comparison, Const, Opaque, Reading
from harness.policies.population import Population, StoredRow
from harness.policies.syntax import Tree, ast, parse_condition

__all__ = ["Mark", "bears", "is_closed", "marks_of", "shuts"]

OBJECTS = Name("storage", "objects")
USERS = Name("auth", "users")
PUBLIC_VALUES = frozenset(
    (
        "public",
        "published",
        "true",
        "open",
        "everyone",
        "all",
        "visible",
        "live",
        "anyone",
        "world",
        "listed",
        "unlisted",
        "link",
        "shared",
        "released",
    )
)
SHUT_NAME = re.compile(r"private|hidden|draft|internal|secret|locked|banned|blocked")
OPENING_NAME = re.compile(r"publi|releas|visib|live|open|list|shar|reveal|embargo")
CLOSED_NAME = re.compile(r"private|hidden|draft|internal|secret|confidential|deleted")
CLOSED_VALUES = frozenset(
    (
        "private",
        "only_me",
        "internal",
        "draft",
        "hidden",
        "secret",
        "confidential",
        "personal",
    )
)
AUDIENCE_NAME = re.compile(r"^(visib\w*|privacy\w*|audience|sharing)$")
MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """A column and what it says of a public row: a value, a truth, a date."""

    column: Col
    kind: str
    values: tuple[str, ...] = ()

    def of(self, row: StoredRow) -> bool:
        """Say whether ``row``, of the column's table, bears the mark."""
        value = row.text(self.column.column)
        if self.kind == "value":
            return value in self.values
        if self.kind == "truth":
            shut = bool(SHUT_NAME.search(self.column.column))
            return value == ("false" if shut else "true")
        return value is not None


def marks_of(reading: Reading) -> tuple[Mark, ...]:
    """Return the marks that an expression asks for."""
    return tuple(
        dict.fromkeys(
            mark for comparison in reading.comparisons for mark in _marks(comparison)
        )
    )


def is_closed(relation: Relation, row: StoredRow) -> bool:
    """Say whether a row's own audience is its owner: ``visibility = 'private'``."""
    return any(
        AUDIENCE_NAME.search(column.name)
        and row.text(column.name) in ("private", "only_me", "secret", "personal")
        for column in relation.columns
    )


def shuts(condition: str) -> bool:
    """Say whether a condition holds of what is closed: ``internal``, not public."""
    node: Tree = parse_condition(condition)
    if isinstance(node, ast.ColumnRef):
        name = node.fields[-1]
        return isinstance(name, ast.String) and bool(CLOSED_NAME.search(name.sval))
    if not isinstance(node, ast.A_Expr) or node.kind != enums.A_Expr_Kind.AEXPR_OP:
        return False
    value = _constant(node.rexpr) or _constant(node.lexpr)
    operator = node.name[-1].sval
    return (operator == "=" and value in CLOSED_VALUES) or (
        operator in ("<>", "!=") and value in PUBLIC_VALUES
    )


def _constant(node: Tree) -> str:
    while isinstance(node, ast.TypeCast):
        node = node.arg
    text = isinstance(node, ast.A_Const) and isinstance(node.val, ast.String)
    return str(node.val.sval) if text else ""


def _marks(comparison: Comparison) -> Iterator[Mark]:
    for left, right in comparison.pairs():
        if not isinstance(left, Col) or left.path:
            continue
        if isinstance(right, Const):
            public = tuple(v for v in right.values if v.lower() in PUBLIC_VALUES)
            truth = "true" in public or "false" in right.values
            if truth:
                yield Mark(left, "truth")
            elif public:
                yield Mark(left, "value", public)
        elif isinstance(right, Opaque) and comparison.operator == "is true":
            yield Mark(left, "truth")
        elif OPENING_NAME.search(left.column) and (
            isinstance(right, Clock) or comparison.operator == "is null"
        ):
            yield Mark(left, "date")


def bears(
    row: StoredRow,
    marks: tuple[Mark, ...],
    catalog: Catalog,
    population: Population,
) -> bool:
    """Say whether the row, or a row that it hangs on, bears one of ``marks``."""
    tables = {mark.column.table for mark in marks}
    return any(
        mark.of(near)
        for near in _above(row, tables, catalog, population, MAX_DEPTH)
        for mark in marks
        if mark.column.table == near.table
    )


def _above(
    row: StoredRow,
    tables: set[Name],
    catalog: Catalog,
    population: Population,
    depth: int,
) -> Iterator[StoredRow]:
    if row.table in tables:
        yield row
    if row.table == OBJECTS:
        folders = set((row.text("name") or "").split("/"))
        for table in tables:
            for above in population.of(table):
                if folders & {str(value) for value in above.values.values()}:
                    yield above
    if depth == 0:
        return
    for key in catalog.relations[row.table].foreign_keys:
        wanted = [row.text(column) for column in key.columns]
        for above in population.of(key.target):
            if wanted == [above.text(c) for c in key.target_columns]:
                yield from _above(above, tables, catalog, population, depth - 1)
        if key.target == USERS:
            yield from _beside(wanted[0], tables, catalog, population)


def _beside(
    user: str | None,
    tables: set[Name],
    catalog: Catalog,
    population: Population,
) -> Iterator[StoredRow]:
    """Yield the rows that are a user's own by their key, as a profile is."""
    for table in tables:
        key = catalog.relations[table].primary_key
        if len(key) == 1 and user is not None:
            yield from (r for r in population.of(table) if r.text(key[0]) == user)
