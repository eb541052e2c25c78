"""The Storage API alone on a port of its own: for tests and benchmarks.

Requests come in without the gateway, at ``/storage/v1``; or, for S3 clients that know
hosts only, the S3 protocol is all there is, at the root.  :class:`StandaloneStorage`
serves in a thread; ``python -m harness.servers.storage.standalone`` reads a spec from
standard input, serves in its own process and prints its port.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson
import uvloop
from aiohttp import web

from harness.clock import Clock, ManualClock, SystemClock
from harness.db.address import DatabaseAddress
from harness.errors import StackError
from harness.protocols.jwt import ProjectKeys, mint
from harness.servers.project import ProjectSettings, ServedProject
from harness.servers.storage.service import StorageService

__all__ = ["StandaloneSpec", "StandaloneStorage"]

PREFIX: Final = "/storage/v1"
STOP_TIMEOUT_S: Final = 10.0
STOP_GRACE_S: Final = 2.0
FAR_FUTURE: Final = 4102444800  # 2100-01-01, for tokens that need not expire


@dataclass(frozen=True, slots=True)
class StandaloneSpec:
    """What to serve: ``settings`` are the project's storage settings."""

    database: DatabaseAddress
    objects_dir: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    s3_at_root: bool = False

    def to_json(self) -> bytes:
        """Return the form that the process reads."""
        return orjson.dumps(
            {
                "database": dataclasses.asdict(self.database),
                "objects_dir": str(self.objects_dir),
                "settings": dict(self.settings),
                "s3_at_root": self.s3_at_root,
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> StandaloneSpec:
        """Read :meth:`to_json`."""
        told = orjson.loads(text)
        return cls(
            DatabaseAddress(**told["database"]),
            Path(told["objects_dir"]),
            told["settings"],
            told["s3_at_root"],
        )


def mint_token(keys: ProjectKeys, sub: str = "", role: str = "authenticated") -> str:
    """Return a token of a user, or of a role, that does not expire."""
    told: dict[str, Any] = {"role": role, "exp": FAR_FUTURE}
    if sub:
        told["sub"] = sub
    return mint(told, keys.jwt_secret)


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
        self.objects_dir = objects_dir
        self.port = 0
        self._spec = StandaloneSpec(database, objects_dir, settings or {}, s3_at_root)
        self._clock = clock or SystemClock()
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

    def token(self, sub: str = "", *, role: str = "authenticated") -> str:
        """Return a token of a user, or of a role."""
        return mint_token(self.keys, sub, role)

    def advance(self, clock: ManualClock, seconds: float) -> None:
        """Move the clock that this server was given, in the server's thread."""
        moving = clock.advance(seconds)
        asyncio.run_coroutine_threadsafe(moving, self._loop).result(STOP_TIMEOUT_S)

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
        serving = _serve(
            self._spec, self.keys, self._clock, self._ready.set_result, self._stop
        )
        try:
            self._loop.run_until_complete(serving)
        except BaseException as exc:
            if not self._ready.done():
                self._ready.set_exception(exc)
                return
            raise
        finally:
            self._loop.close()


async def _serve(
    spec: StandaloneSpec,
    keys: ProjectKeys,
    clock: Clock,
    ready: Any,
    stop: asyncio.Event,
) -> None:
    # The port is part of the URL that TUS and S3 answers carry.
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    project = ServedProject(
        ref="default",
        public_url=f"http://127.0.0.1:{port}",
        database=spec.database,
        keys=keys,
        objects_dir=spec.objects_dir,
        clock=clock,
        settings=ProjectSettings(storage=spec.settings),
    )
    service = StorageService(project)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if spec.s3_at_root:
            return await service.handle(request, f"/s3{path}")
        if not path.startswith(PREFIX):
            return web.Response(status=404)
        return await service.handle(request, path[len(PREFIX) :])

    answering = web.Server(handle)
    loop = asyncio.get_running_loop()
    await service.start()
    server = await loop.create_server(answering, sock=listening)
    ready(port)
    await stop.wait()
    server.close()
    answering.pre_shutdown()  # closes idle connections
    # Without a limit it waits for clients that connected and never ask.
    await answering.shutdown(STOP_GRACE_S)
    await server.wait_closed()
    await service.stop()
    await project.close()


def _main() -> None:
    """Serve what standard input describes until it is closed."""
    spec = StandaloneSpec.from_json(sys.stdin.buffer.readline())

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), stop.set)

        def ready(port: int) -> None:
            sys.stdout.write(f"{port}\n")
            sys.stdout.flush()

        await _serve(spec, ProjectKeys(), SystemClock(), ready, stop)

    uvloop.run(serve())


if __name__ == "__main__":
    _main()
