"""A gateway that fails on demand, in front of a project.

An application under test is given its URL instead of the project's.  It runs in a
thread of its own, so that an application that blocks its event loop shows.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

__all__ = ["FlakyGateway", "Plan"]

# What to do with a request: a status to answer with, RESET, or None to pass it on.
Plan = Callable[[str, str], int | None]
RESET = 0
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class FlakyGateway:
    """Passes requests on to ``target``, unless the plan says otherwise.

    ``plan`` is asked with method and path; ``delay_s`` holds every request back;
    ``seen`` lists the requests in order, ``peak`` is how many were open at once.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.plan: Plan = lambda method, path: None
        self.delay_s = 0.0
        self.seen: list[tuple[str, str]] = []
        self.peak = 0
        self._busy = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start listening; ``url`` is known afterwards."""
        self._thread.start()
        if not self._ready.wait(timeout=10):
            raise AssertionError("the gateway did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def fail_next(self, *statuses: int, method: str = "POST", path: str = "") -> None:
        """Answer the next matching requests with ``statuses``, then pass them on."""
        left = list(statuses)

        def plan(got_method: str, got_path: str) -> int | None:
            if left and got_method == method and path in got_path:
                return left.pop(0)
            return None

        self.plan = plan

    def fail_all(self, status: int, *, path: str = "") -> None:
        """Answer every request whose path contains ``path`` with ``status``."""
        self.plan = lambda _, got_path: status if path in got_path else None

    def reset_all(self, *, path: str = "") -> None:
        """Break the connection of every request whose path contains ``path``."""
        self.fail_all(RESET, path=path)

    def recover(self) -> None:
        """Pass everything on again."""
        self.plan = lambda method, path: None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with aiohttp.ClientSession(auto_decompress=False) as upstream:

            async def handle(request: web.BaseRequest) -> web.StreamResponse:
                return await self._handle(request, upstream)

            server = web.Server(handle)
            runner = web.ServerRunner(server)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(
        self, request: web.BaseRequest, upstream: aiohttp.ClientSession
    ) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        self._busy += 1
        self.peak = max(self.peak, self._busy)
        try:
            return await self._answer(request, upstream)
        finally:
            self._busy -= 1

    async def _answer(
        self, request: web.BaseRequest, upstream: aiohttp.ClientSession
    ) -> web.StreamResponse:
        # Not request.read(), which refuses more than a mebibyte.
        body = await request.content.read()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        status = self.plan(request.method, request.path)
        if status == RESET and request.transport is not None:
            request.transport.close()
            raise ConnectionResetError
        if status is not None:
            answer = {"statusCode": str(status), "error": "outage", "message": "outage"}
            return web.json_response(answer, status=status)
        headers = {
            k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP
        }
        url = self._target + request.raw_path
        data = io.BytesIO(body) if body else None
        async with upstream.request(
            request.method, url, headers=headers, data=data, allow_redirects=False
        ) as passed:
            kept = {
                k: v for k, v in passed.headers.items() if k.lower() not in HOP_BY_HOP
            }
            return web.Response(
                body=await passed.read(), status=passed.status, headers=kept
            )
