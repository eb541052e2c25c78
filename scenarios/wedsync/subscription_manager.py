"""The live subscriptions of one signed-in user.

The realtime connection carries the user's own token, so PostgreSQL decides what
arrives; the filter only narrows it.  A batch of channels is subscribed to whole or not
at all, and counts as subscribed when the server has said that changes flow.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from realtime import RealtimePostgresChangesListenEvent, RealtimeSubscribeStates
from websockets.exceptions import ConnectionClosed

from scenarios.wedsync.channels import (
    Channel,
    ChannelDeniedError,
    Filter,
    Tenant,
    authorise,
    find_channel,
)
from scenarios.wedsync.records import LimitReachedError, NewSubscription

if TYPE_CHECKING:
    from realtime import AsyncRealtimeChannel
    from supabase import AsyncClient

    from scenarios.wedsync.records import SubscriptionRecords

__all__ = [
    "RealtimeSubscriptionManager",
    "SubscriptionFailedError",
    "SubscriptionResult",
]

logger = logging.getLogger(__name__)

SUBSCRIBE_TIMEOUT_S = 10.0
QUEUE_LENGTH = 1000
Event = Mapping[str, Any]


class SubscriptionFailedError(Exception):
    """The server did not let a channel go live; nothing of the batch is left."""


@dataclass(frozen=True, slots=True)
class SubscriptionResult:
    """A subscription that is live."""

    channel_id: str
    channel: str
    filter: str


@dataclass(slots=True)
class _Live:
    """A live channel: ``was_joined`` tells a first join from a rejoin."""

    new: NewSubscription
    channel: AsyncRealtimeChannel
    ready: asyncio.Future[None]
    was_joined: bool = False
    events: int = 0


@dataclass(slots=True, eq=False)
class _Reader:
    """Somebody who reads the events, with what has not been read yet."""

    queue: asyncio.Queue[Event | None] = field(
        default_factory=lambda: asyncio.Queue(QUEUE_LENGTH)
    )


class RealtimeSubscriptionManager:
    """Subscribes for ``tenant``; ``client`` speaks with that user's token."""

    def __init__(
        self,
        client: AsyncClient,
        records: SubscriptionRecords,
        tenant: Tenant,
        *,
        user_limit: int,
        subscribe_timeout_s: float = SUBSCRIBE_TIMEOUT_S,
    ) -> None:
        self.tenant = tenant
        self._client = client
        self._records = records
        self._user_limit = user_limit
        self._subscribe_timeout_s = subscribe_timeout_s
        self._live: dict[str, _Live] = {}
        self._readers: set[_Reader] = set()

    @property
    def channel_ids(self) -> list[str]:
        """The ids of the live subscriptions."""
        return list(self._live)

    @property
    def is_connected(self) -> bool:
        """Whether the realtime connection is up."""
        return bool(self._client.realtime.is_connected)

    async def subscribe(
        self, channels: Sequence[str], filters: Mapping[str, Filter]
    ) -> list[SubscriptionResult]:
        """Subscribe to channels, all or none; ``filters`` by tenant column.

        Raises :class:`ChannelDeniedError`, :class:`LimitReachedError` or
        :class:`SubscriptionFailedError`; each is in the activity log.
        """
        try:
            batch = [self._authorised(find_channel(c), filters) for c in channels]
            await self._records.open(
                self.tenant.user_id, batch, user_limit=self._user_limit
            )
        except (ChannelDeniedError, LimitReachedError) as denied:
            await self._log_denied(channels, str(denied))
            raise
        try:
            async with asyncio.TaskGroup() as tasks:
                for new in batch:
                    tasks.create_task(self._go_live(new))
        except ExceptionGroup as failed:
            await self._abandon(batch)
            await self._log_denied(channels, "the server refused")
            raise SubscriptionFailedError(str(failed.exceptions[0])) from failed
        for new in batch:
            payload = {"channel": new.channel.name, "filter": str(new.filter)}
            await self._records.log(
                self.tenant.user_id, new.channel_id, "SUBSCRIBE", payload=payload
            )
        return [
            SubscriptionResult(new.channel_id, new.channel.name, str(new.filter))
            for new in batch
        ]

    async def subscribe_to_form_responses(self) -> SubscriptionResult:
        """Follow the form responses of the user's supplier."""
        return await self._subscribe_own("form-responses")

    async def subscribe_to_journey_progress(self) -> SubscriptionResult:
        """Follow the journeys of the user's supplier's clients."""
        return await self._subscribe_own("journey-progress")

    async def subscribe_to_client_profiles(self) -> SubscriptionResult:
        """Follow the clients of the user's supplier."""
        return await self._subscribe_own("client-profiles")

    async def subscribe_to_core_fields(self) -> SubscriptionResult:
        """Follow the core fields of the user's couple."""
        return await self._subscribe_own("core-fields")

    async def unsubscribe(self, channel_id: str) -> bool:
        """End one subscription; false when it is not one of this user's."""
        if channel_id not in self._live:
            return False
        await self.flush()
        await self._leave(channel_id)
        await self._records.close([channel_id])
        await self._records.log(self.tenant.user_id, channel_id, "UNSUBSCRIBE")
        return True

    async def clean_up(self) -> None:
        """End everything; a subscription that fails does not keep the others."""
        outcomes = await asyncio.gather(
            *(self.unsubscribe(channel_id) for channel_id in self.channel_ids),
            return_exceptions=True,
        )
        for reader in self._readers:
            self._offer(reader, None)
        await self._client.realtime.close()
        errors = [o for o in outcomes if isinstance(o, Exception)]
        if errors:
            raise ExceptionGroup("some subscriptions did not end cleanly", errors)

    async def heartbeat(self) -> None:
        """Tell the records what is alive; drop what they have given up."""
        joined = [i for i, live in self._live.items() if live.channel.is_joined]
        recorded = await self._records.ping(joined)
        for channel_id in set(joined) - recorded:
            await self._leave(channel_id)

    async def drop_unrecorded(self) -> list[str]:
        """Leave channels whose records are gone; return their ids."""
        ids = self.channel_ids
        gone = sorted(set(ids) - await self._records.recorded(ids))
        for channel_id in gone:
            await self._leave(channel_id)
        return gone

    async def flush(self) -> None:
        """Write how many events arrived since the last time, one row a channel."""
        for channel_id, live in list(self._live.items()):
            count, live.events = live.events, 0
            if count:
                await self._records.log(
                    self.tenant.user_id, channel_id, "EVENTS", count=count
                )

    async def events(self) -> AsyncIterator[Event]:
        """Yield events as they arrive, until everything is cleaned up.

        A reader that does not keep up gets ``{"type": "overflow"}`` in place of what
        it missed, and one that was cut off ``{"type": "gap"}``: both should read again.
        """
        reader = _Reader()
        self._readers.add(reader)
        try:
            while (event := await reader.queue.get()) is not None:
                yield event
        finally:
            self._readers.discard(reader)

    def active(self) -> Counter[str]:
        """Return how many subscriptions there are of each channel."""
        return Counter(live.new.channel.name for live in self._live.values())

    def _authorised(
        self, channel: Channel, filters: Mapping[str, Filter]
    ) -> NewSubscription:
        asked = filters.get(channel.tenant_column)
        if asked is None:
            raise ChannelDeniedError(
                f"{channel.tenant_column} is required for {channel.name}"
            )
        own = authorise(self.tenant, channel, asked)
        return NewSubscription(f"{channel.name}-{uuid.uuid4()}", channel, own)

    async def _subscribe_own(self, name: str) -> SubscriptionResult:
        column = find_channel(name).tenant_column
        own = Filter(column, "eq", self.tenant.id_of(column) or "")
        (result,) = await self.subscribe([name], {column: own})
        return result

    async def _go_live(self, new: NewSubscription) -> None:
        """Join a channel and wait until changes flow."""
        ready = asyncio.get_running_loop().create_future()
        channel = self._client.channel(new.channel_id)
        live = _Live(new, channel, ready)
        self._live[new.channel_id] = live
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent.All,
            lambda payload: self._received(live, payload),
            table=new.channel.table,
            filter=str(new.filter),
        )
        channel.on_system(lambda _: self._flowing(live))
        async with asyncio.timeout(self._subscribe_timeout_s):
            await channel.subscribe(lambda s, error: self._state(live, s, error))
            await ready

    def _state(
        self, live: _Live, state: RealtimeSubscribeStates, error: Exception | None
    ) -> None:
        refused = state in (
            RealtimeSubscribeStates.CHANNEL_ERROR,
            RealtimeSubscribeStates.TIMED_OUT,
        )
        if refused and not live.ready.done():
            reason = error or SubscriptionFailedError(state.value)
            live.ready.set_exception(reason)

    def _flowing(self, live: _Live) -> None:
        """Note that changes flow: for the first time, or again after a cut."""
        if not live.ready.done():
            live.ready.set_result(None)
        if live.was_joined:
            self._publish({"type": "gap", "channel_id": live.new.channel_id})
        live.was_joined = True

    def _received(self, live: _Live, payload: Any) -> None:
        live.events += 1
        self._publish(
            {
                "type": "change",
                "channel_id": live.new.channel_id,
                "channel": live.new.channel.name,
                "change": payload["data"],
            }
        )

    def _publish(self, event: Event) -> None:
        for reader in self._readers:
            self._offer(reader, event)

    def _offer(self, reader: _Reader, event: Event | None) -> None:
        """Queue an event; a full queue is emptied and says so."""
        if reader.queue.full():
            while not reader.queue.empty():
                reader.queue.get_nowait()
            reader.queue.put_nowait({"type": "overflow"})
        reader.queue.put_nowait(event)

    async def _leave(self, channel_id: str) -> None:
        live = self._live.pop(channel_id, None)
        if live is None:
            return
        try:
            await self._client.remove_channel(live.channel)
        except (OSError, ConnectionClosed):
            # The line is cut and took the channel along; one that is being left is not
            # joined again when the line comes back.
            logger.info("left a channel without a line", extra={"id": channel_id})

    async def _abandon(self, batch: Sequence[NewSubscription]) -> None:
        """Take a failed batch back."""
        ids = [new.channel_id for new in batch]
        for channel_id in ids:
            await self._leave(channel_id)
        await self._records.close(ids)

    async def _log_denied(self, channels: Sequence[str], reason: str) -> None:
        for channel in channels:
            payload = {"channel": channel, "reason": reason}
            await self._records.log(
                self.tenant.user_id, channel, "DENIED", payload=payload
            )
