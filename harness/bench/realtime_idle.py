"""Realtime at rest: ten thousand joined connections on one core of the server."""

from __future__ import annotations

import time

from harness.bench.channel_members import TOPIC, Tally, joined_members
from harness.bench.registry.result import BenchResult
from harness.bench.resting import rest
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
        resting = await rest(target, CONNECTIONS, before, REST_S)
        began_s = time.perf_counter()
        members[0].broadcast(TOPIC, PAYLOAD)
        await tally.reach(CONNECTIONS - 1)
        woke_s = time.perf_counter() - began_s
    share = resting.use.server_s / resting.use.wall_s
    return [
        resting.result(
            "realtime_idle",
            goal=f"{CONNECTIONS:,} on one core, at most 15 KiB each",
            met=share < 1 and resting.grown_kib <= 15,
            note=f"{share:.1%} of a core at rest, {resting.grown_kib:.1f} KiB a"
            f" connection; one broadcast reached them all within {woke_s:.2f} s",
        )
    ]
