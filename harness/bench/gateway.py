"""The gateway and Auth: CPU of a request through them, and what a sign-in costs.

Requests go over kept-alive connections with a client as thin as a socket, so that the
generator does not compete with the server.  A sign-in is bcrypt and little else; that
bcrypt is off the event loop is shown by the latency of other requests meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson

from harness.bench.registry.measure import measure
from harness.bench.registry.result import BenchResult
from harness.errors import HarnessError
from harness.events import LatencySummary
from harness.load.target import Target

__all__ = ["run"]

CONNECTIONS = 8
REQUESTS = 2000
WRITES = 200
SIGN_INS = 16
PASSWORD = "correct horse battery"
GATEWAY_GOAL_US = 250.0


async def run(target: Target) -> list[BenchResult]:
    """Measure the gateway and Auth of ``target``."""
    async with Connections(target) as connections:
        session = await _sign_up(connections)
        bearer = {"Authorization": f"Bearer {session['access_token']}"}
        health = connections.repeated(REQUESTS, "GET", "/auth/v1/health")
        preflight = connections.repeated(
            REQUESTS,
            "OPTIONS",
            "/rest/v1/x",
            {"Origin": "http://x", "Access-Control-Request-Method": "GET"},
        )
        user = connections.repeated(WRITES, "GET", "/auth/v1/user", bearer)
        anonymous = connections.repeated(WRITES, "POST", "/auth/v1/signup", body={})
        return [
            await measure(
                target,
                name="gateway",
                operation="request to a service that answers at once",
                action=health,
                goal=f"at most {GATEWAY_GOAL_US:.0f} us of server CPU",
                met=lambda result: (
                    result.server_cpu_s / result.ops * 1e6 <= GATEWAY_GOAL_US
                ),
            ),
            await measure(
                target, name="gateway", operation="preflight", action=preflight
            ),
            await measure(
                target, name="gateway", operation="read own user", action=user
            ),
            await measure(
                target, name="gateway", operation="anonymous sign-up", action=anonymous
            ),
            await _measure_sign_in(target, connections, session["user"]["email"]),
        ]


class Connections:
    """A few kept-alive connections that send prepared requests, one at a time each."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._prefix = parts.path.rstrip("/")
        self._headers = {
            "Host": parts.netloc,
            "apikey": target.anon_key,
            "X-Supabase-Api-Version": "2024-01-01",
        }
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Connections:
        """Connect."""
        for _ in range(CONNECTIONS):
            self._streams.append(await asyncio.open_connection(*self._address))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connections."""
        for _, writer in self._streams:
            writer.close()
            await writer.wait_closed()

    def repeated(
        self,
        times: int,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: object = None,
    ) -> Callable[[], Awaitable[int]]:
        """Return an action that sends one request ``times`` over the connections."""
        request = self._prepared(method, path, headers, body)

        async def send_share(index: int) -> int:
            share = times // CONNECTIONS
            for _ in range(share):
                await self._exchange(index, request)
            return share

        async def action() -> int:
            return sum(
                await asyncio.gather(*(send_share(n) for n in range(CONNECTIONS)))
            )

        return action

    async def call(
        self, index: int, method: str, path: str, body: object = None
    ) -> bytes:
        """Send one request over connection ``index`` and return the body."""
        request = self._prepared(method, path, None, body)
        return await self._exchange(index, request)

    def _prepared(
        self, method: str, path: str, headers: dict[str, str] | None, body: object
    ) -> bytes:
        content = b"" if body is None else orjson.dumps(body)
        sent = {**self._headers, "Content-Length": str(len(content)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{lines}\r\n"
        return head.encode() + content

    async def _exchange(self, index: int, request: bytes) -> bytes:
        reader, writer = self._streams[index]
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        # An answer without content (204) tells no length.
        told = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(told or 0))
        if not head.startswith(b"http/1.1 2"):
            raise HarnessError(f"the gateway answered {head[:12]!r}: {body[:200]!r}")
        return body


async def _sign_up(connections: Connections) -> dict[str, dict[str, str]]:
    email = f"bench{time.time_ns()}@example.test"
    body = {"email": email, "password": PASSWORD}
    answer = await connections.call(0, "POST", "/auth/v1/signup", body)
    session: dict[str, dict[str, str]] = orjson.loads(answer)
    return session


async def _measure_sign_in(
    target: Target, connections: Connections, email: str
) -> BenchResult:
    waits_s: list[float] = []
    body = {"email": email, "password": PASSWORD}
    path = "/auth/v1/token?grant_type=password"

    async def sign_in(index: int) -> None:
        for _ in range(SIGN_INS // (CONNECTIONS - 1) + 1):
            await connections.call(index, "POST", path, body)

    async def watch(signing_in: asyncio.Task[None]) -> None:
        while not signing_in.done():
            began_s = time.perf_counter()
            await connections.call(0, "GET", "/auth/v1/health")
            waits_s.append(time.perf_counter() - began_s)
            await asyncio.sleep(0.001)

    async def everybody() -> None:
        await asyncio.gather(*(sign_in(n) for n in range(1, CONNECTIONS)))

    async def action() -> int:
        signing_in = asyncio.create_task(everybody())
        await watch(signing_in)
        await signing_in
        return (SIGN_INS // (CONNECTIONS - 1) + 1) * (CONNECTIONS - 1)

    result = await measure(
        target,
        name="gateway",
        operation="sign-in by password",
        action=action,
        rounds=3,
        note="dominated by bcrypt, in threads of its own",
    )
    worst = _summary(waits_s)
    return result if worst is None else _with_latency(result, worst)


def _with_latency(result: BenchResult, latency: LatencySummary) -> BenchResult:
    note = f"{result.note}; latency is that of other requests meanwhile"
    return dataclasses.replace(result, latency=latency, note=note)


def _summary(waits_s: list[float]) -> LatencySummary | None:
    if not waits_s:
        return None
    ordered = sorted(1000 * wait for wait in waits_s)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return LatencySummary(
        count=len(ordered),
        p50_ms=at(0.5),
        p90_ms=at(0.9),
        p95_ms=at(0.95),
        p99_ms=at(0.99),
        max_ms=ordered[-1],
    )
