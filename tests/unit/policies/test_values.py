"""Values for columns: quoted, fitting, different, repeatable."""

from __future__ import annotations

import re
from random import Random

import pytest

from harness.policies.mining import Mined
from harness.policies.values import Values, literal, pattern_example
from tests.unit.policies.catalogs import column, table


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (None, "null"),
        ("plain", "'plain'"),
        ("it's", "'it''s'"),
        ("back\\slash", "E'back\\\\slash'"),
    ],
)
def test_literal_quotes_what_must_be_quoted(value: str | None, sql: str) -> None:
    assert literal(value) == sql


@pytest.mark.parametrize(
    "pattern", ["^[a-z0-9-]{3,40}$", r"^\+[0-9]{7,15}$", "^#[0-9a-f]{6}$", "^(a|b)c*$"]
)
def test_example_matches_its_pattern(pattern: str) -> None:
    example = pattern_example(pattern)
    assert example is not None
    assert re.fullmatch(pattern, example)


def test_pattern_that_is_no_regular_expression_has_no_example() -> None:
    assert pattern_example("(") is None


@pytest.mark.parametrize(
    "kind",
    ["text", "uuid", "integer", "jsonb", "tstzrange", "timestamp with time zone"],
)
def test_fresh_values_differ(kind: str) -> None:
    wanted = column("thing", kind)
    values = Values(Mined(), Random(1))
    drawn = [values.fresh(table("t", wanted), wanted) for _ in range(50)]
    assert len(set(drawn)) == 50


def test_fresh_text_fits_a_short_column() -> None:
    wanted = column("code", "character varying", max_length=3)
    assert len(Values(Mined(), Random(1)).fresh(table("t", wanted), wanted) or "") == 3


def test_same_seed_draws_the_same_values() -> None:
    wanted = column("thing", "uuid")
    first, second = (
        Values(Mined(), Random(7)).fresh(table("t", wanted), wanted) for _ in range(2)
    )
    assert first == second
