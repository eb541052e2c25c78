"""A Realtime service alone on a free port, mounted as the gateway mounts it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qsl

import asyncpg
from aiohttp import web

from harness.clock import Clock, SystemClock
from harness.db.address import DatabaseAddress
from harness.protocols.jwt import ProjectKeys, mint
from harness.servers.project import ProjectSettings, ServedProject
from harness.servers.realtime import RealtimeService

MOUNT = "/realtime/v1"
STOP_GRACE_S = 0.25  # for a request that was refused before its body came
FAR_FUTURE_S = 4_000_000_000
GENEROUS = {
    "max_events_per_second": 1_000_000,
    "max_joins_per_second": 1_000_000,
    "max_concurrent_users": 100_000,
}


class RealtimeServer:
    """One project's Realtime over HTTP and WebSocket; quotas are out of the way.

    ``settings`` are laid over quotas that no test reaches by accident.
    """

    def __init__(
        self,
        database: DatabaseAddress,
        folder: Path,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.database = database
        self.keys = ProjectKeys()
        self._project = ServedProject(
            ref="test",
            public_url="http://127.0.0.1",
            database=database,
            keys=self.keys,
            objects_dir=folder,
            clock=clock or SystemClock(),
            settings=ProjectSettings(realtime={**GENEROUS, **settings}),
        )
        self.service = RealtimeService(self._project)
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.service.start()
        http = web.Server(self._handle)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Front(self.service, http), "127.0.0.1", 0
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._http = http
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self.service.stop()
        await self._http.shutdown(STOP_GRACE_S)
        await self._project.close()

    @property
    def url(self) -> str:
        """The URL that Realtime clients take."""
        return f"ws://127.0.0.1:{self.port}{MOUNT}"

    @property
    def http_url(self) -> str:
        """The URL of the HTTP endpoints."""
        return f"http://127.0.0.1:{self.port}{MOUNT}"

    def token(self, role: str = "authenticated", **claims: Any) -> str:
        """Return a signed token; ``sub`` and others may be given."""
        return mint({"role": role, "exp": FAR_FUTURE_S, **claims}, self.keys.jwt_secret)

    async def sql(self, *statements: str) -> None:
        """Run statements as superuser, each in a transaction of its own."""
        connection = await asyncpg.connect(
            **self.database.connect_args("supabase_admin")
        )
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0].removeprefix(MOUNT)
        return await self.service.handle(request, path)


class _Front(asyncio.Protocol):
    """Reads one request head; a WebSocket goes to the service, the rest to aiohttp."""

    def __init__(self, service: RealtimeService, http: web.Server) -> None:
        self._service = service
        self._http = http
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        line, *lines = head.decode("latin-1").split("\r\n")
        pairs = (header.split(": ", 1) for header in lines)
        headers = {name.lower(): value for name, value in pairs}
        target = line.split(" ")[1]
        if "/websocket" in target:
            protocol = self._websocket(target, headers)
        else:
            protocol = cast(asyncio.Protocol, self._http())
            protocol.connection_made(self._transport)
            rest = self._buffer
        self._transport.set_protocol(protocol)
        if rest:
            protocol.data_received(rest)

    def _websocket(self, target: str, headers: dict[str, str]) -> asyncio.Protocol:
        key = headers.pop("sec-websocket-key", "")
        query = dict(parse_qsl(target.partition("?")[2]))
        return self._service.websocket(self._transport, key, query, headers)
