"""Which conditions of which policies were seen deciding, and which way.

Every policy expression is split into its conditions (the leaves of AND, OR and NOT).
For every persona and stored row the truth of each leaf is asked of PostgreSQL; a leaf
*decides* true (or false) when flipping it alone would flip the whole expression.  A
leaf that decided both ways is covered (masking MC/DC).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pglast import enums

from harness.db.catalog import Name, Policy
from harness.events import Finding
from harness.policies.syntax import Tree, ast, deparse, parse_condition
from harness.policies.trial import Judgement, Trial

__all__ = [
    "ConditionCoverage",
    "ExpressionCoverage",
    "coverage_gaps",
    "coverage_in_words",
    "every_policy_is_reached",
    "measure_coverage",
    "unreached_policies",
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


async def measure_coverage(
    trial: Trial, policies: Sequence[Policy] | None = None
) -> list[ExpressionCoverage]:
    """Return the coverage of ``policies``, or of all, in a trial's world."""
    measured = [
        _Expression(policy, clause, text)
        for policy in (trial.catalog.policies if policies is None else policies)
        for clause, text in (("using", policy.using), ("check", policy.check))
        if text and trial.population.of(policy.table)
    ]
    for table in {expression.policy.table: None for expression in measured}:
        await _measure(trial, table, [e for e in measured if e.policy.table == table])
    return [expression.coverage for expression in measured]


class _Expression:
    """One clause of a policy, split into its leaves."""

    def __init__(self, policy: Policy, clause: str, text: str) -> None:
        self.policy = policy
        self.coverage = ExpressionCoverage(policy, clause, text)
        self.node = parse_condition(text)
        found = [] if self.node is None else list(leaves(self.node))
        self.coverage.conditions = [ConditionCoverage(deparse(leaf)) for leaf in found]

    @property
    def truths(self) -> str:
        """The SQL array of the truths of the leaves."""
        return ", ".join(f"({c.sql})::boolean" for c in self.coverage.conditions)


async def _measure(
    trial: Trial, table: Name, expressions: Sequence[_Expression]
) -> None:
    """Ask for the truths of all leaves over all rows, for all personas at once."""
    personas = trial.personas
    found = await trial.prober.connection.fetchval(
        "select harness_probe.truths($1, $2, $3::text::jsonb)",
        table.sql,
        [expression.truths or "null" for expression in expressions],
        orjson.dumps(
            [{"claims": p.claims_json, "sub": p.sub} for p in personas]
        ).decode(),
    )
    rows = len(trial.population.of(table))
    trial.prober.decisions += rows * len(personas) * len(expressions)
    for persona, answers in zip(personas, orjson.loads(found), strict=True):
        for expression, answer in zip(expressions, answers, strict=True):
            roles = expression.policy.roles
            if not roles or persona.role in roles:
                _take(expression, answer)


def _take(expression: _Expression, answer: Mapping[str, Any]) -> None:
    # A condition on its own may raise where the whole is guarded; a policy that raises
    # as a whole is told by policies_answer_without_error.
    if answer.get("raised"):
        expression.coverage.raised = answer["raised"]
    elif expression.node is not None:
        for vector in answer["vectors"]:
            _record(expression.coverage, expression.node, tuple(vector))


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


def _record(coverage: ExpressionCoverage, node: Tree, vector: Vector) -> None:
    outcome = evaluate(node, iter(vector)) is True
    coverage.admitted |= outcome
    coverage.refused |= not outcome
    for index, condition in enumerate(coverage.conditions):
        flipped = (*vector[:index], vector[index] is not True, *vector[index + 1 :])
        if (evaluate(node, iter(flipped)) is True) != outcome:
            condition.decided_true |= vector[index] is True
            condition.decided_false |= vector[index] is not True


def coverage_gaps(measured: Sequence[ExpressionCoverage]) -> list[Finding]:
    """Return a note for each condition that was not seen deciding both ways (MC/DC)."""
    return [
        Finding(
            phase="mutate",
            check="conditions_decide_both_ways",
            where=expression.policy.told,
            message=f"{expression.clause}: never seen deciding {_missing(condition)}:"
            f" {condition.sql}",
            severity="note",
        )
        for expression in measured
        if not expression.raised and expression.sql not in ("true", "false")
        for condition in expression.conditions
        if not condition.covered
    ]


def coverage_in_words(measured: Sequence[ExpressionCoverage]) -> str:
    """Return how many conditions were seen deciding both ways."""
    conditions = [c for e in measured for c in e.conditions]
    covered = sum(c.covered for c in conditions)
    return (
        f"{covered} of {len(conditions)} conditions in {len(measured)} expressions"
        " seen deciding both ways"
    )


def _missing(condition: ConditionCoverage) -> str:
    sides = {True: condition.decided_true, False: condition.decided_false}
    return " or ".join(str(side).lower() for side, seen in sides.items() if not seen)


async def every_policy_is_reached(trial: Trial) -> Judgement:
    """Every policy admits somebody to some row of the world, unless it is ``false``."""
    unreached = await unreached_policies(trial, trial.catalog.policies)
    return Judgement(undecided={p.told: reason for p, reason in unreached.items()})


async def unreached_policies(
    trial: Trial, policies: Sequence[Policy]
) -> dict[Policy, str]:
    """Return which of ``policies`` admit nobody to any row of the world, and where."""
    reasons: dict[Policy, str] = {}
    for coverage in await measure_coverage(trial, policies):
        policy = coverage.policy
        if coverage.admitted or coverage.raised or coverage.sql == "false":
            continue
        if policy.table.schema == "realtime":
            continue
        if policy.roles and not {p.role for p in trial.personas} & {*policy.roles}:
            continue
        reasons[policy] = f"{coverage.clause} admitted nobody: {coverage.sql}"
    return reasons
