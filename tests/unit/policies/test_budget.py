"""A check's time grows with the schema."""

from __future__ import annotations

import pytest

from harness.policies.check import Budget


@pytest.mark.parametrize(
    ("tables", "seconds"), [(0, 10.0), (25, 10.0), (100, 40.0), (500, 200.0)]
)
def test_budget_of_a_check_grows_with_the_tables(tables: int, seconds: float) -> None:
    assert Budget(per_check_s=10.0).check_s(tables) == seconds
