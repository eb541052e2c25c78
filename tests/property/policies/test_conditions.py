"""Random conditions: splitting and three-valued evaluation agree with the tree."""

from __future__ import annotations

import pglast
from hypothesis import given
from hypothesis import strategies as st

from harness.policies.coverage import evaluate, leaves
from harness.policies.syntax import deparse, disjuncts, parse_condition
from harness.policies.values import literal

NAMES = st.sampled_from("abcde")
CONDITIONS = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"({p[0]} and {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} or {p[1]})"),
        inner.map(lambda c: f"(not {c})"),
    ),
    max_leaves=8,
)
TRUTHS = st.fixed_dictionaries({name: st.booleans() for name in "abcde"})


def python_truth(condition: str, truths: dict[str, bool]) -> bool:
    return bool(eval(condition, {"__builtins__": {}}, truths))


@given(CONDITIONS, TRUTHS)
def test_branches_are_true_where_the_condition_is(
    condition: str, truths: dict[str, bool]
) -> None:
    branches = disjuncts(parse_condition(condition))
    some = any(
        all(
            python_truth(deparse(atom).replace("NOT", "not"), truths) for atom in branch
        )
        for branch in branches
    )
    assert some == python_truth(condition, truths)


@given(CONDITIONS, TRUTHS)
def test_evaluation_from_leaves_is_the_truth_of_the_condition(
    condition: str, truths: dict[str, bool]
) -> None:
    node = parse_condition(condition)
    found = [truths[deparse(leaf)] for leaf in leaves(node)]
    assert evaluate(node, iter(found)) is python_truth(condition, truths)


@given(CONDITIONS, st.fixed_dictionaries({n: st.none() for n in "abcde"}))
def test_unknown_leaves_leave_the_condition_unknown(
    condition: str, truths: dict[str, None]
) -> None:
    node = parse_condition(condition)
    assert evaluate(node, iter([None for _ in leaves(node)])) is None


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)
def test_literal_reads_back_as_the_same_text(text: str) -> None:
    (statement,) = pglast.parse_sql(f"select {literal(text)}")
    assert statement.stmt.targetList[0].val.val.sval == text
