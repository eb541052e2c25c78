"""One client of the load pool: joins a topic, counts what it gets, pushes broadcasts.

It speaks version 2.0.0.  Everything that carries a probe goes to ``on_probe``; replies
and system messages drive the join; the rest (presence, unknown events) is passed over,
as an application would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from harness.errors import RemoteProtocolError, StackError
from harness.load.probe import find_mark, read_probe
from harness.load.websocket_client import (
    OP_BINARY,
    OP_TEXT,
    WebSocketClient,
    connect_client,
)

__all__ = ["PhoenixClient"]

OnProbe = Callable[[int, int, int], None]
OnLost = Callable[["PhoenixClient"], None]
KIND_USER_BROADCAST_PUSH = 3
ENCODING_JSON = 1
JOIN_REF = "1"
HEARTBEAT = orjson.dumps([None, "hb", "phoenix", "heartbeat", {}])


class PhoenixClient:
    """A connection with one joined topic.

    ``on_probe(stream, sequence, intended_ns)`` is called for each measured message,
    ``on_lost(client)``, if anybody set it, when a live connection is gone; it may be
    connected and joined again.
    """

    __slots__ = (
        "_is_live",
        "_joined",
        "_leaving",
        "_live",
        "_mark_at",
        "_socket",
        "_wants_changes",
        "complaint",
        "index",
        "on_lost",
        "on_probe",
        "topic",
    )

    def __init__(
        self,
        index: int,
        topic: str,
        on_probe: OnProbe,
    ) -> None:
        self.index = index
        self.topic = topic
        self.on_probe = on_probe
        self.on_lost: OnLost | None = None
        self.complaint = ""
        self._socket: WebSocketClient | None = None
        self._joined: asyncio.Future[None] | None = None
        self._live: asyncio.Future[None] | None = None
        self._wants_changes = False
        self._is_live = False
        self._leaving = False
        self._mark_at = 0

    async def connect(self, url: str) -> None:
        """Open the connection."""
        self._socket = await connect_client(url, self._on_frame, self._on_lost)

    async def join(self, config: Mapping[str, Any], access_token: str = "") -> None:
        """Join the topic; returns once the channel is live.

        With ``postgres_changes`` that is when the server says that the subscription
        is.  Raises :class:`RemoteProtocolError` with the server's reason.
        """
        loop = asyncio.get_running_loop()
        self._joined = loop.create_future()
        self._live = loop.create_future()
        self._wants_changes = bool(config.get("postgres_changes"))
        payload: dict[str, Any] = {"config": config}
        if access_token:
            payload["access_token"] = access_token
        message = [JOIN_REF, JOIN_REF, self.topic, "phx_join", payload]
        self._send(OP_TEXT, orjson.dumps(message))
        await self._joined
        if self._wants_changes:
            await self._live
        self._is_live = True
        self.complaint = ""

    def broadcast(self, event: str, payload: bytes) -> None:
        """Push a broadcast as the current JavaScript client does: one binary frame."""
        names = (JOIN_REF.encode(), b"", self.topic.encode(), event.encode(), b"")
        sizes = bytes(len(name) for name in names)
        head = bytes((KIND_USER_BROADCAST_PUSH,)) + sizes + bytes((ENCODING_JSON,))
        self._send(OP_BINARY, b"".join((head, *names, payload)))

    def heartbeat(self) -> None:
        """Keep the connection alive."""
        self._send(OP_TEXT, HEARTBEAT)

    def close(self) -> None:
        """Leave."""
        self._leaving = True
        if self._socket is not None:
            self._socket.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._socket is None:
            raise StackError("the client is not connected", service="realtime")
        self._socket.send(opcode, payload)

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        probe = read_probe(payload, self._mark_at)
        if probe is not None:
            self.on_probe(*probe)
            if not self._mark_at:
                self._mark_at = find_mark(payload)
        elif opcode == OP_TEXT:
            self._on_message(payload)

    def _on_message(self, payload: bytes) -> None:
        _, ref, _, event, body = orjson.loads(payload)
        if event == "phx_reply" and ref == JOIN_REF:
            self._on_join_reply(body)
        elif event == "system":
            self._on_system(body)
        elif event in ("phx_close", "phx_error"):
            self._fail(self.complaint or f"{event} {body}")

    def _on_join_reply(self, body: Mapping[str, Any]) -> None:
        if body["status"] != "ok":
            self._fail(f"join refused: {body['response']}")
        else:
            _resolve(self._joined)

    def _on_system(self, body: Mapping[str, Any]) -> None:
        if body.get("status") != "ok":
            self._fail(str(body.get("message")))
        elif body.get("extension") == "postgres_changes":
            _resolve(self._live)

    def _on_lost(self, code: int) -> None:
        was_live, self._is_live = self._is_live, False
        if self._leaving:
            return
        if was_live and self.on_lost is not None:
            self.on_lost(self)
        else:
            self._fail(f"connection lost with code {code}")

    def _fail(self, reason: str) -> None:
        self.complaint = self.complaint or reason
        error = RemoteProtocolError(f"{self.topic}: {reason}")
        for waiting in (self._joined, self._live):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # one of the two may have nobody waiting


def _resolve(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
