"""Joined connections at rest: what they cost the server while nobody says anything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from harness.bench.registry.result import BenchResult
from harness.load.cpu import CpuMeter, CpuUse
from harness.load.target import Target

__all__ = ["Rest", "rest"]

REFERENCE = "65-109 KiB a connection"


@dataclass(frozen=True, slots=True)
class Rest:
    """What so many connections cost; ``grown_kib`` is the memory of one."""

    connections: int
    use: CpuUse
    grown_kib: float

    def result(self, name: str, *, goal: str, met: bool, note: str) -> BenchResult:
        """Return the result of the suite ``name``."""
        return BenchResult(
            name=name,
            operation="second of a joined connection at rest,"
            f" {self.connections:,} of them",
            ops=int(self.connections * self.use.wall_s),
            wall_s=self.use.wall_s,
            server_cpu_s=self.use.server_s,
            server_rss_mib=self.use.server_rss_mib,
            reference=REFERENCE,
            goal=goal,
            met=met,
            note=note,
        )


async def rest(
    target: Target, connections: int, before: CpuUse, seconds: float
) -> Rest:
    """Look at the server for ``seconds``; ``before`` is from before they came."""
    meter = CpuMeter(target)
    await asyncio.sleep(seconds)
    use = meter.read()
    grown_mib = use.server_rss_mib - before.server_rss_mib
    return Rest(connections, use, grown_mib * 1024 / connections)
