"""Condition coverage is told by its gaps."""

from __future__ import annotations

from harness.policies.coverage import (
    ConditionCoverage,
    ExpressionCoverage,
    coverage_gaps,
    coverage_in_words,
)
from tests.unit.policies.catalogs import policy

BOTH = ConditionCoverage("shared", decided_true=True, decided_false=True)
ONE = ConditionCoverage("user_id = auth.uid()", decided_true=True)


def measured(*conditions: ConditionCoverage, raised: str = "") -> ExpressionCoverage:
    text = " or ".join(condition.sql for condition in conditions)
    own = policy("notes", text)
    return ExpressionCoverage(own, "using", text, list(conditions), raised=raised)


def test_condition_that_never_decides_one_way_is_told() -> None:
    (gap,) = coverage_gaps([measured(BOTH, ONE)])
    assert gap.severity == "note"
    assert gap.message == ("using: never seen deciding false: user_id = auth.uid()")


def test_expression_that_raises_or_is_constant_has_no_gaps() -> None:
    constant = ConditionCoverage("true", decided_true=True)
    assert not coverage_gaps([measured(ONE, raised="42P17"), measured(constant)])


def test_covered_conditions_are_counted() -> None:
    assert coverage_in_words([measured(BOTH, ONE), measured(BOTH)]) == (
        "2 of 3 conditions in 2 expressions seen deciding both ways"
    )
