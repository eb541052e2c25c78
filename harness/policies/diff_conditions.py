"""Conditions of changed policies that no world showed deciding: silence proves nothing.

A condition that one version has and the other has not may be dropped without notice
only if it was seen deciding both ways, in some world, while nothing that anybody may do
differed.  A condition that asks of no row is decided by the cast alone: it is enough
that it held for somebody and for somebody else not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from harness.db.catalog import Policy
from harness.policies.coverage import ConditionCoverage, measure_coverage
from harness.policies.decisions import Decisions
from harness.policies.diff_world import TIMED_OUT, Pair
from harness.policies.syntax import Scope, Tree, ast, parse_condition, walk

__all__ = ["ConditionsSeen"]

Key = tuple[Policy, str, str]


@dataclass
class ConditionsSeen:
    """The conditions of policies that only one version has, and how they decided."""

    found: dict[Key, ConditionCoverage] = field(default_factory=dict)

    async def look(
        self, pair: Pair, decisions: Decisions, silent: Sequence[str]
    ) -> None:
        """Add what the world of ``pair`` shows of the policies of ``silent`` tables."""
        for side, policies in zip(
            (pair.base, pair.head), _changed(pair, silent), strict=True
        ):
            trial = side.trial(pair, decisions)
            try:
                coverage = await measure_coverage(trial, policies)
            except asyncpg.QueryCanceledError:
                pair.undecided.update({p.told: TIMED_OUT for p in policies})
                continue
            for measured in coverage:
                for seen in measured.conditions if not measured.raised else ():
                    key = (measured.policy, measured.clause, seen.sql)
                    kept = self.found.setdefault(key, ConditionCoverage(seen.sql))
                    kept.decided_true |= seen.decided_true
                    kept.decided_false |= seen.decided_false

    def undecided(self, pair: Pair, silent: Sequence[str]) -> dict[str, str]:
        """Return, by policy, a condition that never decided one way or both."""
        base, head = _changed(pair, silent)
        reasons = {}
        for policies, others in ((base, head), (head, base)):
            known = {sql for p, _, sql in self.found if p in others}
            for (policy, clause, sql), seen in self.found.items():
                if policy not in policies or sql in known or seen.covered:
                    continue
                if _asks_of_a_row(sql):
                    missing = "true" if not seen.decided_true else "false"
                    reasons[policy.told] = f"{clause} never decided {missing}: {sql}"
        return reasons


def _changed(pair: Pair, silent: Sequence[str]) -> tuple[list[Policy], list[Policy]]:
    """Return the policies of ``silent`` tables that BASE, and that HEAD has alone."""
    sides = [
        [p for p in side.catalog.policies if p.table.name.lower() in silent]
        for side in (pair.base, pair.head)
    ]
    base, head = ({*policies} for policies in sides)
    return [p for p in sides[0] if p not in head], [
        p for p in sides[1] if p not in base
    ]


def _asks_of_a_row(sql: str) -> bool:
    """Say whether a condition is about the row alone.

    What a query inside it finds, its caller's policies have a say in.
    """
    columns: list[Tree] = []
    tables: list[Tree] = []

    def visit(node: Tree, scope: Scope) -> None:
        del scope
        if isinstance(node, ast.ColumnRef):
            columns.append(node)
        elif isinstance(node, ast.RangeVar):
            tables.append(node)

    condition = parse_condition(sql)
    if condition is not None:
        walk(condition, Scope({}), visit)
    return bool(columns) and not tables
