"""Keeping live subscriptions alive and dead ones away.

Every minute live channels are pinged and their events counted; every five minutes
records that were silent for longer are removed, and channels without a record are
closed.  Time comes from a clock, so that tests need not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from postgrest.exceptions import APIError

if TYPE_CHECKING:
    from harness.clock import Clock
    from scenarios.wedsync.records import SubscriptionRecords
    from scenarios.wedsync.subscription_manager import RealtimeSubscriptionManager

__all__ = ["ConnectionStats", "RealtimeConnectionMonitor"]

logger = logging.getLogger(__name__)

HEARTBEAT_S = 60.0
CLEANUP_S = 300.0


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """Active subscriptions, and events of the last 24 hours."""

    active_connections: int
    today_messages: int

    @property
    def average_messages(self) -> float:
        """Events per active subscription; 0 without any."""
        if not self.active_connections:
            return 0.0
        return self.today_messages / self.active_connections


class RealtimeConnectionMonitor:
    """Watches the managers that ``managers`` returns at the time."""

    def __init__(
        self,
        records: SubscriptionRecords,
        managers: Callable[[], Iterable[RealtimeSubscriptionManager]],
        clock: Clock,
    ) -> None:
        self._records = records
        self._managers = managers
        self._clock = clock
        self._timers: list[asyncio.Task[None]] = []

    @property
    def is_running(self) -> bool:
        """Whether the timers run."""
        return bool(self._timers)

    def start(self) -> None:
        """Start the timers; starting again changes nothing."""
        if self._timers:
            return
        self._timers = [
            asyncio.create_task(self._every(HEARTBEAT_S, self.heartbeat)),
            asyncio.create_task(self._every(CLEANUP_S, self.clean_up)),
        ]

    async def stop(self) -> None:
        """Stop the timers and wait for them."""
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)

    async def heartbeat(self) -> None:
        """Ping every live channel and write down its events."""
        for manager in list(self._managers()):
            await manager.flush()
            await manager.heartbeat()

    async def clean_up(self) -> int:
        """Remove dead records and close their channels; return how many records."""
        removed = await self._records.clean_up()
        for manager in list(self._managers()):
            await manager.drop_unrecorded()
        logger.info("subscriptions cleaned up", extra={"removed": removed})
        return removed

    async def stats(self) -> ConnectionStats:
        """Count what is active, and what was delivered today."""
        channels = await self._records.active_channels()
        messages, _ = await self._records.messages_today()
        return ConnectionStats(len(channels), messages)

    async def _every(
        self, interval_s: float, work: Callable[[], Awaitable[object]]
    ) -> None:
        while True:
            await self._clock.sleep(interval_s)
            try:
                await work()
            except (APIError, httpx.HTTPError, OSError):
                # The next round tries again; a timer that died would clean up nothing.
                logger.exception("realtime monitoring failed")
