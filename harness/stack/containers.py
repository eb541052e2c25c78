"""The own stack as containers: PostgreSQL, S3, storage, realtime and a gateway.

All services run the image of ``compose/server``; the gateway passes storage and
realtime on to their containers, and storage keeps its objects in the S3 container.  The
containers are started by testcontainers; their end is the reaper's affair
(:mod:`harness.stack.reaper`), which needs no image of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from harness.config import Config
from harness.db.address import DatabaseAddress
from harness.db.initdb import MAINTENANCE_DB, SUPERUSER
from harness.errors import ContainerError, NotReadyError, StackError
from harness.protocols.jwt import S3Keys
from harness.servers.project import ProjectSettings
from harness.stack.base import SchemaSource, Stack
from harness.stack.control import ControlClient
from harness.stack.descriptor import StackDescriptor
from harness.stack.images import Images, build_images, connect_docker
from harness.stack.project import Project
from harness.stack.reaper import (
    OWNER_LABEL,
    STACK_LABEL,
    reap,
    reap_abandoned,
    start_reaper,
)

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["ContainerStack"]

LOCALHOST = "127.0.0.1"
POSTGRES_PORT = 5432
SERVER_PORT = 8000
PROBE_INTERVAL_S = 0.1
LOG_TAIL_LINES = 20
OBJECTS_REF = "default"  # at the root, where every S3 client finds it
OBJECTS_BUCKET = "stub"
SERVERS = ("s3", "storage", "realtime", "gateway")


class ContainerStack(Stack):
    """A stack of containers; ``async with ContainerStack(config) as stack``."""

    def __init__(self, config: Config, *, name: str | None = None) -> None:
        super().__init__()
        self.config = config
        self.name = name or f"containers-{os.getpid()}-{secrets.token_hex(2)}"
        self._secret = secrets.token_urlsafe(24)
        self._client: DockerClient | None = None
        self._network: Network | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._containers: dict[str, DockerContainer] = {}
        self._s3: Stack | None = None

    async def start(self) -> None:
        """Build missing images, start every container, wait until all answer."""
        began_s = time.monotonic()
        try:
            await asyncio.to_thread(self._start_containers)
            await self._await_postgres()
            for service in SERVERS:
                await self._await_server(service)
            self.descriptor = self._describe("gateway")
            await self._make_object_store()
        except BaseException:
            await self.stop()
            raise
        self.started_in_s = time.monotonic() - began_s

    async def stop(self) -> None:
        """Remove the containers and the network."""
        await super().stop()
        if self._s3 is not None:
            await self._s3.stop()
        if self._client is not None:
            await asyncio.to_thread(reap, self._client, self.name)
            self._client.close()
            self._client = None
        if self._reaper is not None:
            await asyncio.to_thread(self._reaper.communicate)
            self._reaper = None

    def port_of(self, service: str) -> int:
        """Return the port of this machine that leads to ``service``."""
        return self._port(
            service, POSTGRES_PORT if service == "postgres" else SERVER_PORT
        )

    def container(self, service: str) -> DockerContainer:
        """Return the container of ``service``, for faults: pause, kill, disconnect."""
        return self._containers[service]

    async def create_project(
        self,
        schema: Sequence[SchemaSource] = (),
        *,
        ref: str | None = None,
        settings: ProjectSettings | None = None,
    ) -> Project:
        """Return a new project whose objects lie in the S3 container."""
        settings = settings or ProjectSettings()
        storage = {**settings.storage, **self._object_store()}
        return await super().create_project(
            schema,
            ref=ref,
            settings=ProjectSettings(
                storage=storage,
                realtime=settings.realtime,
                auth=settings.auth,
                rest=settings.rest,
            ),
        )

    def _start_containers(self) -> None:
        self._client = connect_docker()
        reap_abandoned(self._client)
        # Reaping is ours: Ryuk would need an image and a privileged socket.
        testcontainers_config.ryuk_disabled = True
        images = build_images(self._client, self.config, _say)
        self._reaper = start_reaper(self.name)
        labels = {STACK_LABEL: self.name, OWNER_LABEL: str(os.getpid())}
        self._network = Network(docker_network_kw={"labels": labels}).create()
        self._run_postgres(images, labels)
        for service in SERVERS:
            self._run_server(images, service, labels)

    def _run_postgres(self, images: Images, labels: Mapping[str, str]) -> None:
        container = DockerContainer(images.postgres).with_exposed_ports(POSTGRES_PORT)
        self._run("postgres", container, labels)

    def _run_server(
        self, images: Images, service: str, labels: Mapping[str, str]
    ) -> None:
        spec = {
            "host": "0.0.0.0",
            "port": SERVER_PORT,
            "control_secret": self._secret,
            "objects_root": "/tmp/objects",
            "postgres": {
                "host": "postgres",
                "port": POSTGRES_PORT,
                "password": "postgres",
            },
            "durability": self.config.durability,
            "projects": [],
            "access_log": None,
            "upstreams": {
                name: f"http://{name}:{SERVER_PORT}" for name in ("storage", "realtime")
            }
            if service == "gateway"
            else {},
        }
        container = (
            DockerContainer(images.server)
            .with_exposed_ports(SERVER_PORT)
            .with_env("HARNESS_SERVER_SPEC", json.dumps(spec))
        )
        self._run(service, container, labels)

    def _run(
        self, service: str, container: DockerContainer, labels: Mapping[str, str]
    ) -> None:
        assert self._network is not None
        container.with_network(self._network).with_network_aliases(service)
        container.with_kwargs(labels=dict(labels))
        container.start()
        self._containers[service] = container

    def _describe(self, service: str) -> StackDescriptor:
        port = self._port("postgres", POSTGRES_PORT)
        return StackDescriptor(
            name=self.name,
            kind="containers",
            api_url=self._url(service),
            control_secret=self._secret,
            postgres=DatabaseAddress(LOCALHOST, port, MAINTENANCE_DB, "postgres"),
            postgres_version="container",
            db_host=LOCALHOST,
            db_port=port,
        )

    async def _make_object_store(self) -> None:
        """Make the project and bucket in the S3 container that hold all objects."""
        stack = _ObjectStack(self._describe("s3"))
        self._s3 = stack
        project = await stack.create_project(ref=OBJECTS_REF)
        try:
            client = await project.client(project.service)
            await client.storage.create_bucket(OBJECTS_BUCKET)
        finally:
            await project.close()

    def _object_store(self) -> dict[str, Any]:
        keys = S3Keys()
        return {
            "backend": "s3",
            "s3_endpoint": f"http://s3:{SERVER_PORT}",
            "s3_bucket": OBJECTS_BUCKET,
            "s3_region": keys.region,
            "s3_access_key_id": keys.access_key_id,
            "s3_secret_access_key": keys.secret_access_key,
        }

    async def _await_postgres(self) -> None:
        address = DatabaseAddress(
            LOCALHOST, self._port("postgres", POSTGRES_PORT), MAINTENANCE_DB, "postgres"
        )

        async def probe() -> str | None:
            try:
                connection = await asyncpg.connect(**address.connect_args(SUPERUSER))
            except (OSError, asyncpg.PostgresError) as exc:
                return f"{type(exc).__name__}: {exc}"
            await connection.close()
            return None

        await self._await("postgres", probe)

    async def _await_server(self, service: str) -> None:
        async with ControlClient(self._url(service), self._secret) as control:

            async def probe() -> str | None:
                try:
                    await control.status()
                except StackError as exc:
                    return str(exc)
                return None

            await self._await(service, probe)

    async def _await(self, service: str, probe: Callable[[], Any]) -> None:
        limit_s = self.config.ready_timeout_s
        deadline_s = time.monotonic() + limit_s
        while (seen := await probe()) is not None:
            if time.monotonic() > deadline_s:
                raise NotReadyError(
                    service,
                    waited_s=limit_s,
                    last_seen=seen,
                    log_tail=await asyncio.to_thread(self._log_tail, service),
                )
            await asyncio.sleep(PROBE_INTERVAL_S)

    def _log_tail(self, service: str) -> str:
        out, err = self._containers[service].get_logs()
        lines = (out + err).decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _url(self, service: str) -> str:
        return f"http://{LOCALHOST}:{self._port(service, SERVER_PORT)}"

    def _port(self, service: str, port: int) -> int:
        container = self._containers[service].get_wrapped_container()
        container.reload()
        bindings = container.attrs["NetworkSettings"]["Ports"].get(f"{port}/tcp")
        if not bindings:
            raise ContainerError(
                f"the container of {service} ended while starting",
                service=service,
                log_tail=self._log_tail(service),
            )
        return int(bindings[0]["HostPort"])


class _ObjectStack(Stack):
    """The S3 container as a stack of its own, with one project."""

    def __init__(self, descriptor: StackDescriptor) -> None:
        super().__init__()
        self.descriptor = descriptor

    async def start(self) -> None:
        """Do nothing: the container runs already."""


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
