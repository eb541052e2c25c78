"""Subscriptions come, change their identity, and go.

A subscription covers the log between two positions: from where it began to where its
channel took on another token.  So what was committed before a refresh is judged by the
old token, what comes after it by the new one, however far the delivery is behind.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import asyncpg

from harness.servers.realtime.coalescing import Coalesced
from harness.servers.realtime.database import RETRY_S, DatabaseUnavailableError
from harness.servers.realtime.join_request import Binding
from harness.servers.realtime.subscriptions import (
    EXTENSION,
    SUBSCRIBED,
    Listener,
    Subscription,
    SubscriptionError,
    Watch,
    check_watches,
    read_watches,
)
from harness.servers.realtime.watchers import SubscriptionRegistry

if TYPE_CHECKING:
    from harness.servers.realtime.channel import Channel
    from harness.servers.realtime.service import RealtimeService

__all__ = ["Subscriber"]

PUBLISHED_SQL = """
select string_agg(format('%I.%I', schemaname, tablename), ','
    order by schemaname, tablename)
from pg_publication_tables where pubname = $1
"""
POSITION_SQL = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
log = logging.getLogger(__name__)


class Subscriber:
    """Makes and ends the subscriptions of one project's channels."""

    def __init__(
        self, service: RealtimeService, registry: SubscriptionRegistry
    ) -> None:
        self._service = service
        self._registry = registry
        self._publication = service.settings.publication
        self._published: str | None = ""
        # Many clients that come together with the same watches cost one check.
        self._checked = Coalesced(self._check, service.spawn)

    def subscribe(self, channel: Channel, bindings: Iterable[Binding]) -> None:
        """Subscribe ``channel`` in the background; it is told how that went."""
        self._service.spawn(self._subscribe(channel, tuple(bindings)))

    async def prepare(
        self, channel: Channel, bindings: Iterable[Binding]
    ) -> Subscription | SubscriptionError:
        """Return the subscription that ``bindings`` ask for, or why there is none.

        Waits until changes are streamed, and as long as there is no database.
        """
        try:
            return await self._prepare(channel, read_watches(bindings))
        except SubscriptionError as exc:
            return exc

    def settle(
        self, channel: Channel, subscription: Subscription | SubscriptionError
    ) -> None:
        """Make a subscription live, or tell the channel why it is not."""
        if channel.bus is None:
            return
        if isinstance(subscription, SubscriptionError):
            channel.system("error", EXTENSION, str(subscription))
            return
        if subscription.identity is not channel.identity:
            # The token changed while the database was asked.
            if channel.subscription is None:
                channel.subscription = subscription
                self._service.spawn(self.resubscribe(channel))
            return
        previous = channel.subscription
        if previous is not None:
            self._registry.end(previous, subscription.since_lsn)
        channel.subscription = subscription
        self._registry.add(subscription)
        self._service.changes.expect(subscription)
        channel.system("ok", EXTENSION, SUBSCRIBED)

    def unsubscribe(self, channel: Listener) -> None:
        """Deliver nothing more to ``channel``."""
        channel.subscription = None
        self._registry.remove(channel)

    async def resubscribe(self, channel: Channel) -> None:
        """Judge by the channel's new identity what is committed from now on."""
        current = channel.subscription
        if current is None:
            return
        try:
            subscription = await self._prepare(channel, current.watches)
        except SubscriptionError as exc:
            self.unsubscribe(channel)
            self.settle(channel, exc)
            return
        self.settle(channel, subscription)

    async def check_publication(self) -> None:
        """End subscriptions to tables that are not published any more."""
        async with self._service.database.connection() as connection:
            published = await connection.fetchval(PUBLISHED_SQL, self._publication)
            if published == self._published:
                return
            alike: defaultdict[tuple[tuple[Watch, ...], str], list[Subscription]]
            alike = defaultdict(list)
            for subscription in self._registry:
                alike[subscription.watches, subscription.identity.role].append(
                    subscription
                )
            for (watches, role), subscriptions in alike.items():
                try:
                    await check_watches(connection, self._publication, watches, role)
                except SubscriptionError as exc:
                    self.end(subscriptions, str(exc))
            self._published = published

    def end(self, subscriptions: Iterable[Subscription], reason: str) -> None:
        """End what cannot be served any more, saying why."""
        for subscription in subscriptions:
            if subscription.is_live:
                self.unsubscribe(subscription.channel)
                subscription.channel.system("error", EXTENSION, reason)

    async def _subscribe(self, channel: Channel, bindings: tuple[Binding, ...]) -> None:
        self.settle(channel, await self.prepare(channel, bindings))

    async def _prepare(
        self, channel: Channel, watches: tuple[Watch, ...]
    ) -> Subscription:
        attempt = 0
        while channel.bus is not None:
            try:
                await self._service.changes.stream_publication()
                identity = channel.identity
                since_lsn = await self._checked.ask((watches, identity.role))
                return Subscription(channel, identity, watches, since_lsn)
            except (DatabaseUnavailableError, asyncpg.PostgresError) as exc:
                log.warning("subscription not checked: %s", exc)
                await self._service.clock.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
        raise SubscriptionError("The channel has left")

    async def _check(self, question: tuple[tuple[Watch, ...], str]) -> int:
        """Let PostgreSQL refuse what cannot be subscribed; return the log's end."""
        watches, role = question
        async with self._service.database.connection() as connection:
            await check_watches(connection, self._publication, watches, role)
            position: int = await connection.fetchval(POSITION_SQL)
        return position
