"""Checks between two columns of a row, heeded where keys are chosen."""

from __future__ import annotations

import pytest

from harness.db.catalog import Check, Name, Relation
from harness.policies.kept_apart import agree


@pytest.mark.parametrize(
    ("check", "fits", "left", "right"),
    [
        ("buyer <> seller", False, "a", "a"),
        ("buyer <> seller", True, "a", "b"),
        ("(buyer IS DISTINCT FROM seller)", False, "a", "a"),
        ("(buyer)::text < (seller)::text", False, "b", "a"),
        ("buyer < seller", True, "9", "10"),
        ("buyer <> seller", True, None, "a"),
        ("length(buyer) < length(seller)", True, "a", "a"),
    ],
)
def test_values_of_a_pair_agree_with_its_check(
    check: str, fits: bool, left: str | None, right: str | None
) -> None:
    relation = Relation(
        name=Name("public", "orders"),
        kind="table",
        owner="postgres",
        checks=(Check("c", check, ("buyer", "seller")),),
    )
    assert agree(relation, {"buyer": left, "seller": right}) is fits
