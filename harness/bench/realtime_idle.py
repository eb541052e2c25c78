"""Realtime at rest: ten thousand joined connections on one core of the server."""

from __future__ import annotations

import asyncio
import time

from harness.bench.channel_members import TOPIC, Tally, joined_members
from harness.bench.registry.result import BenchResult
from harness.load.cpu import CpuMeter
from harness.load.target import Target
from harness.servers.file_limit import raise_file_limit

__all__ = ["run"]

CONNECTIONS = 10_000
FEW = 10
REST_S = 5.0
PAYLOAD = b'{"n":1}'


async def run(target: Target) -> list[BenchResult]:
    """Connect ten thousand, look at the server while they rest, then wake them all."""
    raise_file_limit()
    async with joined_members(target, FEW, lambda _: None):
        pass  # what the service needs once is not counted
    before = CpuMeter(target).read()
    tally = Tally()
    async with joined_members(target, CONNECTIONS, tally.add) as members:
        meter = CpuMeter(target)
        await asyncio.sleep(REST_S)
        rest = meter.read()
        began_s = time.perf_counter()
        members[0].broadcast(TOPIC, PAYLOAD)
        await tally.reach(CONNECTIONS - 1)
        woke_s = time.perf_counter() - began_s
    grown_kib = (rest.server_rss_mib - before.server_rss_mib) * 1024 / CONNECTIONS
    share = rest.server_s / rest.wall_s
    return [
        BenchResult(
            name="realtime_idle",
            operation=f"second of a joined connection at rest, {CONNECTIONS:,} of them",
            ops=int(CONNECTIONS * REST_S),
            wall_s=rest.wall_s,
            server_cpu_s=rest.server_s,
            server_rss_mib=rest.server_rss_mib,
            reference="65-109 KiB a connection",
            goal=f"{CONNECTIONS:,} on one core, at most 15 KiB each",
            met=share < 1 and grown_kib <= 15,
            note=f"{share:.1%} of a core at rest, {grown_kib:.1f} KiB a connection;"
            f" one broadcast reached them all within {woke_s:.2f} s",
        )
    ]
