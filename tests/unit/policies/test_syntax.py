"""Conditions split by OR and AND."""

from __future__ import annotations

import pytest

from harness.policies.syntax import deparse, disjuncts, parse_condition


@pytest.mark.parametrize(
    ("condition", "branches"),
    [
        ("a", [["a"]]),
        ("a and b", [["a", "b"]]),
        ("a or b", [["a"], ["b"]]),
        ("(a or b) and c", [["a", "c"], ["b", "c"]]),
        ("not (a or b)", [["NOT a", "NOT b"]]),
        ("not (a and b)", [["NOT a"], ["NOT b"]]),
        ("not (not a)", [["a"]]),
    ],
)
def test_condition_splits_into_branches(
    condition: str, branches: list[list[str]]
) -> None:
    node = parse_condition(condition)
    assert [[deparse(atom) for atom in branch] for branch in disjuncts(node)] == (
        branches
    )


def test_condition_with_too_many_branches_stays_whole() -> None:
    node = parse_condition(" and ".join(f"(a{n} or b{n})" for n in range(10)))
    assert len(disjuncts(node)) == 1


def test_condition_that_does_not_parse_is_none() -> None:
    assert parse_condition("select from where") is None
