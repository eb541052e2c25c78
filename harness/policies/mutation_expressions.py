"""Faults in one boolean expression: its tree is changed in one place and deparsed.

Conditions are the operands of AND, OR and NOT, the WHERE clauses of subqueries and the
conditions of joins.  The tree is restored after each change, so that one parse serves
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pglast
from pglast import enums
from pglast.parser import ParseError

from harness.db.catalog import Catalog
from harness.policies.syntax import Scope, Tree, ast, deparse, scope_of

__all__ = ["Variation", "statement_variations", "variations"]

MAX_OTHER_COLUMNS = 2
CONDITION_FIELDS = ("whereClause", "quals")
AND, OR, NOT = (
    enums.BoolExprType.AND_EXPR,
    enums.BoolExprType.OR_EXPR,
    enums.BoolExprType.NOT_EXPR,
)


@dataclass(frozen=True, slots=True)
class Variation:
    """A changed expression, by which operator, and what was changed to what."""

    operator: str
    sql: str
    change: str


@dataclass(frozen=True, slots=True)
class Place:
    """A node, the scope around it, how to put another there; whether it is boolean."""

    node: Tree
    scope: Scope
    put: Callable[[Tree], None]
    condition: bool


Change = tuple[str, Callable[[], None], Callable[[], None], str]


def variations(text: str, scope: Scope, catalog: Catalog) -> Iterator[Variation]:
    """Yield the faults of a boolean expression; none if it does not parse."""
    try:
        statement: Tree = pglast.parse_sql(f"select ({text})")[0].stmt
    except ParseError:
        return
    target = statement.targetList[0]
    places = list(_places(target.val, scope, _putter(target, "val"), condition=True))
    yield from _vary(places, lambda: deparse(target.val), catalog)


def statement_variations(text: str, catalog: Catalog) -> Iterator[Variation]:
    """Yield the faults of the conditions in a text of SQL statements."""
    try:
        statements: list[Tree] = [raw.stmt for raw in pglast.parse_sql(text)]
    except ParseError:
        return
    for statement in statements:
        places = list(_places(statement, Scope({}), _keep, condition=False))
        yield from _vary(
            places, lambda: ";\n".join(deparse(s) for s in statements), catalog
        )


def _vary(
    places: list[Place], show: Callable[[], str], catalog: Catalog
) -> Iterator[Variation]:
    original = show()
    for place in places:
        for operator, apply, undo, change in _changes(place, catalog):
            apply()
            try:
                changed = show()
            finally:
                undo()
            if changed != original:
                yield Variation(operator, changed, change)


def _keep(node: Tree) -> None:
    """Leave the top of a statement where it is: nothing replaces it."""


def _places(
    node: Tree, outer: Scope, put: Callable[[Tree], None], *, condition: bool
) -> Iterator[Place]:
    scope = scope_of(node, outer)
    yield Place(node, scope, put, condition)
    for attribute in node:
        value = getattr(node, attribute)
        boolean = attribute in CONDITION_FIELDS or isinstance(node, ast.BoolExpr)
        if isinstance(value, ast.Node):
            yield from _places(
                value, scope, _putter(node, attribute), condition=boolean
            )
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, ast.Node):
                    put_item = _item_putter(node, attribute, index)
                    yield from _places(item, scope, put_item, condition=boolean)


def _putter(owner: Tree, attribute: str) -> Callable[[Any], None]:
    return lambda node: setattr(owner, attribute, node)


def _item_putter(owner: Tree, attribute: str, index: int) -> Callable[[Tree], None]:
    def put(node: Tree) -> None:
        items = getattr(owner, attribute)
        setattr(owner, attribute, (*items[:index], node, *items[index + 1 :]))

    return put


def _changes(place: Place, catalog: Catalog) -> Iterator[Change]:
    if place.condition:
        if isinstance(place.node, ast.BoolExpr):
            yield from _of_connective(place)
        else:
            negated = ast.BoolExpr(boolop=NOT, args=(place.node,))
            told = f"{deparse(place.node)} is negated"
            yield _replacing(place, "condition_negated", negated, told)
    if isinstance(place.node, ast.A_Expr):
        yield from _of_comparison(place, catalog)
    if isinstance(place.node, (ast.A_Indirection, ast.FuncCall)):
        yield from _of_folder(place)


def _replacing(place: Place, operator: str, new: Tree, change: str) -> Change:
    return _exchanging(operator, place.put, place.node, new, change)


def _exchanging(
    operator: str, put: Callable[[Any], None], old: Any, new: Any, change: str
) -> Change:
    """Return the change that puts ``new`` where ``old`` is, and takes it back."""
    return operator, lambda: put(new), lambda: put(old), change


def _of_connective(place: Place) -> Iterator[Change]:
    node = place.node
    if node.boolop == NOT:
        told = f"NOT is dropped before {deparse(node.args[0])}"
        yield _replacing(place, "negation_dropped", node.args[0], told)
        return
    kind = "conjunct" if node.boolop == AND else "disjunct"
    for index, dropped in enumerate(node.args):
        rest = (*node.args[:index], *node.args[index + 1 :])
        left = (
            rest[0] if len(rest) == 1 else ast.BoolExpr(boolop=node.boolop, args=rest)
        )
        told = f"{deparse(dropped)} is dropped"
        yield _replacing(place, f"{kind}_dropped", left, told)
    other = OR if node.boolop == AND else AND
    swapped = ast.BoolExpr(boolop=other, args=node.args)
    told = f"{_word(node.boolop)} becomes {_word(other)} in {deparse(node)}"
    yield _replacing(place, "and_or_swapped", swapped, told)


def _word(connective: enums.BoolExprType) -> str:
    return "AND" if connective == AND else "OR"


def _of_comparison(place: Place, catalog: Catalog) -> Iterator[Change]:
    for mine, theirs in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
        column = _bare_column(getattr(place.node, mine))
        if column is None:
            continue
        yield from _other_columns(column, place.scope, catalog)
        other = getattr(place.node, theirs)
        if isinstance(other, ast.Node) and "auth.uid()" in deparse(other):
            told = f"{deparse(place.node)} compares {deparse(column)} with itself"
            itself = getattr(place.node, mine)
            put = _putter(place.node, theirs)
            yield _exchanging("compared_with_itself", put, other, itself, told)


def _bare_column(node: Tree) -> Tree | None:
    while isinstance(node, ast.TypeCast):
        node = node.arg
    if not isinstance(node, ast.ColumnRef):
        return None
    return node if all(isinstance(f, ast.String) for f in node.fields) else None


def _other_columns(column: Tree, scope: Scope, catalog: Catalog) -> Iterator[Change]:
    fields = tuple(field.sval for field in column.fields)
    table = scope.resolve(fields, catalog)
    relation = catalog.relations.get(table) if table is not None else None
    if relation is None or not relation.has_column(fields[-1]):
        return
    wanted = relation.column(fields[-1]).base_type
    others = [
        c.name
        for c in relation.columns
        if c.base_type == wanted and c.name != fields[-1]
    ]
    for name in others[:MAX_OTHER_COLUMNS]:
        old = column.fields
        new = (*old[:-1], ast.String(sval=name))
        told = f"{name} stands in place of {fields[-1]}"
        yield _exchanging("column_swapped", _putter(column, "fields"), old, new, told)


def _of_folder(place: Place) -> Iterator[Change]:
    number = _folder_number(place.node)
    if number is None:
        return
    old = number.ival
    new = 2 if old == 1 else 1
    told = f"folder {old} becomes folder {new}"
    yield _exchanging("folder_index_moved", _putter(number, "ival"), old, new, told)


def _folder_number(node: Tree) -> Tree | None:
    """Return the integer that says which part of a path is meant."""
    if isinstance(node, ast.A_Indirection):
        called = node.arg
        if not isinstance(called, ast.FuncCall) or _called(called) != "foldername":
            return None
        index = node.indirection[0]
        constant = getattr(index, "uidx", None)
    elif _called(node) == "split_part" and len(node.args or ()) == 3:
        constant = node.args[2]
    else:
        return None
    value = constant.val if isinstance(constant, ast.A_Const) else None
    return value if isinstance(value, ast.Integer) else None


def _called(call: Tree) -> str:
    return str(call.funcname[-1].sval)
