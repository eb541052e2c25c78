"""A sample of the benchmark of ``harness diff``; ``diff_benchmark`` runs all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.db.address import DatabaseAddress
from tests.integration.policies.benchmark import STYLES, Variation, schema_sql
from tests.integration.policies.benchmark_server import written
from tests.integration.policies.checking import is_small
from tests.integration.policies.diff_benchmark import (
    Outcome,
    compare,
    expected_faults,
    silent_changes,
)

Compare = Callable[[str, str], Outcome]


@pytest.fixture
def compare_with(clone_of: Callable[..., DatabaseAddress], tmp_path: Path) -> Compare:
    """Compare a style with itself and SQL after it."""

    def compared(style: str, sql: str) -> Outcome:
        sound = schema_sql(style)
        base = clone_of(written(sound, tmp_path / "base"))
        head = clone_of(written(sound + sql, tmp_path / "head"))
        return asyncio.run(compare(base, head))

    return compared


def sample() -> list[Variation]:
    """Return one fault of every third style, another kind in each."""
    chosen = []
    for number, style in enumerate(STYLES[::3]):
        listed = [fault for fault in expected_faults() if fault.style == style]
        chosen.append(listed[(5 * number + 3) % len(listed)])
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("fault", sample(), ids=lambda fault: fault.id)
def test_fault_is_told_with_a_small_witness(
    compare_with: Compare, fault: Variation
) -> None:
    outcome = compare_with(fault.style, fault.sql)
    assert outcome.failing
    assert any(is_small(witness) for witness in outcome.witnesses)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_refactors_of_a_style_together_are_silent(
    compare_with: Compare, style: str
) -> None:
    together = [change.sql for change in silent_changes() if change.style == style]
    assert together
    assert compare_with(style, "\n".join(together)).silent
