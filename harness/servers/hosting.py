"""The projects of this process and their services, made when first asked for.

Registering a project opens nothing and imports nothing; a service is constructed and
started by the first request that needs it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from aiohttp import web

from harness.clock import Clock
from harness.errors import ConfigError
from harness.protocols.jwt import ProjectKeys
from harness.servers.access_log import AccessLog
from harness.servers.api_keys import ApiKeys
from harness.servers.heads import Fields
from harness.servers.project import (
    DatabaseAddress,
    HeaderRules,
    ProjectSettings,
    ServedProject,
)

__all__ = [
    "DEFAULT_REF",
    "SERVICE_CLASSES",
    "HostedProject",
    "ProjectRegistry",
    "RealtimeSockets",
    "Service",
    "Upstreams",
]

DEFAULT_REF = "default"

SERVICE_CLASSES: Mapping[str, tuple[str, str]] = {
    "auth": ("harness.servers.auth", "AuthService"),
    "rest": ("harness.servers.rest", "RestService"),
    "storage": ("harness.servers.storage", "StorageService"),
    "realtime": ("harness.servers.realtime", "RealtimeService"),
}


class Service(Protocol):
    """What the gateway asks of each of the four services."""

    async def start(self) -> None:
        """Get ready; opens nothing that is not needed."""
        ...

    async def stop(self) -> None:
        """Let go of everything."""
        ...

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer ``request``; ``path`` is what follows the service's prefix."""
        ...


class RealtimeSockets(Protocol):
    """What the front asks of Realtime beyond :class:`Service`."""

    def websocket(
        self,
        transport: asyncio.Transport,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> asyncio.Protocol:
        """Take over a connection.

        ``key`` is the request's ``Sec-WebSocket-Key``, '' without one; ``headers`` are
        the others, names in lower case.
        """
        ...


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Server processes behind this one: URL by service name, and their secret."""

    urls: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""


class HostedProject:
    """A served project with those of its services that somebody has used.

    ``upstreams`` says which services other server processes answer.
    """

    def __init__(
        self, project: ServedProject, upstreams: Upstreams | None = None
    ) -> None:
        self.project = project
        self._upstreams = upstreams or Upstreams()
        self.api_keys = ApiKeys(project.keys)
        # By headers, client address and whether the key rules apply.
        self.header_rules: dict[tuple[Fields | None, str | None, bool], HeaderRules]
        self.header_rules = {}
        self._services: dict[str, Service] = {}
        self._starting = asyncio.Lock()

    @property
    def running(self) -> list[str]:
        """The names of the services that were started."""
        return sorted(self._services)

    @property
    def running_sockets(self) -> RealtimeSockets | None:
        """Realtime as the taker of WebSocket connections, if it was started."""
        return cast("RealtimeSockets | None", self._services.get("realtime"))

    def started(self, name: str) -> Service | None:
        """Return the service ``name`` if somebody has used it."""
        return self._services.get(name)

    async def service(self, name: str) -> Service:
        """Return the service ``name``, started on first use."""
        async with self._starting:
            if name not in self._services:
                made = self._make(name)
                await made.start()
                self._services[name] = made
            return self._services[name]

    def _make(self, name: str) -> Service:
        if name in self._upstreams.urls:
            # Only a gateway of a stack of containers has any.
            from harness.servers.upstream import UpstreamService

            url, secret = self._upstreams.urls[name], self._upstreams.secret
            return UpstreamService(self.project, name, url=url, secret=secret)
        if name in self.project.settings.off:
            from harness.servers.switched_off import SwitchedOff

            return SwitchedOff(name)
        module, cls = SERVICE_CLASSES[name]
        made: Service = getattr(importlib.import_module(module), cls)(self.project)
        return made

    async def sockets(self) -> RealtimeSockets:
        """Return Realtime as the taker of WebSocket connections."""
        return cast(RealtimeSockets, await self.service("realtime"))

    async def stop(self) -> None:
        """Stop the services, then close every database connection."""
        async with self._starting:
            services, self._services = list(self._services.values()), {}
            for service in services:
                await service.stop()
            await self.project.close()


class ProjectRegistry:
    """The projects this process serves, by reference."""

    def __init__(
        self,
        *,
        postgres: tuple[str, int, str],
        objects_root: Path,
        durability: str,
        clock: Clock,
        access_log: AccessLog,
        upstreams: Upstreams | None = None,
    ) -> None:
        self._upstreams = upstreams or Upstreams()
        self._host, self._port, self._password = postgres
        self._objects_root = objects_root
        self._durability = durability
        self._clock = clock
        self._access_log = access_log
        self._projects: dict[str, HostedProject] = {}
        self.base_url = ""

    def __iter__(self) -> Iterator[HostedProject]:
        return iter(list(self._projects.values()))

    def find(self, ref: str) -> HostedProject | None:
        """Return the project ``ref`` if it is served."""
        return self._projects.get(ref)

    def register(self, record: Mapping[str, Any]) -> HostedProject:
        """Serve the project that ``record`` (ref, dbname, keys?, settings?) describes.

        Raises :class:`ConfigError` when it is not a project or its reference is taken.
        """
        ref, dbname = record.get("ref"), record.get("dbname")
        if not (isinstance(ref, str) and isinstance(dbname, str) and ref and dbname):
            raise ConfigError("a project has a 'ref' and a 'dbname', both text")
        if not ref.replace("-", "").replace("_", "").isalnum() or not ref.isascii():
            raise ConfigError(f"not a project reference: {ref!r}")
        if ref in self._projects:
            raise ConfigError(f"project {ref!r} is served already")
        hosted = HostedProject(self._project(ref, dbname, record), self._upstreams)
        self._projects[ref] = hosted
        return hosted

    async def unregister(self, ref: str) -> bool:
        """Stop serving ``ref`` and remove its objects; false if it was not served."""
        hosted = self._projects.pop(ref, None)
        if hosted is None:
            return False
        await hosted.stop()
        objects = hosted.project.objects_dir
        if objects.exists():
            await asyncio.to_thread(shutil.rmtree, objects)
        return True

    async def stop(self) -> None:
        """Stop every project's services; objects stay."""
        projects, self._projects = list(self._projects.values()), {}
        for hosted in projects:
            await hosted.stop()

    def _project(
        self, ref: str, dbname: str, record: Mapping[str, Any]
    ) -> ServedProject:
        try:
            settings = ProjectSettings(**(record.get("settings") or {}))
        except TypeError as exc:
            raise ConfigError(f"not the settings of a project: {exc}") from exc
        storage = {"durability": self._durability, **settings.storage}
        settings = dataclasses.replace(settings, storage=storage)
        return ServedProject(
            ref=ref,
            public_url=self.base_url + ("" if ref == DEFAULT_REF else f"/p/{ref}"),
            database=DatabaseAddress(self._host, self._port, dbname, self._password),
            keys=ProjectKeys.from_record(record.get("keys") or {}),
            objects_dir=self._objects_root / ref,
            clock=self._clock,
            settings=settings,
            access_log=self._access_log,
        )
