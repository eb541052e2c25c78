"""The Storage API alone on a port of its own, in a thread: for tests and benchmarks.

Requests come in without the gateway, at ``/storage/v1``; or, for S3 clients that know
hosts only, the S3 protocol is all there is, at the root.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Self

import uvloop
from aiohttp import web

from harness.clock import Clock, SystemClock
from harness.db.address import DatabaseAddress
from harness.errors import StackError
from harness.protocols.jwt import ProjectKeys, mint
from harness.servers.project import ProjectSettings, ServedProject
from harness.servers.storage.service import StorageService

__all__ = ["StandaloneStorage"]

PREFIX: Final = "/storage/v1"
STOP_TIMEOUT_S: Final = 10.0
FAR_FUTURE: Final = 4102444800  # 2100-01-01, for tokens that need not expire


class StandaloneStorage:
    """A running Storage API; use it in a ``with`` block."""

    def __init__(
        self,
        database: DatabaseAddress,
        objects_dir: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        s3_at_root: bool = False,
    ) -> None:
        self.keys = ProjectKeys()
        self.database = database
        self.objects_dir = objects_dir
        self.port = 0
        self._clock = clock or SystemClock()
        self._s3_at_root = s3_at_root
        self._settings = dict(settings or {})
        self._loop = uvloop.new_event_loop()
        self._ready: Future[int] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="storage")

    @property
    def origin(self) -> str:
        """``http://host:port``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL that storage clients take."""
        return self.origin + PREFIX

    @property
    def service_key(self) -> str:
        """A token of role service_role."""
        return self.token(role="service_role")

    def token(
        self, sub: str = "", *, role: str = "authenticated", **claims: Any
    ) -> str:
        """Return a token of a user, or of a role."""
        told = {"role": role, "exp": FAR_FUTURE, **claims}
        if sub:
            told["sub"] = sub
        return mint(told, self.keys.jwt_secret)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._ready.result(timeout=STOP_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise StackError("the storage server did not stop", service="storage")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as exc:
            if not self._ready.done():
                self._ready.set_exception(exc)
                return
            raise
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        # The port is part of the URL that TUS and S3 answers carry.
        answering = web.Server(self._handle)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = await self._loop.create_server(answering, sock=listening)
        project = ServedProject(
            ref="default",
            public_url=f"http://127.0.0.1:{port}",
            database=self.database,
            keys=self.keys,
            objects_dir=self.objects_dir,
            clock=self._clock,
            settings=ProjectSettings(storage=self._settings),
        )
        self.service = StorageService(project)
        await self.service.start()
        self._ready.set_result(port)
        await self._stop.wait()
        server.close()
        answering.pre_shutdown()  # closes idle connections
        await answering.shutdown()
        await server.wait_closed()
        await self.service.stop()
        await project.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if self._s3_at_root:
            return await self.service.handle(request, f"/s3{path}")
        if not path.startswith(PREFIX):
            return web.Response(status=404)
        return await self.service.handle(request, path[len(PREFIX) :])
