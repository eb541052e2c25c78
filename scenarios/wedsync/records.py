"""The server's bookkeeping: subscriptions, activity, limits.  Service key only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, cast

from scenarios.wedsync.channels import Channel, Filter, Tenant

if TYPE_CHECKING:
    from supabase import AsyncClient

    from harness.clock import Clock

__all__ = ["LimitReachedError", "NewSubscription", "SubscriptionRecords"]

DAY = timedelta(days=1)
PAGE = 500
Event = Literal["SUBSCRIBE", "UNSUBSCRIBE", "DENIED", "EVENTS"]


class LimitReachedError(Exception):
    """A user or a supplier has as many subscriptions as allowed.

    ``whose`` is ``user`` or ``supplier``.
    """

    def __init__(self, whose: str) -> None:
        super().__init__(f"the {whose} has too many subscriptions")
        self.whose = whose


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription to be recorded."""

    channel_id: str
    channel: Channel
    filter: Filter

    def row(self) -> Mapping[str, Any]:
        """Return it as the database function takes it."""
        return {
            "channel_id": self.channel_id,
            "channel_name": self.channel.name,
            "table_name": self.channel.table,
            "filter_params": {self.filter.column: self.filter.value},
        }


class SubscriptionRecords:
    """The tables ``realtime_subscriptions`` and ``realtime_activity_logs``."""

    def __init__(self, service: AsyncClient, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def tenant(self, user_id: str) -> Tenant | None:
        """Return whom a user speaks for."""
        answer = await (
            self._service.table("user_profiles")
            .select("user_type, supplier_id, couple_id")
            .eq("id", user_id)
            .execute()
        )
        rows = cast("list[dict[str, Any]]", answer.data)
        return Tenant(user_id, **rows[0]) if rows else None

    async def allows(
        self, user_id: str, subscriptions: int, *, limit: int, window_ms: int
    ) -> bool:
        """Count subscriptions against the rate limit; false when too many."""
        answer = await self._service.rpc(
            "check_rate_limit",
            {
                "p_key": f"realtime-subscribe:{user_id}",
                "p_max": limit,
                "p_window_ms": window_ms,
                "p_cost": subscriptions,
                "p_now": self._clock.now().isoformat(),
            },
        ).execute()
        return bool(answer.data)

    async def open(
        self, user_id: str, batch: Sequence[NewSubscription], *, user_limit: int
    ) -> None:
        """Record a batch, all or none; raises :class:`LimitReachedError`."""
        answer = await self._service.rpc(
            "open_subscriptions",
            {
                "p_user_id": user_id,
                "p_subscriptions": [new.row() for new in batch],
                "p_user_limit": user_limit,
                "p_now": self._clock.now().isoformat(),
            },
        ).execute()
        if answer.data != "ok":
            raise LimitReachedError(str(answer.data).partition("_")[0])

    async def close(self, channel_ids: Sequence[str]) -> None:
        """Remove the records of subscriptions."""
        if channel_ids:
            await (
                self._subscriptions.delete()
                .in_("channel_id", list(channel_ids))
                .execute()
            )

    async def ping(self, channel_ids: Sequence[str]) -> set[str]:
        """Mark subscriptions as alive; return those that are still recorded."""
        if not channel_ids:
            return set()
        alive = {"last_ping_at": self._clock.now().isoformat()}
        answer = await (
            self._subscriptions.update(alive)
            .in_("channel_id", list(channel_ids))
            .execute()
        )
        rows = cast("list[dict[str, Any]]", answer.data)
        return {str(row["channel_id"]) for row in rows}

    async def recorded(self, channel_ids: Sequence[str]) -> set[str]:
        """Return which of these subscriptions are recorded."""
        found: set[str] = set()
        for start in range(0, len(channel_ids), PAGE):
            part = list(channel_ids[start : start + PAGE])
            query = self._subscriptions.select("channel_id").in_("channel_id", part)
            rows = cast("list[dict[str, Any]]", (await query.execute()).data)
            found |= {str(row["channel_id"]) for row in rows}
        return found

    async def clean_up(self) -> int:
        """Remove subscriptions that are closed or silent for five minutes."""
        arguments = {"p_now": self._clock.now().isoformat()}
        call = self._service.rpc("cleanup_inactive_subscriptions", arguments)
        return int(cast("int", (await call.execute()).data))

    async def log(
        self,
        user_id: str,
        channel_id: str,
        event: Event,
        *,
        count: int = 1,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        """Add to the activity log."""
        await (
            self._service.table("realtime_activity_logs")
            .insert(
                {
                    "user_id": user_id,
                    "actor_id": user_id,
                    "channel_id": channel_id,
                    "event_type": event,
                    "event_count": count,
                    "payload": dict(payload or {}),
                    "timestamp": self._clock.now().isoformat(),
                }
            )
            .execute()
        )

    async def active_channels(self, user_id: str | None = None) -> list[str]:
        """Return the channel names of active subscriptions, of one user or all."""
        names: list[str] = []
        while True:
            query = self._subscriptions.select("channel_name").eq("active", True)
            if user_id is not None:
                query = query.eq("user_id", user_id)
            page = query.order("id").range(len(names), len(names) + PAGE - 1)
            rows = cast("list[dict[str, Any]]", (await page.execute()).data)
            names += [str(row["channel_name"]) for row in rows]
            if len(rows) < PAGE:
                return names

    async def messages_today(
        self, user_id: str | None = None
    ) -> tuple[int, str | None]:
        """Return how many events there were in 24 hours, and the last one's time."""
        since = (self._clock.now() - DAY).isoformat()
        total, last, seen = 0, None, 0
        while True:
            query = (
                self._service.table("realtime_activity_logs")
                .select("event_count, timestamp")
                .eq("event_type", "EVENTS")
                .gte("timestamp", since)
            )
            if user_id is not None:
                query = query.eq("user_id", user_id)
            page = query.order("timestamp", desc=True).order("id")
            answer = await page.range(seen, seen + PAGE - 1).execute()
            rows = cast("list[dict[str, Any]]", answer.data)
            total += sum(int(row["event_count"]) for row in rows)
            if rows and last is None:
                last = str(rows[0]["timestamp"])
            seen += len(rows)
            if len(rows) < PAGE:
                return total, last

    @property
    def _subscriptions(self) -> Any:
        return self._service.table("realtime_subscriptions")
