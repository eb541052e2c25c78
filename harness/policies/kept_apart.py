"""Columns of one row that a check keeps apart: two users, two wallets, an ordered pair.

Keys are not drawn freely, but taken from users and rows that exist, so that what a
check says of two of them has to be heeded where they are taken.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pglast import enums

from harness.db.catalog import Relation
from harness.policies.syntax import Scope, Tree, ast, parse_condition, walk

__all__ = ["agree"]

Compare = Callable[[Any, Any], bool]
COMPARED: Mapping[str, Compare] = {
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def agree(relation: Relation, values: Mapping[str, str | None]) -> bool:
    """Say whether ``values`` heed what checks demand of pairs of columns."""
    return all(
        _holds(compare, values.get(left), values.get(right))
        for check in relation.checks
        if len(check.columns) > 1
        for left, compare, right in _pairs(check.expression)
    )


def _holds(compare: Compare, left: str | None, right: str | None) -> bool:
    if left is None or right is None:
        return True
    numbers = left.lstrip("-").isdigit() and right.lstrip("-").isdigit()
    return compare(int(left), int(right)) if numbers else compare(left, right)


@lru_cache(maxsize=1024)
def _pairs(expression: str) -> tuple[tuple[str, Compare, str], ...]:
    found: list[tuple[str, Compare, str]] = []

    def visit(node: Tree, scope: Scope) -> None:
        del scope
        if not isinstance(node, ast.A_Expr):
            return
        sides = [_column(side) for side in (node.lexpr, node.rexpr)]
        kind = enums.A_Expr_Kind
        if node.kind == kind.AEXPR_DISTINCT:
            compare: Compare | None = operator.ne
        elif node.kind == kind.AEXPR_OP:
            compare = COMPARED.get(node.name[-1].sval)
        else:
            compare = None
        if compare is not None and sides[0] and sides[1]:
            found.append((sides[0], compare, sides[1]))

    condition = parse_condition(expression)
    if condition is not None:
        walk(condition, Scope({}), visit)
    return tuple(found)


def _column(node: Tree) -> str:
    while isinstance(node, ast.TypeCast):
        node = node.arg
    if isinstance(node, ast.ColumnRef) and hasattr(node.fields[-1], "sval"):
        return str(node.fields[-1].sval)
    return ""
