"""A client that speaks the wire protocol and nothing more, for tests."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from websockets.asyncio.client import ClientConnection, connect

from tests.integration.realtime.server import RealtimeServer

TIMEOUT_S = 20.0


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for a condition, for as long as a test may take."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)


class Received(NamedTuple):
    """One message from the server, whatever the version."""

    join_ref: Any
    ref: Any
    topic: str
    event: str
    payload: Any


class Wire:
    """One socket: ``async with Wire(server, token) as wire``."""

    def __init__(
        self, server: RealtimeServer, token: str | None = None, vsn: str = "2.0.0"
    ) -> None:
        self._token = token or server.token("anon")
        self._url = f"{server.url}/websocket?apikey={self._token}&vsn={vsn}"
        self._vsn = vsn
        self._refs = itertools.count(1)
        self._joins: dict[str, str] = {}
        self._kept: list[Received | bytes] = []
        self.socket: ClientConnection

    async def __aenter__(self) -> Self:
        self.socket = await connect(self._url, compression=None, max_size=None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()

    async def send(
        self, topic: str, event: str, payload: Any, *, join_ref: str | None = None
    ) -> str:
        """Send one message and return its ref."""
        ref = str(next(self._refs))
        if event == "phx_join":
            self._joins[topic] = ref
        join_ref = join_ref or self._joins.get(topic)
        if self._vsn == "1.0.0":
            message: Any = {
                "topic": topic,
                "event": event,
                "payload": payload,
                "ref": ref,
                "join_ref": join_ref,
            }
        else:
            message = [join_ref, ref, topic, event, payload]
        await self.socket.send(json.dumps(message))
        return ref

    async def ask(self, topic: str, event: str, payload: Any) -> Any:
        """Send a message and return the payload of its reply."""
        ref = await self.send(topic, event, payload)
        reply = await self.expect(event="phx_reply", ref=ref)
        return reply.payload

    async def join(
        self, topic: str, token: str | None = None, **config: Any
    ) -> Mapping[str, Any]:
        """Join and return the response, which must be ok."""
        payload: dict[str, Any] = {"config": config}
        if token is not None:
            payload["access_token"] = token
        reply = await self.ask(topic, "phx_join", payload)
        assert reply["status"] == "ok", reply
        response: Mapping[str, Any] = reply["response"]
        return response

    async def watch(self, topic: str, *bindings: Mapping[str, Any], **join: Any) -> Any:
        """Join with ``postgres_changes`` and wait until it is live."""
        response = await self.join(topic, postgres_changes=list(bindings), **join)
        system = await self.expect(event="system", topic=topic)
        assert system.payload["status"] == "ok", system
        assert system.payload["message"] == "Subscribed to PostgreSQL"
        return response

    async def change(self) -> Any:
        """Return the ``data`` of the next change."""
        return (await self.expect(event="postgres_changes")).payload["data"]

    async def receive(self) -> Received | bytes:
        """Return the next message: decoded text, or binary as it is."""
        if self._kept:
            return self._kept.pop(0)
        return await self._next()

    async def expect(
        self, *, event: str, topic: str | None = None, ref: str | None = None
    ) -> Received:
        """Return the next message that fits; others are kept for later."""

        def fits(message: Received | bytes) -> bool:
            return (
                isinstance(message, Received)
                and message.event == event
                and topic in (None, message.topic)
                and ref in (None, message.ref)
            )

        found = await self._find(fits)
        assert isinstance(found, Received)
        return found

    async def expect_binary(self) -> bytes:
        """Return the next binary message."""
        found = await self._find(lambda message: isinstance(message, bytes))
        assert isinstance(found, bytes)
        return found

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait until the server closes; return code and reason."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason

    async def settle(self) -> list[Received | bytes]:
        """Return all that came before the answer to a heartbeat sent now."""
        ref = await self.send("phoenix", "heartbeat", {})
        await self.expect(event="phx_reply", ref=ref)
        kept, self._kept = self._kept, []
        return kept

    async def _find(self, fits: Callable[[Received | bytes], bool]) -> Received | bytes:
        for index, message in enumerate(self._kept):
            if fits(message):
                return self._kept.pop(index)
        while True:
            message = await self._next()
            if fits(message):
                return message
            self._kept.append(message)

    async def _next(self) -> Received | bytes:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                data = await self.socket.recv()
        except TimeoutError:
            raise AssertionError(f"nothing came; kept: {self._kept}") from None
        return self.parse(data)

    @staticmethod
    def parse(data: str | bytes) -> Received | bytes:
        """Return a frame's message: decoded text, or binary as it is."""
        if isinstance(data, bytes):
            return data
        message = json.loads(data)
        if isinstance(message, dict):
            return Received(
                None,
                message["ref"],
                message["topic"],
                message["event"],
                message["payload"],
            )
        return Received(*message)
