"""Where time and chance enter the harness.

Code that waits or stamps takes a :class:`Clock`; code that draws takes a seeded
:class:`random.Random` from :func:`seeded`.  Tests pass a :class:`ManualClock`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
import time
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock", "fresh_seed", "seeded"]


class Clock(Protocol):
    """Wall time, monotonic time and sleeping."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of this clock's time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of real time."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until :meth:`advance` moves it."""

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        """Return the start time plus what :meth:`advance` added."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """Return the seconds that :meth:`advance` added."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Wait until :meth:`advance` has passed ``seconds`` from now."""
        woken = asyncio.get_running_loop().create_future()
        due_s = self._elapsed_s + max(0.0, seconds)
        heapq.heappush(self._sleepers, (due_s, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time on, waking sleepers in the order they are due."""
        target_s = self._elapsed_s + seconds
        await asyncio.sleep(0)
        while self._sleepers and self._sleepers[0][0] <= target_s:
            due_s, _, woken = heapq.heappop(self._sleepers)
            self._elapsed_s = due_s
            if not woken.done():
                woken.set_result(None)
            await asyncio.sleep(0)
        self._elapsed_s = target_s
        await asyncio.sleep(0)


def seeded(seed: int) -> Random:
    """Return a generator whose draws depend on ``seed`` alone."""
    return Random(seed)


def fresh_seed() -> int:
    """Return a new seed between 0 and 2^31 - 1, to be printed by its user."""
    return secrets.randbelow(2**31)
