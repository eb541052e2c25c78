"""The embedded stack: PostgreSQL and one server process on this machine.

Starting is done side by side: while PostgreSQL comes up on a copied data directory,
the server process imports its modules.  The keeper (:mod:`harness.stack.keeper`) owns
both, so that nothing outlives this process, whatever ends it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from harness.config import Config
from harness.db.address import DatabaseAddress
from harness.db.cluster import ClusterOptions
from harness.db.discovery import (
    PostgresInstallation,
    find_postgres,
)
from harness.db.launch import LaunchPlan, probe
from harness.db.rundir import RunDir
from harness.db.seeded import prepare_seeded_cluster
from harness.errors import NotReadyError, StackError
from harness.servers.project import ProjectSettings
from harness.stack.base import Stack, platform_schema
from harness.stack.descriptor import StackDescriptor
from harness.stack.environment import child_environment
from harness.stack.keeping import KeeperClient, KeptProcess
from harness.stack.registry import StackRegistry

__all__ = ["EmbeddedStack"]

LOCALHOST = "127.0.0.1"
PROBE_INTERVAL_S = 0.004
PORTS_TRIED = 50
START_ATTEMPTS = 3
ADDRESS_IN_USE = "address already in use"
POSTGRES, SERVER = "postgres", "server"


class EmbeddedStack(Stack):
    """A stack of local processes; ``async with EmbeddedStack(config) as stack``.

    ``ports`` says how the configured ports are meant: ``any`` lets the system choose,
    ``preferred`` takes the next free ones, ``exact`` makes a taken one an error.
    """

    def __init__(
        self,
        config: Config,
        *,
        name: str | None = None,
        ports: Literal["any", "preferred", "exact"] = "any",
        access_log: Path | None = None,
        server_env: dict[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.name = name or f"stack-{os.getpid()}-{secrets.token_hex(2)}"
        self._ports = ports
        self._access_log = access_log
        self._server_env = server_env or {}
        self._postgres_settings = postgres_settings or {}
        self._registry = StackRegistry(config.state_dir)
        self._keeper: KeeperClient | None = None
        self._server_spec: dict[str, Any] = {}
        self._spec_path = Path()

    async def _register(
        self, ref: str, database: DatabaseAddress, settings: ProjectSettings | None
    ) -> None:
        workers = self.config.realtime_workers
        if workers:
            settings = settings or ProjectSettings()
            realtime = {"workers": workers, **settings.realtime}
            settings = dataclasses.replace(settings, realtime=realtime)
        await super()._register(ref, database, settings)

    @property
    def keeper(self) -> KeeperClient:
        """The keeper, for faults: kill, pause and restart what it keeps."""
        if self._keeper is None:
            raise StackError("the stack is not running", service="keeper")
        return self._keeper

    async def start(self) -> None:
        """Start everything and return when every service answers."""
        began_s = time.monotonic()
        installation = await asyncio.to_thread(_installation, self.config)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                await self._start_on(installation)
                break
            except StackError as exc:
                # A preferred port may go to another between our look and the bind.
                lost_port = ADDRESS_IN_USE in exc.log_tail.lower()
                if self._ports == "exact" or not lost_port or attempt == START_ATTEMPTS:
                    raise
        self.started_in_s = time.monotonic() - began_s

    async def _start_on(self, installation: PostgresInstallation) -> None:
        options = ClusterOptions(
            durability=self.config.durability,
            port=self._port(self.config.db_port),
            settings=self._postgres_settings,
            ready_timeout_s=self.config.ready_timeout_s,
        )
        run_dir, plan = await asyncio.to_thread(
            prepare_seeded_cluster, installation, options, [platform_schema()]
        )
        try:
            await self._start_processes(installation, run_dir, plan)
        except BaseException:
            await self.stop()
            run_dir.remove()
            raise
        run_dir.release()

    async def stop(self) -> None:
        """Stop the processes and remove every trace of the stack."""
        await super().stop()
        if self._keeper is not None:
            await self._keeper.stop()
            self._keeper = None
        self._registry.remove(self.name)

    async def server_ended(self) -> int:
        """Wait until the server process has ended; returns its exit status."""
        return await self.keeper.until_gone(SERVER)

    async def restart_server(self) -> None:
        """Start the server process again after it ended: same port, same projects."""
        self._server_spec["port"] = int(self.descriptor.api_url.rpartition(":")[2])
        self._server_spec["projects"] = list(self.registered.values())
        self._write_spec()
        await self.keeper.restart(SERVER, self.config.ready_timeout_s)

    async def _start_processes(
        self, installation: PostgresInstallation, run_dir: RunDir, plan: LaunchPlan
    ) -> None:
        secret = secrets.token_urlsafe(24)
        api_port = self._port(self.config.api_port)
        server = self._server_process(run_dir.path, plan, secret, api_port)
        self._keeper = await KeeperClient.start(
            [_postgres_process(plan), server], [run_dir.path]
        )
        await self._await_postgres(plan)
        ready = await self._keeper.announced(SERVER, self.config.ready_timeout_s)
        port = int(ready["port"])
        self.descriptor = StackDescriptor(
            name=self.name,
            kind="embedded",
            api_url=f"http://{LOCALHOST}:{port}",
            control_secret=secret,
            postgres=DatabaseAddress(plan.socket_dir, plan.port, plan.maintenance_db),
            postgres_version=installation.version_text,
            db_host=LOCALHOST,
            db_port=plan.port,
            pids=dict(self._keeper.pids),
            log_dir=str(run_dir.path),
        )

    def publish(self) -> None:
        """Let ``harness status`` and ``down`` find this stack; others stay private."""
        self._registry.add(self.descriptor)

    async def _await_postgres(self, plan: LaunchPlan) -> None:
        deadline_s = time.monotonic() + self.config.ready_timeout_s
        while (seen := await asyncio.to_thread(probe, plan)) is not None:
            if POSTGRES in self.keeper.gone:
                raise StackError(
                    f"PostgreSQL ended with status {self.keeper.gone[POSTGRES]} "
                    "while starting",
                    service=POSTGRES,
                    log_tail=self.keeper.log_tail(POSTGRES),
                )
            if time.monotonic() > deadline_s:
                raise NotReadyError(
                    POSTGRES,
                    waited_s=self.config.ready_timeout_s,
                    last_seen=seen,
                    log_tail=self.keeper.log_tail(POSTGRES),
                )
            await asyncio.sleep(PROBE_INTERVAL_S)

    def _server_process(
        self, folder: Path, plan: LaunchPlan, secret: str, port: int
    ) -> KeptProcess:
        self._server_spec = {
            "host": LOCALHOST,
            "port": port,
            "control_secret": secret,
            "objects_root": str(folder / "objects"),
            "postgres": {"host": plan.socket_dir, "port": plan.port, "password": ""},
            "durability": self.config.durability,
            "projects": [],
            "access_log": str(self._access_log or folder / "access.log"),
        }
        self._spec_path = folder / "server.json"
        self._write_spec()
        return KeptProcess(
            name=SERVER,
            argv=[
                sys.executable,
                "-m",
                "harness.servers",
                "--spec",
                str(self._spec_path),
            ],
            env=child_environment(
                os.environ, self.config.cache_dir, **self._server_env
            ),
            log=str(folder / "server-process.log"),
            stop_signals=(signal.SIGTERM,),
            announces=True,
        )

    def _write_spec(self) -> None:
        self._spec_path.touch(mode=0o600)
        text = json.dumps(self._server_spec)
        self._spec_path.write_text(text, encoding="utf-8")

    def _port(self, wanted: int) -> int:
        """Return the port to listen on; 0 lets the system choose."""
        if self._ports == "any":
            return 0
        if self._ports == "exact":
            if not _is_free(wanted):
                raise StackError(
                    f"port {wanted} is taken",
                    hint="stop what listens there ('harness status' tells of stacks) "
                    "or choose another with --port",
                )
            return wanted
        for port in range(wanted, wanted + PORTS_TRIED * 10, 10):
            if _is_free(port):
                return port
        return 0


def _installation(config: Config) -> PostgresInstallation:
    search_path = os.environ.get("PATH", os.defpath)
    return find_postgres(config.postgres, search_path=search_path)


def _postgres_process(plan: LaunchPlan) -> KeptProcess:
    return KeptProcess(
        name=POSTGRES,
        argv=plan.argv,
        env=plan.env,
        log=plan.log_path,
        # Immediate shutdown: the data is thrown away, a checkpoint would be lost time.
        stop_signals=(signal.SIGQUIT,),
        death_signal=signal.SIGQUIT,
        cwd=plan.data_dir,
        uid=plan.uid,
        gid=plan.gid,
    )


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOCALHOST, port))
        except OSError:
            return False
        return True
