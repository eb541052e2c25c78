"""What a pool hands back, and how the reports of several workers become one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from harness.events import LatencySummary, LoadStepFinished
from harness.load.histogram import LatencyHistogram

__all__ = ["PoolProgress", "StepReport", "merge_reports"]

NO_SLICE = (0.0, 0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolProgress:
    """How far a step is; step 0 is the warm-up.

    ``slice_ms`` counts the latencies since the last progress by whole milliseconds.
    """

    step: int
    steps: int
    elapsed_s: float
    duration_s: float
    delivered: int
    p99_ms: float
    slice_ms: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """A step's figures, and what a reader needs to trust them.

    ``lag_p99_ms`` is how late the generator sent, ``generator_share`` how much of one
    core it used; ``examples`` show anomalies, ``complaints`` are the reasons the server
    gave for refusing or closing.
    """

    finished: LoadStepFinished
    lag_p99_ms: float
    generator_share: float
    examples: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> StepReport:
        """Read what :meth:`to_record` gave, after a way through JSON."""
        finished = dict(record["finished"])
        finished["latency"] = LatencySummary(**finished["latency"])
        finished["timeline"] = tuple(tuple(point) for point in finished["timeline"])
        return cls(
            finished=LoadStepFinished(**finished),
            lag_p99_ms=record["lag_p99_ms"],
            generator_share=record["generator_share"],
            examples=tuple(record["examples"]),
            complaints=tuple(record["complaints"]),
        )


def merge_reports(reports: Sequence[StepReport], *, profile: str) -> StepReport:
    """Return one report of a step that several workers shared.

    Counts add up and histograms merge exactly.  Every worker reads the CPU of the same
    server, so that of the server and PostgreSQL is the largest reading, not the sum.
    """
    steps = [report.finished for report in reports]
    histogram = LatencyHistogram()
    for step in steps:
        histogram.merge(LatencyHistogram.decode(step.histogram))
    summed = {
        name: sum(getattr(step, name) for step in steps)
        for name in (
            *("subscribers", "offered_per_s", "sent", "expected", "delivered"),
            *("lost", "duplicate", "reordered", "wrong_recipient", "stale"),
            *("reconnects", "away", "generator_cpu_s"),
        )
    }
    largest = {
        name: max(getattr(step, name) for step in steps)
        for name in ("duration_s", "server_cpu_s", "postgres_cpu_s", "server_rss_mib")
    }
    finished = LoadStepFinished(
        profile=profile,
        step=steps[0].step,
        latency=histogram.summary(),
        histogram=histogram.encode(),
        timeline=_merge_timelines([step.timeline for step in steps]),
        **summed,
        **largest,
    )
    return StepReport(
        finished=finished,
        lag_p99_ms=max(report.lag_p99_ms for report in reports),
        generator_share=max(report.generator_share for report in reports),
        examples=tuple(text for report in reports for text in report.examples),
        complaints=tuple({text for report in reports for text in report.complaints}),
    )


def _merge_timelines(
    timelines: Sequence[tuple[tuple[float, int, float], ...]],
) -> tuple[tuple[float, int, float], ...]:
    # Workers tick at the same rate; one may have drained a slice longer than another.
    return tuple(
        (
            max(at_s for at_s, _, _ in points),
            sum(count for _, count, _ in points),
            max(p99_ms for _, _, p99_ms in points),
        )
        for points in zip_longest(*timelines, fillvalue=NO_SLICE)
    )
