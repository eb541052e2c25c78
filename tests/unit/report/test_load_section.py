"""The charts of a load step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.events import FaultInjected, LatencySummary, LoadStepFinished
from harness.report.html.load import format_ms, load_section


def step(timeline: tuple[tuple[float, int, float], ...]) -> LoadStepFinished:
    """Return a step whose deliveries are those of its time line."""
    delivered = sum(count for _, count, _ in timeline)
    return LoadStepFinished(
        at=1.0,
        profile="small",
        step=1,
        subscribers=10,
        offered_per_s=1_000.0,
        duration_s=1.0,
        sent=delivered // 10,
        expected=delivered,
        delivered=delivered,
        lost=0,
        duplicate=0,
        reordered=0,
        wrong_recipient=0,
        stale=0,
        latency=LatencySummary(
            count=delivered, p50_ms=1.0, p90_ms=1.0, p95_ms=1.0, p99_ms=1.0, max_ms=1.0
        ),
        server_cpu_s=0.1,
        generator_cpu_s=0.1,
        timeline=timeline,
    )


def test_a_rate_is_what_arrived_in_the_width_of_its_own_slice() -> None:
    page = str(load_section([step(((0.25, 250, 1.0), (0.75, 500, 1.0)))]))
    assert "0.2 s: 1,000/s" in page
    assert "0.8 s: 1,000/s" in page


def test_a_stub_of_a_slice_at_the_end_is_no_rate() -> None:
    page = str(load_section([step(((0.5, 500, 1.0), (1.0, 500, 1.0), (1.001, 1, 1)))]))
    assert "1.0 s: 1,000/s" in page
    assert "1.0 s: 1,001/s" not in page
    assert page.count("1,000/s") == 2


def test_faults_are_told_and_marked_where_they_began() -> None:
    steps = [replace(step(((0.5, 500, 1.0), (1.0, 500, 1.0))), reconnects=7, away=31)]
    fault = FaultInjected(
        phase="load", fault="pause:server", began_s=0.25, lasted_s=0.5
    )
    plain, page = str(load_section(steps)), str(load_section(steps, [fault]))
    assert "pause:server" not in plain
    assert "pause:server at 0.25 s for 0.50 s" in page
    assert "7 lost connections were made anew" in page
    assert "31 deliveries fell into the time between" in page
    # On each of the two time lines.
    assert page.count(">pause<") == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04321, "0.0432"), (9.87, "9.87"), (99.96, "100"), (1891.3, "1,891")],
)
def test_milliseconds_keep_three_digits_and_no_exponent(
    value: float, text: str
) -> None:
    assert format_ms(value) == text
