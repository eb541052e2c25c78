"""Thin members of Realtime channels, for measuring: they count and time, no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from harness.bench.arrivals import Arrivals, connect_stamped
from harness.errors import StackError
from harness.load.target import Target
from harness.load.websocket_client import (
    OP_BINARY,
    OP_TEXT,
    WebSocketClient,
    connect_client,
)

__all__ = ["TOPIC", "JoinPayload", "Member", "Tally", "joined_members"]

SERVICE = "realtime"
DEADLINE_S = 60.0
CONNECTIONS_AT_ONCE = 50
TOPIC = "realtime:bench"
JoinPayload = Callable[[int], dict[str, Any]]
"""What the member of a number joins with."""


class Member:
    """A client that joined one topic; ``on_message`` gets every later payload."""

    __slots__ = ("_arrivals", "_live", "_socket", "_wants_changes", "on_message")

    def __init__(
        self, on_message: Callable[[bytes], None], arrivals: Arrivals | None = None
    ) -> None:
        self.on_message = on_message
        self._arrivals = arrivals
        self._socket: WebSocketClient | None = None
        self._live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wants_changes = False

    async def join(self, url: str, topic: str, **payload: Any) -> None:
        """Connect and join; returns once the channel is live."""
        if self._arrivals is not None and url.startswith("ws:"):
            self._socket = await connect_stamped(
                url, self._on_frame, self._on_lost, self._arrivals
            )
        else:
            self._socket = await connect_client(url, self._on_frame, self._on_lost)
        config = payload.setdefault("config", {})
        self._wants_changes = bool(config.get("postgres_changes"))
        message = orjson.dumps(["1", "1", topic, "phx_join", payload])
        self._socket.send(OP_TEXT, message)
        await self._live

    def broadcast(self, topic: str, payload: bytes) -> None:
        """Push one binary broadcast."""
        names = (b"1", b"2", topic.encode(), b"e", b"")
        head = bytes((3, *map(len, names), 1))
        assert self._socket is not None
        self._socket.send(OP_BINARY, b"".join((head, *names, payload)))

    def close(self) -> None:
        """Leave."""
        if self._socket is not None:
            self._socket.close()

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        if self._live.done():
            self.on_message(payload)
            return
        _, _, _, event, body = orjson.loads(payload)
        if body.get("status") == "error":
            self._live.set_exception(StackError(str(body), service=SERVICE))
        elif event == ("system" if self._wants_changes else "phx_reply"):
            self._live.set_result(None)

    def _on_lost(self, code: int) -> None:
        if not self._live.done():
            lost = StackError(f"connection lost with code {code}", service=SERVICE)
            self._live.set_exception(lost)


class Tally:
    """Counts messages of all members; :meth:`reach` waits for a number of them.

    ``read`` is called with each message as well.
    """

    def __init__(self, read: Callable[[bytes], None] | None = None) -> None:
        self.count = 0
        self._read = read
        self._goal = 0
        self._reached = asyncio.Event()

    def add(self, payload: bytes) -> None:
        """Count one message."""
        self.count += 1
        if self._read is not None:
            self._read(payload)
        if self.count == self._goal:
            self._reached.set()

    async def reach(self, goal: int) -> None:
        """Wait until ``goal`` messages were counted; raises when they do not come."""
        self._goal = goal
        self._reached.clear()
        if self.count >= goal:
            return
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._reached.wait()
        except TimeoutError as exc:
            message = f"{goal - self.count} of {goal} messages did not come"
            raise StackError(message, service=SERVICE) from exc


@asynccontextmanager
async def joined_members(
    target: Target,
    count: int,
    on_message: Callable[[bytes], None],
    payload: JoinPayload | None = None,
    arrivals: Arrivals | None = None,
    topics: Sequence[str] = (TOPIC,),
) -> AsyncIterator[list[Member]]:
    """Yield ``count`` members, dealt out to ``topics``; they leave at the end.

    ``arrivals`` tells when each message came to its socket.
    """
    members = [Member(on_message, arrivals) for _ in range(count)]
    limit = asyncio.Semaphore(CONNECTIONS_AT_ONCE)

    async def join(index: int) -> None:
        async with limit:
            arguments = payload(index) if payload is not None else {}
            topic = topics[index % len(topics)]
            await members[index].join(target.websocket_url(), topic, **arguments)

    try:
        await asyncio.gather(*map(join, range(count)))
        yield members
    finally:
        for member in members:
            member.close()
