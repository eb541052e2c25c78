"""The control routes ``/_harness/*``: which projects this process serves.

They are opened by the control secret of the stack (``Authorization: Bearer``), which
no client of a project has.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

import orjson
from aiohttp import web

from harness.clock import Clock
from harness.errors import ConfigError
from harness.servers.hosting import HostedProject, ProjectRegistry
from harness.servers.project import bearer_token

__all__ = ["PREFIX", "ControlRoutes"]

PREFIX = "/_harness"


class ControlRoutes:
    """Registers, removes and lists projects."""

    def __init__(self, registry: ProjectRegistry, secret: str, clock: Clock) -> None:
        self._registry = registry
        self._secret = secret.encode()
        self._clock = clock
        self._started_s = clock.monotonic_s()

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer a control request; ``path`` is what follows ``/_harness``."""
        if not hmac.compare_digest(bearer_token(request).encode(), self._secret):
            return _refusal(401, "the control secret is missing or wrong")
        match [request.method, *path.strip("/").split("/")]:
            case ["POST", "projects"]:
                return self._register(await request.read())
            case ["DELETE", "projects", ref]:
                return await self._unregister(ref)
            case ["GET", "projects", ref]:
                return self._show(ref)
            case ["GET", "status"]:
                return _answer(self._status())
        return _refusal(404, f"no control route {request.method} {path}")

    def _register(self, body: bytes) -> web.Response:
        try:
            record = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _refusal(400, "the body is not JSON")
        if not isinstance(record, dict):
            return _refusal(400, "the body is not an object")
        if self._registry.find(str(record.get("ref"))) is not None:
            return _refusal(409, f"project {record['ref']!r} is served already")
        try:
            hosted = self._registry.register(record)
        except ConfigError as exc:
            return _refusal(400, str(exc))
        return _answer(_summary(hosted), status=201)

    async def _unregister(self, ref: str) -> web.Response:
        if await self._registry.unregister(ref):
            return web.Response(status=204)
        return _refusal(404, f"no project {ref!r}")

    def _show(self, ref: str) -> web.Response:
        hosted = self._registry.find(ref)
        if hosted is None:
            return _refusal(404, f"no project {ref!r}")
        return _answer(_summary(hosted))

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 3),
            "projects": [_summary(hosted) for hosted in self._registry],
        }


def _summary(hosted: HostedProject) -> dict[str, Any]:
    project = hosted.project
    return {
        "ref": project.ref,
        "url": project.public_url,
        "dbname": project.database.dbname,
        "running": hosted.running,
    }


def _answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json"
    )


def _refusal(status: int, message: str) -> web.Response:
    return _answer({"message": message}, status=status)
