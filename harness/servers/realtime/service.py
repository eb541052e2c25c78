"""Realtime of one project: sockets, buses, quotas, and the parts that need a database.

The service starts nothing until it is used.  Sockets and channels call back into it:
:meth:`RealtimeService.join` admits a channel, :meth:`~RealtimeService.leave` and
:meth:`~RealtimeService.forget` clean up after it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any

from aiohttp import web

from harness.protocols.pgoutput import Change
from harness.protocols.phoenix import encode_json, serializer_for
from harness.protocols.websocket import VERSION
from harness.servers.project import ServedProject
from harness.servers.realtime.authorization import Authorizer
from harness.servers.realtime.changes import ChangeFeed
from harness.servers.realtime.channel import Channel
from harness.servers.realtime.database import Database
from harness.servers.realtime.fanout import BinaryOutgoing, Bus, Outbox
from harness.servers.realtime.http_api import HttpApi
from harness.servers.realtime.join_request import TOPIC_PREFIX
from harness.servers.realtime.joining import TOO_MANY_JOINS, TOO_MANY_USERS, Joiner
from harness.servers.realtime.metrics import Metrics
from harness.servers.realtime.quotas import Quotas
from harness.servers.realtime.replay import Replayer
from harness.servers.realtime.settings import RealtimeSettings
from harness.servers.realtime.socket import (
    CLOSE_NORMAL,
    CLOSE_RESTART,
    RefusingSocket,
    Socket,
)
from harness.servers.realtime.tokens import Identity, RefusedError, TokenVerifier
from harness.servers.realtime.writers import Writers

__all__ = ["RealtimeService"]

SWEEP_S = 1.0
MAINTAIN_S = 4 * 3600.0
log = logging.getLogger(__name__)


class RealtimeService:
    """The Realtime server of one project.

    Raises :class:`harness.errors.ConfigError` for settings that do not exist.
    """

    def __init__(self, project: ServedProject) -> None:
        self.project = project
        self.settings = RealtimeSettings.from_mapping(project.settings.realtime)
        self.clock = project.clock
        self.now_s = self.clock.monotonic_s()
        self.metrics = Metrics()
        self.quotas = Quotas(self.settings, self.now_s)
        self.tokens = TokenVerifier(
            project.keyset, self.unix_s, self.settings.jwt_claim_validators
        )
        self.sockets: set[Socket] = set()
        self.joined: set[Socket] = set()
        self.buses: dict[tuple[bool, str], Bus] = {}
        self.database = Database(project, self.settings)
        timeout_s = self.settings.statement_timeout_ms / 1000
        self.authorizer = Authorizer(self.database, self.spawn, timeout_s)
        self.changes = ChangeFeed(self)
        self.joiner = Joiner(self)
        self._http = HttpApi(self)
        self.replayer = Replayer(self.database, timeout_s)
        self._outbox: Outbox | None = None
        self.writers: Writers | None = None
        self._used_s = self._maintained_s = self.now_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        prefix, numbers = secrets.token_urlsafe(6), itertools.count(1)
        self._next_ref = lambda: f"{prefix}{next(numbers):x}"

    async def start(self) -> None:
        """Do nothing yet: what is needed opens when the first client comes."""

    async def stop(self) -> None:
        """Close every socket and connection."""
        self.disconnect_all()
        tasks = [*self._tasks, *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sweeper = None
        await self.changes.close()
        writers, self.writers = self.writers, None
        if writers is not None:
            await writers.close()

    def unix_s(self) -> float:
        """Return the wall time in Unix seconds."""
        return self.clock.now().timestamp()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else; its failure is logged and counted."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    # Connecting -----------------------------------------------------------------------

    def websocket(
        self,
        transport: asyncio.Transport,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> asyncio.Protocol:
        """Answer an upgrade request and return the protocol of the connection.

        ``key`` is its ``Sec-WebSocket-Key``, '' without one; ``headers`` are the
        others, names in lower case.
        """
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        serializer = serializer_for(query.get("vsn"))
        if serializer is None:
            return self._refuse(transport, "403 Forbidden", None)
        if not key or headers.get("sec-websocket-version") != VERSION:
            return self._refuse(transport, "426 Upgrade Required", None)
        if max(map(len, headers.values())) > self.settings.max_header_length:
            status = "431 Request Header Fields Too Large"
            return self._refuse(transport, status, None)
        try:
            identity = self._connect_identity(query, headers)
        except RefusedError as exc:
            return self._refuse(transport, exc.code, exc.text)
        if self.settings.workers and self.writers is None:
            self.writers = Writers(self.settings.workers)
        socket = Socket(self, transport, key, serializer, identity, headers)
        self.sockets.add(socket)
        self.metrics.connections += 1
        return socket

    def _connect_identity(
        self, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Identity:
        """Return who connects; a refusal's ``code`` is its HTTP status here."""
        if self.settings.suspend:
            raise RefusedError("403 Forbidden", "Realtime was disabled for this tenant")
        token = headers.get("x-api-key") or query.get("apikey")
        if not token:
            raise RefusedError("401 Unauthorized", "API key is missing")
        try:
            identity = self.tokens.verify(token)
        except RefusedError as exc:
            expired = exc.text.startswith("Token has expired")
            text = "Token has expired" if expired else exc.text
            raise RefusedError("401 Unauthorized", text) from exc
        if len(self.joined) >= self.settings.max_concurrent_users:
            raise RefusedError("429 Too Many Requests", TOO_MANY_USERS)
        if self.quotas.joins.exceeded:
            raise RefusedError("429 Too Many Requests", TOO_MANY_JOINS)
        return identity

    def _refuse(
        self, transport: asyncio.Transport, status: str, error: str | None
    ) -> asyncio.Protocol:
        self.metrics.refused_connections += 1
        delay_s = self.settings.connect_error_backoff_ms / 1000
        return RefusingSocket(transport, status, error, delay_s)

    # Channels -------------------------------------------------------------------------

    def bus(self, topic: str, *, private: bool) -> Bus:
        """Return the bus of a topic, making it when nobody is on it yet."""
        bus = self.buses.get((private, topic))
        if bus is None:
            if self._outbox is None:
                self._outbox = Outbox(self.quotas, self.writers)
            bus = Bus(
                topic, private=private, outbox=self._outbox, next_ref=self._next_ref
            )
            self.buses[private, topic] = bus
        return bus

    def listeners(self) -> list[Channel]:
        """Return every channel that hears broadcasts."""
        return [c for bus in self.buses.values() for c in bus.broadcasts.members()]

    def leave(self, channel: Channel, bus: Bus) -> None:
        """Clean up after a channel that has left ``bus``."""
        self.changes.subscriber.unsubscribe(channel)
        self.changes.late.discard(channel)
        bus.channels -= 1
        if not bus.channels:
            bus.close()
            self.buses.pop((bus.private, bus.topic), None)
        if not channel.socket.channels:
            self.joined.discard(channel.socket)

    def forget(self, socket: Socket) -> None:
        """Clean up after a socket that has closed."""
        self.sockets.discard(socket)

    def broadcast_stored(self, change: Change, commit_us: int) -> None:
        """Broadcast a row of realtime.messages that was just committed."""
        row = dict(zip(change.relation.columns, change.new or (), strict=True))
        topic, event = row.get("topic"), row.get("event")
        if not isinstance(topic, str) or not isinstance(event, str):
            return
        private = row.get("private") == "t"
        bus = self.buses.get((private, TOPIC_PREFIX + topic))
        if bus is None:
            return
        payload, binary = row.get("payload"), row.get("binary_payload")
        is_json = isinstance(payload, str)
        if isinstance(payload, str):
            data = payload.encode()
        elif isinstance(binary, str):
            data = bytes.fromhex(binary.removeprefix("\\x"))
        else:
            return
        self.metrics.broadcasts_from_database += 1
        waited_s = max(0.0, self.unix_s() - commit_us / 1_000_000)
        self.metrics.broadcast_waiting_seconds += waited_s
        self.quotas.events.add()
        if self.quotas.events.exceeded:
            return
        bus.broadcasts.publish(
            BinaryOutgoing(
                bus.topic,
                event,
                data,
                is_json=is_json,
                message_id=str(row["id"]),
            )
        )

    # Housekeeping ---------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(SWEEP_S)
            self.now_s = self.clock.monotonic_s()
            self.quotas.advance(self.now_s)
            unix_s = self.unix_s()
            self.changes.tick(self.now_s, unix_s)
            for socket in list(self.sockets):
                self._sweep_socket(socket, unix_s)
            await self._keep_database()

    async def _keep_database(self) -> None:
        """Look after what the database holds for us, or let it go when unused."""
        if self.joined:
            self._used_s = self.now_s
        elif self.now_s - self._used_s > self.settings.database_idle_s:
            await self.changes.close()
        if self.now_s - self._maintained_s > MAINTAIN_S and self.changes.is_streaming:
            self._maintained_s = self.now_s
            self.spawn(self.database.maintain_partitions())

    def _sweep_socket(self, socket: Socket, unix_s: float) -> None:
        settings = self.settings
        if self.now_s - socket.last_seen_s > settings.idle_timeout_s:
            socket.close(CLOSE_NORMAL)
        elif socket.channels:
            for channel in list(socket.channels.values()):
                channel.check_expiry(unix_s)
        elif self.now_s - socket.empty_since_s > settings.no_channel_timeout_s:
            socket.drop()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.metrics.internal_errors += 1
            log.error("a realtime task failed", exc_info=error)

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer an HTTP request to ``/realtime/v1`` + ``path``."""
        return await self._http.handle(request, path)

    def gauges(self) -> dict[str, float]:
        """Return what stands now, for the metrics."""
        return {
            "connected_sockets": len(self.sockets),
            "joined_sockets": len(self.joined),
            "topics": len(self.buses),
            "subscriptions": len(self.changes.registry),
            "changes_waiting": self.changes.waiting,
            "replication_connected": self.changes.is_streaming,
            "messages_delivered": self._outbox.delivered if self._outbox else 0,
            "visibility_checks": self.changes.checker.checks,
            "events_per_second": self.quotas.events.average,
        }

    def disconnect_all(self) -> None:
        """Tell every channel that the server asks it to leave, and close."""
        payload = encode_json(
            {
                "message": "Server requested disconnect",
                "status": "ok",
                "extension": "system",
            }
        )
        for socket in list(self.sockets):
            for channel in socket.channels.values():
                text = socket.serializer.push(None, channel.topic, "system", payload)
                socket.send_text(text)
            socket.close(CLOSE_RESTART, "Server requested disconnect")
