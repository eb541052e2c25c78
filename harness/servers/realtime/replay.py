"""Stored broadcasts, sent again to a private channel that joins and asks for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from harness.errors import LocalProtocolError
from harness.protocols.phoenix import V2, encode_binary_broadcast, encode_json
from harness.protocols.websocket import OP_BINARY, encode_frame
from harness.servers.realtime.database import Database, DatabaseUnavailableError
from harness.servers.realtime.join_request import Replay
from harness.servers.realtime.tokens import RefusedError

if TYPE_CHECKING:
    from harness.servers.realtime.channel import Channel

__all__ = ["Replayed", "Replayer"]

# Clocks of senders may run ahead a little.
FUTURE_SQL_INTERVAL = "1 minute"
REPLAY_SQL = f"""
select id::text, event, payload::text as payload, binary_payload
from realtime.messages
where topic = $1 and private and extension = 'broadcast' and event is not null
    and inserted_at >= $2
    and inserted_at < timezone('utc', now()) + interval '{FUTURE_SQL_INTERVAL}'
order by inserted_at desc
limit $3
"""
UNABLE = "Realtime was unable to replay messages"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One stored message.  Exactly one of the payloads is there."""

    id: str
    event: str
    payload: str | None
    binary_payload: bytes | None

    def send_to(self, channel: Channel) -> None:
        """Send the message; the channel will not get its live copy again."""
        if channel.seen_ids is not None:
            channel.seen_ids.add(self.id)
        meta = {"id": self.id, "replayed": True}
        if self.payload is not None:
            text = b'{"event":%b,"payload":%b,"type":"broadcast","meta":%b}' % (
                encode_json(self.event),
                self.payload.encode(),
                encode_json(meta),
            )
            channel.push("broadcast", text)
        elif self.binary_payload is not None and channel.socket.serializer is V2:
            try:
                frame = encode_binary_broadcast(
                    channel.topic,
                    self.event,
                    self.binary_payload,
                    is_json=False,
                    metadata=encode_json(meta),
                )
            except LocalProtocolError:
                return  # names too long for a binary frame: it was never heard live
            channel.socket.send(encode_frame(OP_BINARY, frame))


class Replayer:
    """Reads what is stored of a topic, within ``timeout_s``: others wait meanwhile."""

    def __init__(self, database: Database, timeout_s: float) -> None:
        self._database = database
        self._timeout_s = timeout_s

    async def fetch(self, topic: str, replay: Replay) -> list[Replayed]:
        """Return the newest messages asked for, oldest first.

        Raises :class:`RefusedError` when they cannot be read.
        """
        try:
            since = EPOCH + timedelta(milliseconds=replay.since_ms)
            async with (
                asyncio.timeout(self._timeout_s),
                self._database.connection() as connection,
            ):
                records = await connection.fetch(
                    REPLAY_SQL, topic, since.replace(tzinfo=None), replay.limit
                )
        except (
            DatabaseUnavailableError,
            asyncpg.PostgresError,
            OverflowError,
            TimeoutError,
        ) as exc:
            raise RefusedError("UnableToReplayMessages", UNABLE) from exc
        return [Replayed(*record) for record in reversed(records)]
