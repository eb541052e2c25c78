"""A capacity model from stepped load: where the knee is, and how sure that is.

Latency at an offered rate ``x`` is fitted by the queueing law ``w(x) = s + q x/(c-x)``
with service time ``s``, queueing weight ``q`` and capacity ``c``.  The knee is the rate
at which throughput divided by latency is greatest (Kleinrock's power): beyond it each
further message costs more in delay than it brings.  For this law that is
``x = c / (1 + sqrt(q / s))`` when ``s`` is positive.

The uncertainty comes from bootstrapping the slices of each step's time line: their
99th percentiles are drawn anew with replacement, and the model is fitted to each draw.
Steps that never came near the capacity cannot tell where it is; the estimate then says
that it is a lower bound, which is all that is known.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from harness.clock import seeded
from harness.events import LoadStepFinished

__all__ = ["CapacityEstimate", "estimate_capacity", "fit_law"]

MIN_STEPS = 4
DRAWS = 200
CANDIDATES = 60
FARTHEST = 20.0  # the largest capacity looked at, as a multiple of the top rate
CONFIDENCE = 0.95
UNBOUNDED_SHARE = 0.5  # a fit at the edge of the search has found no capacity
COMPLETE = 0.999  # a step that delivered less than this share is past capacity

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Law:
    """The fitted queueing law; rates are per second, times in milliseconds."""

    service_ms: float
    weight_ms: float
    capacity_per_s: float

    def latency_ms(self, rate_per_s: float) -> float:
        """Return the latency that the law gives at a rate below the capacity."""
        spare = self.capacity_per_s - rate_per_s
        return self.service_ms + self.weight_ms * rate_per_s / spare

    @property
    def knee_per_s(self) -> float:
        """The rate at which throughput divided by latency is greatest."""
        if self.service_ms <= 0:
            return 0.0
        return self.capacity_per_s / (1 + math.sqrt(self.weight_ms / self.service_ms))


@dataclass(frozen=True, slots=True)
class CapacityEstimate:
    """The knee with its 95 % interval; all rates are deliveries a second.

    With ``is_lower_bound`` only ``low_per_s`` means something: the highest rate that
    was carried, which the knee lies beyond.  ``cpu_limit_per_s`` is where the server's
    CPU would reach one core at the cost measured (0 where it could not be read).
    """

    knee_per_s: float
    low_per_s: float
    high_per_s: float
    capacity_per_s: float
    cpu_limit_per_s: float
    is_lower_bound: bool

    def __str__(self) -> str:
        """Return the estimate as a sentence."""
        cpu = (
            f"; one core of server CPU ends at {_round(self.cpu_limit_per_s):,}/s"
            if self.cpu_limit_per_s
            else ""
        )
        if self.is_lower_bound:
            return f"no knee up to {_round(self.low_per_s):,}/s{cpu}"
        return (
            f"knee at {_round(self.knee_per_s):,}/s"
            f" ({CONFIDENCE:.0%}: {_round(self.low_per_s):,}"
            f" to {_round(self.high_per_s):,}){cpu}"
        )


def estimate_capacity(
    steps: Sequence[LoadStepFinished], *, seed: int = 0
) -> CapacityEstimate | None:
    """Return the estimate from one profile's steps, or None from fewer than four."""
    if len({step.offered_per_s for step in steps}) < MIN_STEPS:
        return None
    random = seeded(seed)
    carried = [s.offered_per_s for s in steps if s.delivered >= s.expected * COMPLETE]
    laws = [fit_law(_redraw(steps, random)) for _ in range(DRAWS)]
    edge_per_s = max(step.offered_per_s for step in steps) * FARTHEST * 0.99
    unbounded = sum(law.capacity_per_s >= edge_per_s for law in laws) / DRAWS
    knees = sorted(law.knee_per_s for law in laws)
    tail = int(DRAWS * (1 - CONFIDENCE) / 2)
    bound = unbounded > UNBOUNDED_SHARE or knees[DRAWS // 2] > max(carried, default=0)
    is_lower_bound = bound and len(carried) == len(steps)
    return CapacityEstimate(
        knee_per_s=statistics.median(knees),
        low_per_s=max(carried) if is_lower_bound else knees[tail],
        high_per_s=knees[-1 - tail],
        capacity_per_s=statistics.median(law.capacity_per_s for law in laws),
        cpu_limit_per_s=_cpu_limit_per_s(steps),
        is_lower_bound=is_lower_bound,
    )


def fit_law(points: Sequence[Point]) -> Law:
    """Return the law that fits (rate, milliseconds) points best, in relative error."""
    top = max(rate for rate, _ in points)
    growth = FARTHEST / 1.001
    candidates = (
        top * 1.001 * growth ** (i / (CANDIDATES - 1)) for i in range(CANDIDATES)
    )
    fits = (_fit_at(points, capacity) for capacity in candidates)
    return min(fits, key=lambda fit: fit[0])[1]


def _fit_at(points: Sequence[Point], capacity: float) -> tuple[float, Law]:
    """Fit ``s`` and ``q`` for a given capacity by weighted least squares."""
    loads = [rate / (capacity - rate) for rate, _ in points]
    weights = [1 / max(ms, 1e-6) ** 2 for _, ms in points]
    total = sum(weights)
    mean_load = _mean(weights, loads) / total
    mean_ms = _mean(weights, [ms for _, ms in points]) / total
    spread = sum(w * (u - mean_load) ** 2 for w, u in zip(weights, loads, strict=True))
    shared = sum(
        w * (u - mean_load) * (ms - mean_ms)
        for w, u, (_, ms) in zip(weights, loads, points, strict=True)
    )
    weight_ms = max(0.0, shared / spread) if spread else 0.0
    least_ms = min(ms for _, ms in points) * 0.01
    service_ms = max(least_ms, mean_ms - weight_ms * mean_load)
    law = Law(service_ms, weight_ms, capacity)
    errors = (
        w * (ms - law.latency_ms(rate)) ** 2
        for w, (rate, ms) in zip(weights, points, strict=True)
    )
    return sum(errors), law


def _redraw(steps: Sequence[LoadStepFinished], random: Random) -> list[Point]:
    return [(step.offered_per_s, _drawn_p99_ms(step, random)) for step in steps]


def _drawn_p99_ms(step: LoadStepFinished, random: Random) -> float:
    slices = [p99_ms for _, count, p99_ms in step.timeline if count]
    if not slices:
        return step.latency.p99_ms
    return statistics.median(random.choices(slices, k=len(slices)))


def _cpu_limit_per_s(steps: Sequence[LoadStepFinished]) -> float:
    # The fullest step: fixed costs (ticks, timers) weigh least in it.
    fullest = max(steps, key=lambda step: step.delivered)
    if not fullest.server_cpu_s:
        return 0.0
    return fullest.delivered / fullest.server_cpu_s


def _mean(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True))


def _round(rate: float) -> int:
    """Return ``rate`` with the three digits that can be meant."""
    if rate < 1:
        return 0
    size = 10 ** max(0, math.floor(math.log10(rate)) - 2)
    return int(round(rate / size) * size)
