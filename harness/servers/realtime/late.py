"""Broadcasts of the database for channels that were welcomed before the stream opened.

Opening the stream waits for every transaction that is writing, which may take longer
than clients wait for the reply to a join.  Such a channel is welcomed nevertheless, and
what was committed between its reply and the first change of the stream is read from the
stored messages, once, before anything that the stream brings.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from harness.servers.realtime.database import DatabaseUnavailableError
from harness.servers.realtime.fanout import BinaryOutgoing, Bus

if TYPE_CHECKING:
    from harness.servers.realtime.channel import Channel
    from harness.servers.realtime.service import RealtimeService

__all__ = ["LateChannels", "Seen"]

MAY_BE_MISSING = (
    "The replication connection is open now: broadcasts that the database sent since"
    " the channel was joined may be missing"
)
# A row names its transaction by the low half of the id; it is visible, so not newer
# than the newest.  The day bounds the partitions that are read.
STORED = """
from realtime.messages, (
    select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint as newest
) as s, lateral (
    select (newest & ~4294967295) + xmin::text::bigint
        - case when xmin::text::bigint > (newest & 4294967295)
            then 4294967296 else 0 end as written_by
) as x
where topic = $1 and private = $2 and event is not null
    and inserted_at > timezone('utc', now()) - interval '1 day'
"""
# What is not committed yet belongs to transactions that run now or come later.
SEEN_SQL = f"""
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    array(select id::text {STORED} and written_by >= oldest)
"""
MISSED_SQL = f"""
select id::text, event, payload::text as payload, binary_payload {STORED}
    and written_by >= $3 and id::text <> all($4)
order by inserted_at
"""
log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What of a topic is committed: all of earlier transactions, and these messages."""

    oldest_running: int
    ids: tuple[str, ...]


class LateChannels:
    """The channels that hear nothing of the database yet, and what they saw last."""

    def __init__(self, service: RealtimeService) -> None:
        self._service = service
        self._waiting: dict[Channel, Seen | None] = {}

    async def look(self, channel: Channel) -> Seen | None:
        """Return what is committed of the topic, ``None`` if it cannot be read."""
        if channel.bus is None:
            return None
        try:
            async with self._service.database.connection() as connection:
                oldest_running, ids = await connection.fetchrow(
                    SEEN_SQL, channel.subtopic, channel.bus.private
                )
        except (DatabaseUnavailableError, asyncpg.PostgresError) as exc:
            log.warning("a late channel may miss broadcasts: %s", exc)
            return None
        return Seen(oldest_running, tuple(ids))

    def add(self, channel: Channel, seen: Seen | None) -> None:
        """Remember a channel that is to hear all that was not ``seen``."""
        self._waiting[channel] = seen

    def discard(self, channel: Channel) -> None:
        """Forget a channel that has left."""
        self._waiting.pop(channel, None)

    def stream_opened(self) -> None:
        """Fetch what the channels have missed; nothing overtakes it."""
        waiting, self._waiting = self._waiting, {}
        for channel, seen in waiting.items():
            bus = channel.bus
            if bus is not None:
                channel.seen_ids = channel.seen_ids or set()
                channel.held = channel.held or []
                self._service.spawn(self._catch_up(channel, bus, seen))

    async def _catch_up(self, channel: Channel, bus: Bus, seen: Seen | None) -> None:
        timeout_s = self._service.settings.statement_timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):  # what is held meanwhile is bounded
                missed = await self._missed(channel.subtopic, bus.private, seen)
        except (DatabaseUnavailableError, asyncpg.PostgresError, TimeoutError) as exc:
            log.warning("missed broadcasts cannot be read: %s", exc)
            missed = None
        if missed is None and channel.bus is not None:
            channel.system("error", "system", MAY_BE_MISSING)
        for record in missed or ():
            _send(channel, record)
        channel.release()

    async def _missed(
        self, topic: str, private: bool, seen: Seen | None
    ) -> list[asyncpg.Record] | None:
        if seen is None:
            return None
        async with self._service.database.connection() as connection:
            records: list[asyncpg.Record] = await connection.fetch(
                MISSED_SQL, topic, private, seen.oldest_running, list(seen.ids)
            )
        return records


def _send(channel: Channel, record: asyncpg.Record) -> None:
    if channel.bus is None or channel.seen_ids is None:
        return
    if record["id"] in channel.seen_ids:
        return  # replayed at the join
    channel.seen_ids.add(record["id"])
    payload = record["payload"]
    is_json = payload is not None
    message = BinaryOutgoing(
        channel.topic,
        record["event"],
        payload.encode() if is_json else record["binary_payload"] or b"",
        is_json=is_json,
        message_id=record["id"],
    )
    channel.socket.send(message.frame(channel.socket.serializer))
