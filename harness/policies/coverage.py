"""Which conditions of which policies were seen deciding, and which way.

Every policy expression is split into its conditions (the leaves of AND, OR and NOT).
For every persona and stored row the truth of each leaf is asked of PostgreSQL; a leaf
*decides* true (or false) when flipping it alone would flip the whole expression.  A
leaf that decided both ways is covered (masking MC/DC).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import asyncpg
import orjson
from pglast import enums

from harness.db.catalog import Policy
from harness.policies.personas import Persona
from harness.policies.syntax import Tree, ast, deparse, parse_condition
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal

__all__ = [
    "ConditionCoverage",
    "ExpressionCoverage",
    "every_policy_is_reached",
    "measure_coverage",
]

Truth = bool | None
Vector = tuple[Truth, ...]


@dataclass
class ConditionCoverage:
    """A leaf of an expression and the ways in which it was seen deciding."""

    sql: str
    decided_true: bool = False
    decided_false: bool = False

    @property
    def covered(self) -> bool:
        """Whether it decided both ways."""
        return self.decided_true and self.decided_false


@dataclass
class ExpressionCoverage:
    """A policy's USING or WITH CHECK, how it came out, and its conditions."""

    policy: Policy
    clause: str
    sql: str
    conditions: list[ConditionCoverage] = field(default_factory=list)
    admitted: bool = False
    refused: bool = False
    raised: str = ""


async def measure_coverage(trial: Trial) -> list[ExpressionCoverage]:
    """Return the coverage of every policy expression in a trial's world."""
    return [
        await _measure(trial, policy, clause, text)
        for policy in trial.catalog.policies
        for clause, text in (("using", policy.using), ("check", policy.check))
        if text and trial.population.of(policy.table)
    ]


async def _measure(
    trial: Trial, policy: Policy, clause: str, text: str
) -> ExpressionCoverage:
    coverage = ExpressionCoverage(policy, clause, text)
    node = parse_condition(text)
    if node is None:
        return coverage
    found = list(leaves(node))
    coverage.conditions = [ConditionCoverage(deparse(leaf)) for leaf in found]
    for persona in trial.personas:
        if policy.roles and persona.role not in policy.roles:
            continue
        try:
            vectors = await _vectors(trial, policy, persona, found)
        except asyncpg.PostgresError as exc:
            # A condition on its own may raise where the whole is guarded; a policy
            # that raises as a whole is told by policies_answer_without_error.
            coverage.raised = str(exc)
            return coverage
        for vector in vectors:
            _record(coverage, node, found, vector)
    return coverage


async def _vectors(
    trial: Trial, policy: Policy, persona: Persona, found: Sequence[Tree]
) -> list[Vector]:
    """Return the different truths of the leaves over all rows, as ``persona``."""
    columns = ", ".join(f"({deparse(leaf)})::boolean" for leaf in found)
    claims = (
        f"set_config('request.jwt.claims', {literal(persona.claims_json)}, true),"
        f" set_config('request.jwt.claim.sub', {literal(persona.sub)}, true)"
    )
    connection = trial.prober.connection
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("set local search_path = public, extensions")
        await connection.fetch(f"select {claims}")
        rows = await connection.fetch(
            f"select distinct jsonb_build_array({columns})::text as truths"
            f" from {policy.table.sql}"
        )
    finally:
        await transaction.rollback()
    trial.prober.decisions += len(trial.population.of(policy.table))
    return [tuple(orjson.loads(row["truths"])) for row in rows]


def leaves(node: Tree) -> Iterator[Tree]:
    """Yield the conditions below AND, OR and NOT, from left to right."""
    if isinstance(node, ast.BoolExpr):
        for arg in node.args:
            yield from leaves(arg)
    else:
        yield node


def evaluate(node: Tree, truths: Iterator[Truth]) -> Truth:
    """Return the three-valued truth of ``node`` from the truths of its leaves."""
    if not isinstance(node, ast.BoolExpr):
        return next(truths)
    parts = [evaluate(arg, truths) for arg in node.args]
    if node.boolop == enums.BoolExprType.NOT_EXPR:
        return None if parts[0] is None else not parts[0]
    short = bool(node.boolop == enums.BoolExprType.OR_EXPR)
    if short in parts:
        return short
    return None if None in parts else not short


def _record(
    coverage: ExpressionCoverage, node: Tree, found: Sequence[Tree], vector: Vector
) -> None:
    outcome = evaluate(node, iter(vector)) is True
    coverage.admitted |= outcome
    coverage.refused |= not outcome
    for index, condition in enumerate(coverage.conditions):
        flipped = (*vector[:index], vector[index] is not True, *vector[index + 1 :])
        if (evaluate(node, iter(flipped)) is True) != outcome:
            condition.decided_true |= vector[index] is True
            condition.decided_false |= vector[index] is not True


async def every_policy_is_reached(trial: Trial) -> Judgement:
    """Every policy admits somebody to some row of the world, unless it is ``false``."""
    judgement = Judgement()
    for coverage in await measure_coverage(trial):
        if coverage.admitted or coverage.raised or coverage.sql == "false":
            continue
        if coverage.policy.table.schema == "realtime":
            continue
        name = f'{coverage.policy.table} policy "{coverage.policy.name}"'
        judgement.undecided[name] = f"{coverage.clause} admitted nobody: {coverage.sql}"
    return judgement
