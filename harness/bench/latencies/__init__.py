"""Latencies of paced messages, and where their time goes by the service's own metrics.

A message carries the time at which it was to be sent; it ends when it comes to its
client's socket (:mod:`harness.bench.arrivals`).  The first messages warm caches, plans
and connections up and are not counted.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator

import httpx
import orjson

from harness.bench.arrivals import Arrivals
from harness.bench.registry.result import BenchResult
from harness.load.cpu import CpuUse
from harness.load.histogram import LatencyHistogram
from harness.load.target import Target

__all__ = ["PACE_S", "Latencies", "Stages", "pace", "stamped"]

PACE_S = 0.02
STAMP = "sent_s"
MARK = f'"{STAMP}":'.encode()
METRIC = re.compile(r"^realtime_(\w+)_total\{[^}]*\} (\S+)$", re.MULTILINE)


def stamped() -> bytes:
    """Return a payload that tells when it was sent."""
    return orjson.dumps({STAMP: time.time(), "text": "x" * 80})


async def pace(count: int) -> AsyncIterator[int]:
    """Yield ``count`` numbers, one every :data:`PACE_S`."""
    began_s = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began_s + number * PACE_S - time.perf_counter()))
        yield number


class Latencies:
    """Reads the stamps of messages of any form as they come.

    Reading costs the generator more than the server needs to send: where there are
    many, ``one_in`` so many is read.
    """

    def __init__(self, one_in: int = 1) -> None:
        self.arrivals = Arrivals()
        self._turn = itertools.count()
        self._one_in = one_in
        self.restart()

    def restart(self) -> None:
        """Forget what was measured so far."""
        self._histogram = LatencyHistogram()
        self._total_s = 0.0

    @property
    def mean_ms(self) -> float:
        """The mean of what was measured."""
        return self._total_s / max(1, self._histogram.count) * 1000

    def read(self, payload: bytes) -> None:
        """Take the latency of a message that has just come."""
        if next(self._turn) % self._one_in:
            return
        start = payload.index(MARK) + len(MARK)
        ends = (payload.find(end, start) for end in (b",", b"}"))
        sent_s = float(payload[start : min(end for end in ends if end > 0)])
        arrived_s = self.arrivals.last_s or time.time()
        latency_s = max(0.0, arrived_s - sent_s)
        self._total_s += latency_s
        self._histogram.record_us(int(latency_s * 1e6))

    def result(
        self,
        name: str,
        operation: str,
        use: CpuUse,
        *,
        reference: str,
        goal_ms: tuple[float, float] | None = None,
        ops: int | None = None,
        note: str = "",
    ) -> BenchResult:
        """Return what was measured; ``goal_ms`` are the median and the 99th."""
        latency = self._histogram.summary()
        met, goal = None, ""
        if goal_ms is not None:
            met = latency.p50_ms <= goal_ms[0] and latency.p99_ms <= goal_ms[1]
            goal = f"p50 at most {goal_ms[0]:g} ms, p99 {goal_ms[1]:g} ms"
        return BenchResult(
            name=name,
            operation=operation,
            ops=latency.count if ops is None else ops,
            wall_s=use.wall_s,
            server_cpu_s=use.server_s,
            postgres_cpu_s=use.postgres_s,
            latency=latency,
            reference=reference,
            goal=goal,
            met=met,
            note=note,
        )


class Stages:
    """Where messages of the database spent their time between two looks at the metrics.

    ``counts`` is the counter of messages, ``seconds`` are those of their stages, with
    the words for them.
    """

    def __init__(self, target: Target, counts: str, seconds: dict[str, str]) -> None:
        self._target = target
        self._counts = counts
        self._seconds = seconds
        self._before: dict[str, float] = {}

    async def begin(self) -> None:
        """Count from now."""
        self._before = await self._counters()

    async def note(self, latencies: Latencies) -> str:
        """Return the means in words; '' where the server does not tell them."""
        after = await self._counters()
        count = after.get(self._counts, 0) - self._before.get(self._counts, 0)
        if not count or not self._seconds.keys() <= after.keys():
            return ""
        rest_ms = mean_ms = latencies.mean_ms
        parts = []
        for name, words in self._seconds.items():
            stage_ms = (after[name] - self._before.get(name, 0.0)) / count * 1000
            rest_ms -= stage_ms
            parts.append(f"{stage_ms:.1f} {words}")
        return f"of the mean {mean_ms:.1f} ms: {', '.join(parts)}, {rest_ms:.1f} else"

    async def _counters(self) -> dict[str, float]:
        key = self._target.service_role_key
        if not key:
            return {}
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                f"{self._target.url}/realtime/v1/metrics",
                headers={"Authorization": f"Bearer {key}"},
            )
        return {found[1]: float(found[2]) for found in METRIC.finditer(answer.text)}
