"""Rates of one project against its limits, averaged as the hosted service does.

A rate is the mean over up to twelve buckets of five seconds.  It is judged at each tick
only, so that a burst is never cut in its middle, and the window grows from the first
tick, so that a large burst trips at once.
"""

from __future__ import annotations

from collections import deque

from harness.servers.realtime.settings import RealtimeSettings

__all__ = ["Quotas", "RateMeter"]

BUCKET_S = 5.0
BUCKETS = 12


class RateMeter:
    """Counts events; :attr:`exceeded` holds from one tick to the next."""

    __slots__ = ("_buckets", "_current", "average", "exceeded", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self.average = 0.0
        self.exceeded = False
        self._current = 0
        self._buckets: deque[int] = deque(maxlen=BUCKETS)

    def add(self, count: int = 1) -> None:
        """Count ``count`` events now."""
        self._current += count

    def tick(self) -> None:
        """Close the current bucket and judge the average."""
        self.total += self._current
        self._buckets.append(self._current)
        self._current = 0
        self.average = sum(self._buckets) / (len(self._buckets) * BUCKET_S)
        self.exceeded = self.average >= self.limit

    @property
    def count(self) -> int:
        """How many events were ever counted."""
        return self.total + self._current


class Quotas:
    """The meters of one project."""

    __slots__ = ("_last_tick_s", "changes", "events", "joins", "presence")

    def __init__(self, settings: RealtimeSettings, now_s: float) -> None:
        self.events = RateMeter(settings.max_events_per_second)
        self.changes = RateMeter(settings.max_events_per_second)
        self.joins = RateMeter(settings.max_joins_per_second)
        self.presence = RateMeter(settings.max_presence_events_per_second)
        self._last_tick_s = now_s

    def advance(self, now_s: float) -> None:
        """Tick every meter for each bucket that has passed by ``now_s``."""
        passed = min(int((now_s - self._last_tick_s) / BUCKET_S), BUCKETS)
        if passed <= 0:
            return
        for _ in range(passed):
            for meter in (self.events, self.changes, self.joins, self.presence):
                meter.tick()
        self._last_tick_s = now_s
