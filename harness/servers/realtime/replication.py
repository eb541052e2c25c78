"""The replication stream: one walsender connection, a temporary slot, no polling.

libpq carries the protocol (so SCRAM and TLS come with it) and the event loop waits for
its socket.  Reading stops while the sink asks for a pause: PostgreSQL then keeps what
is not yet read, and memory here stays bounded.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Protocol

from psycopg import OperationalError, pq
from psycopg.pq.abc import PGconn

from harness.errors import RemoteProtocolError, StackError
from harness.protocols.pgoutput import (
    Begin,
    Change,
    Commit,
    Decoder,
    Keepalive,
    Truncate,
    encode_standby_status,
    parse_stream_message,
)

__all__ = ["ChangeSink", "ReplicationError", "ReplicationStream"]

SLOT_PREFIX = "supabase_realtime_replication_slot_"
MESSAGES_PER_TURN = 500
# Printed values must not depend on what a database or role has set.
SESSION_OPTIONS = (
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1"
    " -c bytea_output=hex"
)
log = logging.getLogger(__name__)


class ReplicationError(StackError):
    """The replication connection failed or could not be made."""


class ChangeSink(Protocol):
    """What the stream tells, in commit order."""

    def receive_change(self, change: Change, begin: Begin) -> None:
        """Take one changed row of the transaction that ``begin`` opened."""
        ...

    def receive_truncate(self, truncate: Truncate, begin: Begin) -> None:
        """Take tables that were emptied."""
        ...

    def turn_ended(self) -> None:
        """Note that everything readable for now was handed over."""
        ...

    def stream_lost(self, error: ReplicationError) -> None:
        """Note that nothing more will come."""
        ...


class ReplicationStream:
    """Streams the changes of ``publications`` into ``sink`` until closed or lost.

    Everything that was committed up to ``received_lsn`` was handed over.
    """

    def __init__(self, dsn: str, publications: Sequence[str], sink: ChangeSink) -> None:
        self.publications = tuple(publications)
        self._dsn = f"{dsn} replication=database options='{SESSION_OPTIONS}'"
        self._sink = sink
        self._decoder = Decoder()
        self._connection: PGconn | None = None
        self._descriptor = -1
        self._begin = Begin(0, 0, 0)
        self.received_lsn = 0
        self._paused = False
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Connect, make the slot and start streaming.

        Raises :class:`ReplicationError`.  Making the slot waits for the transactions
        that are writing now, as PostgreSQL requires.
        """
        conninfo = f"{self._dsn} application_name=realtime_changes".encode()
        connection = await asyncio.to_thread(pq.PGconn.connect, conninfo)
        if connection.status != pq.ConnStatus.OK:
            message = connection.get_error_message().strip()
            connection.finish()
            raise ReplicationError(message, service="realtime")
        connection.nonblocking = 1
        self._connection = connection
        # Once the connection is lost, libpq does not tell its descriptor any more.
        self._descriptor = connection.socket
        try:
            await self._start_streaming(SLOT_PREFIX + secrets.token_hex(6))
        except OperationalError as exc:
            self.close()
            raise ReplicationError(str(exc), service="realtime") from exc
        except BaseException:
            self.close()
            raise
        self._loop.add_reader(self._descriptor, self._read)
        # Messages may have come along with the answer to the command.
        self._loop.call_soon(self._read)

    async def _start_streaming(self, slot: str) -> None:
        await self._command(
            f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput"
            " (SNAPSHOT 'nothing')",
            pq.ExecStatus.TUPLES_OK,
        )
        names = ",".join('"' + n.replace('"', '""') + '"' for n in self.publications)
        quoted = names.replace("'", "''")
        await self._command(
            f"START_REPLICATION SLOT {slot} LOGICAL 0/0"
            f" (proto_version '1', publication_names '{quoted}')",
            pq.ExecStatus.COPY_BOTH,
        )

    def close(self) -> None:
        """Disconnect; the slot goes with the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.remove_reader(self._descriptor)
            connection.finish()

    @property
    def is_open(self) -> bool:
        """Whether changes are being streamed."""
        return self._connection is not None

    def pause(self) -> None:
        """Leave what comes with PostgreSQL for now."""
        if not self._paused and self._connection is not None:
            self._paused = True
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Go on reading."""
        if self._paused and self._connection is not None:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read)
            self._loop.call_soon(self._read)

    def confirm(self, unix_s: float) -> None:
        """Tell PostgreSQL how far we are, so that it can let its log go."""
        if self._connection is None or not self.received_lsn:
            return
        status = encode_standby_status(
            self.received_lsn, unix_us=int(unix_s * 1_000_000)
        )
        try:
            self._connection.put_copy_data(status)
            self._connection.flush()
        except OperationalError as exc:
            self._lose(exc)

    async def _command(self, command: str, wanted: pq.ExecStatus) -> None:
        connection = self._connection
        assert connection is not None
        connection.send_query(command.encode())
        connection.flush()
        while connection.is_busy():
            await self._readable()
            connection.consume_input()
        result = connection.get_result()
        if result is None or result.status != wanted:
            message = "" if result is None else result.get_error_message()
            raise ReplicationError(message.strip(), service="realtime")
        if wanted == pq.ExecStatus.TUPLES_OK:
            while connection.get_result() is not None:
                pass

    async def _readable(self) -> None:
        ready = self._loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_reader(self._descriptor, wake)
        try:
            await ready
        finally:
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> None:
        connection = self._connection
        if connection is None or self._paused:
            return
        try:
            connection.consume_input()
            self._drain(connection)
        except (OperationalError, RemoteProtocolError) as exc:
            self._lose(exc)
            return
        self._sink.turn_ended()

    def _drain(self, connection: PGconn) -> None:
        for _ in range(MESSAGES_PER_TURN):
            if self._paused:
                return
            size, data = connection.get_copy_data(1)
            if size == 0:
                return
            if size < 0:
                result = connection.get_result()
                message = "" if result is None else result.get_error_message()
                raise OperationalError(message.strip() or "the stream ended")
            self._receive(bytes(data))
        # Others get their turn; libpq holds more that no new byte will announce.
        self._loop.call_soon(self._read)

    def _receive(self, data: bytes) -> None:
        message = parse_stream_message(data)
        if isinstance(message, Keepalive):
            self.received_lsn = max(self.received_lsn, message.end_lsn)
            if message.reply_requested:
                self.confirm(0)
            return
        decoded = self._decoder.decode(message.payload)
        if isinstance(decoded, Change):
            self._sink.receive_change(decoded, self._begin)
        elif isinstance(decoded, Begin):
            self._begin = decoded
        elif isinstance(decoded, Commit):
            self.received_lsn = max(self.received_lsn, decoded.end_lsn)
        elif isinstance(decoded, Truncate):
            self._sink.receive_truncate(decoded, self._begin)

    def _lose(self, error: Exception) -> None:
        self.close()
        lost = ReplicationError(str(error), service="realtime")
        lost.__cause__ = error
        self._sink.stream_lost(lost)
