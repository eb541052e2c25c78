"""Makes a fault true while a block runs, and undoes it.

What cannot be undone (a process that was killed, a connection that was cut) is left to
the system under test: that it recovers is what is tested.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from harness.faults.disk import fill_disk, free_disk
from harness.faults.processes import kill_processes, paused
from harness.faults.site import Site
from harness.faults.vocabulary import (
    Blackhole,
    Cut,
    DiskFull,
    Fault,
    Kill,
    Latency,
    Pause,
    Rate,
    Refuse,
)

__all__ = ["inject"]


@asynccontextmanager
async def inject(fault: Fault, site: Site) -> AsyncIterator[None]:
    """Let ``fault`` hold at ``site`` while the block runs."""
    match fault:
        case Kill(service):
            await kill_processes(site.processes(service))
            yield
        case Cut(link, reset):
            site.link(link).cut(reset=reset)
            yield
        case _:
            async with _lasting(fault, site):
                yield


def _lasting(fault: Fault, site: Site) -> AbstractAsyncContextManager[object]:
    match fault:
        case Pause(service):
            return paused(site.processes(service))
        case Latency(link, delay_s, jitter_s):
            return site.link(link).changed(latency_s=delay_s, jitter_s=jitter_s)
        case Rate(link, bytes_per_s):
            return site.link(link).changed(bytes_per_s=bytes_per_s)
        case Blackhole(link):
            return site.link(link).changed(is_blackhole=True)
        case Refuse(link):
            return site.link(link).changed(is_refusing=True)
        case DiskFull(disk, free_bytes):
            return _full(site.disk(disk), free_bytes)
        case _:
            raise TypeError(f"{fault} does not last")


@asynccontextmanager
async def _full(folder: Path, leave_bytes: int) -> AsyncIterator[None]:
    fill_disk(folder, leave_bytes=leave_bytes)
    try:
        yield
    finally:
        free_disk(folder)
