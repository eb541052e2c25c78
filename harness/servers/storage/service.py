"""The Storage API of one project: takes requests, finds their route, answers.

Source: storage-api.  What a route does is in the module of its subject; here is only
what holds for all of them: who calls, what a refusal looks like, start and stop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from harness.servers.project import ERROR_CODE, ServedProject
from harness.servers.storage import errors
from harness.servers.storage.backend import Backend
from harness.servers.storage.backend_file import FileBackend
from harness.servers.storage.calls import Call, authenticate
from harness.servers.storage.connections import Connections
from harness.servers.storage.core import Core
from harness.servers.storage.faultpoints import FaultPoints
from harness.servers.storage.intents import Intents
from harness.servers.storage.metrics import Metrics
from harness.servers.storage.multipart import MultipartUploads
from harness.servers.storage.resumable import ResumableUploads
from harness.servers.storage.routes import Route, rest_routes
from harness.servers.storage.s3_routes import handle_s3
from harness.servers.storage.settings import StorageSettings
from harness.servers.storage.staging import Stager
from harness.servers.storage.tokens import SignedUrls

__all__ = ["StorageService"]

logger = logging.getLogger(__name__)

ROUTES: Final = rest_routes()
FINISHED: Final = "select version from storage.objects where version = any($1)"
KNOWN_PREFIXES: Final = frozenset(
    {"bucket", "object", "render", "cdn", "upload", "s3", "health"}
)
OVERRIDES: Final = frozenset({"DELETE", "HEAD", "PATCH"})
RENDERED_AT_ONCE: Final = 2  # pictures in memory, decoded


class StorageService:
    """Answers everything below ``/storage/v1`` of one project."""

    def __init__(self, project: ServedProject) -> None:
        settings = StorageSettings.of(project.settings.storage)
        connections = Connections(project, settings.max_connections)
        faults = FaultPoints(settings.fault_point, settings.fault_action)
        backend = _backend(project, settings)
        self._core = Core(
            project=project,
            settings=settings,
            connections=connections,
            backend=backend,
            stager=Stager(project.objects_dir / "incoming"),
            intents=Intents(connections, backend, faults, project.clock),
            signed_urls=SignedUrls(project.keys.jwt_secret, project.keyset),
            faults=faults,
            metrics=Metrics(),
            resumable=ResumableUploads(
                project.objects_dir / "tus",
                durable=settings.durability == "full",
                lock_wait_s=settings.tus_lock_wait_s,
            ),
            multipart=MultipartUploads(
                connections,
                project.objects_dir / "multipart",
                project.keys.jwt_secret,
                durable=settings.durability == "full",
            ),
            rendering=asyncio.Semaphore(RENDERED_AT_ONCE),
        )
        self._recovered = False
        self._recovering = asyncio.Lock()

    async def start(self) -> None:
        """Clear away bodies that never arrived whole; the database waits for a call."""
        incoming = self._core.project.objects_dir / "incoming"
        if incoming.is_dir():
            for path in incoming.iterdir():
                path.unlink(missing_ok=True)
        now_ms = self._core.project.clock.now().timestamp() * 1000
        expired_ms = now_ms - self._core.settings.tus_url_expiry_ms
        self._core.resumable.remove_expired(expired_ms / 1000)

    async def stop(self) -> None:
        """Finish what is noted and let go of connections."""
        await self._core.intents.close()
        await self._core.backend.close()
        await self._core.connections.close()

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer one request; ``path`` begins after ``/storage/v1``."""
        core = self._core
        _, _, raw_query = request.raw_path.partition("?")
        clock = core.project.clock
        now, began_s = clock.now().timestamp(), clock.monotonic_s()
        call = Call(request, path or "/", raw_query, now)
        try:
            if not self._recovered:
                await self._recover()
            response = await self._answer(call)
        except errors.StorageError as exc:
            request[ERROR_CODE] = exc.code
            response = _refusal(call, exc)
        except ConnectionError:
            # The client went away while it was answered: nobody is left to tell.
            raise
        except Exception:
            # The client learns nothing of a fault of ours but that it is one.
            logger.exception("%s %s failed", request.method, path)
            response = _refusal(call, errors.internal_error())
        took_s = clock.monotonic_s() - began_s
        core.metrics.record(call.operation, response.status, took_s)
        return response

    async def _answer(self, call: Call) -> web.StreamResponse:
        if self._core.settings.s3_protocol_enabled and (
            call.path == "/s3" or call.path.startswith("/s3/")
        ):
            return await handle_s3(self._core, call)
        found = ROUTES.find(call.method, call.path) or _overridden(call)
        pictures_off = not self._core.settings.image_transformation_enabled
        if found is None or (pictures_off and call.path.startswith("/render/")):
            return _not_found(call)
        route, parameters = found
        call.operation = route.operation
        if route.auth != "none":
            required = route.auth == "required"
            authenticate(call, self._core.project.callers, required=required)
        return await route.handler(self._core, call, *parameters)

    async def _recover(self) -> None:
        """Settle, once, what a server before this one left unfinished."""
        async with self._recovering:
            if not self._recovered:
                core = self._core
                await core.intents.sweep()
                await core.multipart.sweep()
                if versions := core.resumable.versions():
                    finished = await core.connections.rows(FINISHED, versions)
                    core.resumable.remove_versions(row["version"] for row in finished)
                self._recovered = True


def _backend(project: ServedProject, settings: StorageSettings) -> Backend:
    if settings.backend == "s3":
        # Few projects keep their bytes elsewhere; the others start sooner without it.
        from harness.servers.storage.backend_s3 import S3Backend

        return S3Backend(settings, project.ref, project.clock)
    return FileBackend(project.objects_dir, durable=settings.durability == "full")


def _refusal(call: Call, error: errors.StorageError) -> web.Response:
    if call.method == "HEAD":
        return web.Response(status=error.http_status)
    return errors.error_response(error)


def _overridden(call: Call) -> tuple[Route, list[str]] | None:
    """Return the route of an upload's request whose client cannot send its method.

    TUS 1.0.0, "X-HTTP-Method-Override".
    """
    method = call.header("X-HTTP-Method-Override").upper()
    if method not in OVERRIDES or not call.path.startswith("/upload/resumable/"):
        return None
    call.override = method
    return ROUTES.find(method, call.path)


def _not_found(call: Call) -> web.Response:
    """Answer for a path without a route; outside the API's prefixes in another form."""
    if call.path.split("/", 2)[1] in KNOWN_PREFIXES:
        return errors.error_response(errors.route_not_found(call.method, call.target))
    message = f"Route {call.method}:{call.target} not found"
    return web.json_response(
        {"message": message, "error": "Not Found", "statusCode": 404}, status=404
    )
