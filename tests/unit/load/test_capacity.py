"""The capacity model: found again where it is known, honest where it is not."""

import random

import pytest

from harness.events import LatencySummary, LoadStepFinished
from harness.load.capacity import Law, estimate_capacity, fit_law


def stepped(
    law: Law, rates: list[float], *, noise: float = 0.05, lost_beyond: float = 1e9
) -> list[LoadStepFinished]:
    rng = random.Random(4)
    steps = []
    for number, rate in enumerate(rates, start=1):
        p99 = law.latency_ms(rate)
        expected = int(rate * 4)
        delivered = expected if rate < lost_beyond else int(expected * 0.9)
        steps.append(
            LoadStepFinished(
                profile="p",
                step=number,
                subscribers=10,
                offered_per_s=rate,
                duration_s=4.0,
                sent=expected,
                expected=expected,
                delivered=delivered,
                lost=expected - delivered,
                duplicate=0,
                reordered=0,
                wrong_recipient=0,
                stale=0,
                latency=LatencySummary(
                    count=delivered,
                    p50_ms=p99 / 3,
                    p90_ms=p99 / 2,
                    p95_ms=p99 / 1.5,
                    p99_ms=p99,
                    max_ms=p99 * 2,
                ),
                server_cpu_s=delivered * 5e-6,
                generator_cpu_s=0.1,
                timeline=tuple(
                    (i / 4, expected // 16, p99 * rng.lognormvariate(0, noise))
                    for i in range(16)
                ),
            )
        )
    return steps


LAW = Law(service_ms=2.0, weight_ms=1.5, capacity_per_s=40_000)
RATES = [5_000.0, 10_000.0, 18_000.0, 26_000.0, 33_000.0, 38_000.0]


def test_the_law_is_found_again_from_exact_points() -> None:
    found = fit_law([(rate, LAW.latency_ms(rate)) for rate in RATES])
    assert found.capacity_per_s == pytest.approx(40_000, rel=0.06)
    assert found.knee_per_s == pytest.approx(LAW.knee_per_s, rel=0.1)


def test_the_knee_is_where_throughput_by_latency_is_greatest() -> None:
    power = {rate: rate / LAW.latency_ms(rate) for rate in range(100, 40_000, 100)}
    best = max(power, key=power.__getitem__)
    assert LAW.knee_per_s == pytest.approx(best, abs=100)


def test_the_interval_holds_the_true_knee_and_widens_with_noise() -> None:
    quiet = estimate_capacity(stepped(LAW, RATES, noise=0.03))
    loud = estimate_capacity(stepped(LAW, RATES, noise=0.6))
    assert quiet is not None
    assert loud is not None
    assert not quiet.is_lower_bound
    assert quiet.low_per_s * 0.95 <= LAW.knee_per_s <= quiet.high_per_s * 1.05
    assert quiet.high_per_s - quiet.low_per_s < loud.high_per_s - loud.low_per_s
    assert quiet.cpu_limit_per_s == pytest.approx(200_000)
    assert str(quiet).startswith("knee at ")


def test_the_same_seed_gives_the_same_interval() -> None:
    steps = stepped(LAW, RATES)
    assert estimate_capacity(steps, seed=3) == estimate_capacity(steps, seed=3)


def test_load_that_never_came_near_gives_a_lower_bound_only() -> None:
    estimate = estimate_capacity(stepped(LAW, [100.0, 200.0, 400.0, 800.0]))
    assert estimate is not None
    assert estimate.is_lower_bound
    assert str(estimate).startswith("no knee up to 800/s")


def test_a_step_that_lost_messages_is_never_called_carried() -> None:
    steps = stepped(LAW, RATES, lost_beyond=30_000)
    estimate = estimate_capacity(steps)
    assert estimate is not None
    assert not estimate.is_lower_bound
    assert estimate.high_per_s < 40_000


def test_three_steps_are_too_few_to_say_anything() -> None:
    assert estimate_capacity(stepped(LAW, RATES[:3])) is None
