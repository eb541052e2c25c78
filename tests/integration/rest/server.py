"""The REST service on a real database, behind a real socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from aiohttp import web

from harness.clock import SystemClock
from harness.db.address import DatabaseAddress
from harness.protocols.jwt import ProjectKeys, mint
from harness.servers.project import ProjectSettings, ServedProject
from harness.servers.rest import RestService

PREFIX = "/rest/v1"
SUB = "11111111-1111-4111-8111-111111111111"
FAR_FUTURE = 9_999_999_999  # Unix seconds


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Ask until ``condition`` holds: a notification takes its time to arrive."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"


class RestServer:
    """Serves ``database`` at :attr:`url`; ``with`` starts and stops it."""

    def __init__(
        self, database: DatabaseAddress, objects: Path, **settings: Any
    ) -> None:
        self.database = database
        self.keys = ProjectKeys()
        self._project = ServedProject(
            "test",
            "http://127.0.0.1",
            database,
            self.keys,
            objects,
            SystemClock(),
            ProjectSettings(rest=settings),
        )
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest")
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._clients: list[httpx.Client] = []
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    def token(self, role: str = "authenticated", **claims: Any) -> str:
        """Return a token of ``role`` that does not expire."""
        base = {"role": role, "sub": SUB, "exp": FAR_FUTURE}
        return mint({**base, **claims}, self.keys.jwt_secret)

    def client(self, role: str | None = "authenticated", **claims: Any) -> httpx.Client:
        """Return an HTTP client that speaks as ``role`` (``None``: without a token)."""
        headers = {}
        if role is not None:
            headers["Authorization"] = f"Bearer {self.token(role, **claims)}"
        client = httpx.Client(base_url=self.url + PREFIX, headers=headers, timeout=30)
        self._clients.append(client)
        return client

    def sql(
        self, statement: str, *params: object, user: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run SQL beside the service and return its rows."""
        with psycopg.connect(self.database.dsn(user), autocommit=True) as connection:
            # The statements are the tests' own.
            cursor = connection.execute(statement.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        service = RestService(self._project)
        await service.start()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            path = request.raw_path.partition("?")[0]
            return await service.handle(request, path.removeprefix(PREFIX))

        server = web.Server(handle, max_line_size=65536, auto_decompress=False)
        listener = await self._loop.create_server(server, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stopping.wait()
        listener.close()
        await server.shutdown(1)
        await service.stop()
        await self._project.close()
