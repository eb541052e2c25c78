"""The feed of row changes: from the replication stream to subscribed channels.

The stream opens with the first channel and fills a bounded queue; one task takes
batches from it and delivers them in commit order.  When the queue is full the stream
is held back, so nothing is dropped.  When the stream is lost, every subscriber is told
what it may have missed and the feed goes on with a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from harness.protocols.pgoutput import Begin, Change, Relation, Truncate
from harness.servers.realtime.batch import Item, TableBatch, by_relation
from harness.servers.realtime.database import (
    CONNECT_ERRORS,
    LOGIN,
    RETRY_S,
    DatabaseUnavailableError,
    unavailable,
)
from harness.servers.realtime.delivery import Frame, Letter, write_letters
from harness.servers.realtime.late import LateChannels
from harness.servers.realtime.payloads import commit_timestamp
from harness.servers.realtime.replication import ReplicationError, ReplicationStream
from harness.servers.realtime.subscribing import Subscriber
from harness.servers.realtime.subscriptions import (
    ANY,
    EXTENSION,
    SUBSCRIBED,
    Listener,
    Subscription,
)
from harness.servers.realtime.tables import Table, find_table, load_table
from harness.servers.realtime.visibility import MANY_CLAIMS, VisibilityChecker
from harness.servers.realtime.watchers import SubscriptionRegistry, TableWatchers

if TYPE_CHECKING:
    from harness.servers.realtime.service import RealtimeService

__all__ = ["ChangeFeed"]

MAX_BATCH = 1000
MAX_BATCH_BYTES = 8 * 1024 * 1024
CONFIRM_S = 10.0
MESSAGES_PUBLICATION = "supabase_realtime_messages_publication"
FILTER_FAILED = "Unable to subscribe to changes: a filter cannot be decided:"
TOO_MANY_CHANGES = "Too many database changes per second"
PUBLICATIONS_SQL = """
select pubname from pg_publication where pubname = any($1) order by pubname
"""
log = logging.getLogger(__name__)


class _Emptied(NamedTuple):
    """A truncated table, in its place among the changes."""

    relation: Relation
    commit_lsn: int


class _Expected(NamedTuple):
    """A table that somebody watches as a role, be it for ``many`` claims."""

    schema: str
    table: str
    role: str
    many: bool


class ChangeFeed:
    """Delivers the changes of one project."""

    def __init__(self, service: RealtimeService) -> None:
        self._service = service
        self._settings = service.settings
        self.registry = SubscriptionRegistry()
        self.subscriber = Subscriber(service, self.registry)
        self.checker = VisibilityChecker(
            service.project.database, self._settings.statement_timeout_ms
        )
        self.late = LateChannels(service)
        self._tables: dict[int, tuple[Relation, Table | None]] = {}
        self._queue: deque[Item | _Emptied] = deque()
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._expected: set[_Expected] = set()
        self._unprepared: deque[_Expected] = deque()
        self._stream: ReplicationStream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._last_commit_us = 0
        self._confirmed_s = self._checked_s = service.now_s

    # Opening and closing --------------------------------------------------------------

    def open_soon(self) -> asyncio.Task[None]:
        """Start streaming if nothing is; the task ends once changes are streamed."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return self._opening

    async def close(self) -> None:
        """Stop streaming and delivering."""
        tasks = [t for t in (self._opening, self._delivering) if t is not None]
        self._opening = self._delivering = None
        # At once: who comes while the tasks end gets a stream of its own.
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queue.clear()
        self._queued_bytes = 0
        self._expected.clear()
        self._unprepared.clear()
        await self.checker.close()

    @property
    def is_streaming(self) -> bool:
        """Whether changes are being read."""
        return self._stream is not None and self._stream.is_open

    @property
    def waiting(self) -> int:
        """How many changes were read and not yet delivered."""
        return len(self._queue)

    def tick(self, now_s: float, unix_s: float) -> None:
        """Confirm what was read, and look at the publication, now and then."""
        if self._stream is None:
            return
        if not self._queue:
            self.registry.retire(self._stream.received_lsn)
        if now_s - self._confirmed_s >= CONFIRM_S:
            self._confirmed_s = now_s
            self._stream.confirm(unix_s)
        if now_s - self._checked_s >= self._settings.publication_check_s:
            self._checked_s = now_s
            if self.registry:
                self._service.spawn(self.subscriber.check_publication())

    async def _open(self) -> None:
        attempt = 0
        while True:
            try:
                publications = await self._publications()
                dsn = self._service.project.database.dsn(LOGIN)
                stream = ReplicationStream(dsn, publications, self)
                await stream.open()
                break
            except (
                ReplicationError,
                DatabaseUnavailableError,
                asyncpg.PostgresError,
            ) as exc:
                log.warning("no replication stream: %s", exc)
                await self._service.clock.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
        self._stream = stream
        # Before the stream is first read from.
        self.late.stream_opened()
        if self._delivering is None:
            self._delivering = asyncio.get_running_loop().create_task(self._deliver())

    async def _publications(self) -> list[str]:
        async with self._service.database.connection() as connection:
            wanted = [self._settings.publication, MESSAGES_PUBLICATION]
            records = await connection.fetch(PUBLICATIONS_SQL, wanted)
            found = [record["pubname"] for record in records]
            if MESSAGES_PUBLICATION not in found:
                await connection.execute(
                    f"create publication {MESSAGES_PUBLICATION}"
                    " for table realtime.messages"
                )
                found.append(MESSAGES_PUBLICATION)
        return found

    async def stream_publication(self) -> None:
        """Wait for a stream that carries the project's publication, if there is one."""
        await asyncio.shield(self.open_soon())
        stream = self._stream
        if stream is None or self._settings.publication in stream.publications:
            return
        if self._settings.publication in await self._publications():
            # Created since: start over with it; nobody watches its tables yet.
            stream.close()
            self._opening = None
            await self._recover()

    # What the stream tells ------------------------------------------------------------

    def receive_change(self, change: Change, begin: Begin) -> None:
        """Queue one change, or broadcast it if it is a stored message."""
        relation = change.relation
        self._last_commit_us = begin.commit_us
        if relation.schema == "realtime" and relation.name.startswith("messages"):
            if change.operation == "INSERT":
                self._service.broadcast_stored(change, begin.commit_us)
            return
        self._service.metrics.changes_decoded += 1
        if not self.registry.watchers(relation.schema, relation.name):
            return
        self._queue.append(Item(change, begin.commit_us, begin.xid, begin.final_lsn))
        self._queued_bytes += change.size_bytes
        if self._is_fuller_than(1) and self._stream:
            self._stream.pause()

    def _is_fuller_than(self, share: float) -> bool:
        """Tell whether changes, or their bytes, wait beyond a share of the limit."""
        settings = self._settings
        return (
            len(self._queue) >= settings.unseen_change_limit * share
            or self._queued_bytes >= settings.unseen_change_bytes * share
        )

    def receive_truncate(self, truncate: Truncate, begin: Begin) -> None:
        """Queue that tables were emptied."""
        self._last_commit_us = begin.commit_us
        for relation in truncate.relations:
            if self.registry.watchers(relation.schema, relation.name):
                self._queue.append(_Emptied(relation, begin.final_lsn))

    def turn_ended(self) -> None:
        """Wake the delivery."""
        if self._queue:
            self._arrived.set()

    def stream_lost(self, error: ReplicationError) -> None:
        """Open a new stream and tell subscribers what the gap may have cost."""
        log.warning("replication stream lost: %s", error)
        self._service.metrics.replication_restarts += 1
        self._stream = self._opening = None
        self._service.spawn(self._recover())

    async def _recover(self) -> None:
        """Stream again, and tell everybody of the gap."""
        lost_after_us = self._last_commit_us
        since = ""
        if lost_after_us:
            since = f" after {commit_timestamp(lost_after_us)} and"
        await asyncio.shield(self.open_soon())
        now = self._service.clock.now()
        until = commit_timestamp(int(now.timestamp() * 1_000_000))
        lost = "The replication connection was lost and is back:"
        gap = f"committed{since} before {until} may be missing"
        subscribed = dict.fromkeys(self.registry.listeners())
        for listener in subscribed:
            text = f"{lost} changes and broadcasts {gap}"
            listener.system("error", EXTENSION, text)
            listener.system("ok", EXTENSION, SUBSCRIBED)
        for channel in self._service.listeners():
            if channel not in subscribed:
                text = f"{lost} broadcasts of the database {gap}"
                channel.system("error", "system", text)

    # Delivering -----------------------------------------------------------------------

    async def _deliver(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue or self._unprepared:
                if self._queue:
                    await self._deliver_next()
                else:
                    await self._prepare(self._unprepared.popleft())

    def expect(self, subscription: Subscription) -> None:
        """Prepare for the first change that ``subscription`` is to see.

        It would wait for connections, for the catalog, and for functions to be made.
        """
        many = len(self.registry) >= MANY_CLAIMS
        for watch in subscription.watches:
            role = subscription.identity.role
            expected = _Expected(watch.schema, watch.table, role, many)
            if expected not in self._expected:
                self._expected.add(expected)
                self._unprepared.append(expected)
                self._arrived.set()

    async def _prepare(self, expected: _Expected) -> None:
        schema, name, role, many = expected
        try:
            table = None
            if ANY not in (schema, name):
                table = await find_table(await self.checker.connection(), schema, name)
            await self.checker.prepare(table, role, many=many)
        except (DatabaseUnavailableError, asyncpg.PostgresError) as exc:
            # The first change will meet it again, and tell whom it concerns.
            log.info("not prepared for changes of %s.%s: %s", schema, name, exc)

    async def _deliver_next(self) -> None:
        first = self._queue[0]
        if isinstance(first, _Emptied):
            self._queue.popleft()
            self._announce_truncate(first)
            return
        items = self._next_batch()
        try:
            await self._deliver_batch(items)
        except Exception as exc:
            # A batch that breaks us must not end the feed; its readers are told.
            log.exception("a batch of changes was lost")
            self._service.metrics.internal_errors += 1
            self._lose(items, f"internal error ({type(exc).__name__})")
        if self._stream and not self._is_fuller_than(0.5):
            self._stream.resume()

    def _next_batch(self) -> list[Item]:
        """Take changes from the queue, up to the next truncated table."""
        items: list[Item] = []
        room_bytes = MAX_BATCH_BYTES
        while self._queue and len(items) < MAX_BATCH and room_bytes > 0:
            entry = self._queue[0]
            if isinstance(entry, _Emptied):
                break
            entry.place = len(items)
            items.append(entry)
            self._queue.popleft()
            room_bytes -= entry.change.size_bytes
            self._queued_bytes -= entry.change.size_bytes
        return items

    async def _deliver_batch(self, items: list[Item]) -> None:
        began_s = self._service.unix_s()
        letters = await self._letters_when_possible(items)
        judged_s = self._service.unix_s()
        self._post(letters)
        self.registry.retire(items[0].commit_lsn)
        metrics = self._service.metrics
        metrics.change_batches += 1
        committed_s = items[0].commit_us / 1_000_000
        # The database's clock may be ahead of ours.
        metrics.change_waiting_seconds += max(0.0, began_s - committed_s)
        metrics.change_judging_seconds += judged_s - began_s
        metrics.change_writing_seconds += self._service.unix_s() - judged_s

    async def _letters_when_possible(self, items: list[Item]) -> list[Letter]:
        attempt = 0
        while True:
            try:
                letters: list[Letter] = []
                for relation, some in by_relation(items):
                    letters += await self._letters(relation, some)
            except (DatabaseUnavailableError, *CONNECT_ERRORS) as exc:
                if (
                    isinstance(exc, asyncpg.InterfaceError)
                    and self.checker.is_connected
                ):
                    raise  # no other connection would make it go
                log.warning("changes wait for the database: %s", exc)
                await self._service.clock.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            else:
                return letters

    async def _letters(self, relation: Relation, items: list[Item]) -> list[Letter]:
        watchers = self.registry.watchers(relation.schema, relation.name)
        if not watchers:
            return []
        table = await self._table(relation)
        if table is None:
            reason = f"{relation.schema}.{relation.name} does not exist any more"
            return _all_lost(watchers, len(items), reason)
        connection = await self.checker.connection()
        batch = TableBatch(table, items, connection, self._settings)
        try:
            return await write_letters(batch, watchers, self.checker)
        except asyncpg.PostgresError as exc:
            if connection.is_closed():
                raise unavailable(exc) from exc
            self._tables.pop(relation.oid, None)
            return _all_lost(watchers, len(items), str(exc))

    async def _table(self, relation: Relation) -> Table | None:
        known = self._tables.get(relation.oid)
        if known is None or known[0] is not relation:
            table = await load_table(await self.checker.connection(), relation)
            known = self._tables[relation.oid] = relation, table
        return known[1]

    def _post(self, letters: list[Letter]) -> None:
        frames: dict[Listener, Sequence[Frame]] = {}
        for subscription, some, lost, reason, ends in letters:
            if not subscription.is_live:
                continue
            if ends:
                self.subscriber.end([subscription], f"{FILTER_FAILED} {reason}")
                continue
            channel = subscription.channel
            if lost:
                self._tell_loss(channel, lost, reason)
            if channel in frames:
                merged = [*frames[channel], *some]
                frames[channel] = sorted(merged, key=lambda frame: frame.place)
            else:
                frames[channel] = some
        meter, metrics = self._service.quotas.changes, self._service.metrics
        joined: dict[int, bytes] = {}
        for channel, some in frames.items():
            if not some:
                continue
            if meter.exceeded:
                self._tell_over_quota(channel, len(some))
                continue
            meter.add(len(some))
            metrics.changes_delivered += len(some)
            # Channels that share their frames share the joined bytes.
            data = joined.get(id(some))
            if data is None:
                data = joined[id(some)] = b"".join([frame.data for frame in some])
            channel.socket.send(data)

    def _lose(self, items: list[Item], reason: str) -> None:
        for relation, some in by_relation(items):
            watchers = self.registry.watchers(relation.schema, relation.name)
            for channel in watchers.listeners():
                self._tell_loss(channel, len(some), reason)

    def _tell_loss(self, channel: Listener, count: int, reason: str) -> None:
        self._service.metrics.changes_lost += count
        text = f"{count} changes could not be delivered: {reason}"
        channel.system("error", EXTENSION, text)

    def _tell_over_quota(self, channel: Listener, count: int) -> None:
        self._service.metrics.changes_lost += count
        text = f"{TOO_MANY_CHANGES}: {count} changes were not delivered"
        channel.system("error", EXTENSION, text)

    def _announce_truncate(self, emptied: _Emptied) -> None:
        relation = emptied.relation
        text = f"{relation.schema}.{relation.name} was truncated"
        watchers = self.registry.watchers(relation.schema, relation.name)
        for subscription in watchers.subscriptions():
            # What was committed before a subscription is none of its affair.
            if subscription.since_lsn <= emptied.commit_lsn < subscription.until_lsn:
                subscription.channel.system("ok", EXTENSION, text)


def _all_lost(watchers: TableWatchers, count: int, reason: str) -> list[Letter]:
    return [
        Letter(channel.subscription, (), count, reason)
        for channel in watchers.listeners()
        if channel.subscription is not None
    ]
