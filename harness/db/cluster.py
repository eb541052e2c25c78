"""A throw-away PostgreSQL server: prepared, started, found and removed.

``prepare_cluster`` makes a run folder with a data directory and returns a
:class:`~harness.db.launch.LaunchPlan`; :class:`Cluster` runs such a plan in this
process.  A stack hands the plan to its keeper process instead.

Durability is a setting: ``fast`` turns fsync and full page writes off, ``full`` leaves
them on.  ``synchronous_commit`` stays on in both, because logical decoding reads only
WAL that was flushed.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from harness.db.account import Account, give, server_account
from harness.db.address import DatabaseAddress
from harness.db.cluster_cache import (
    default_cache_dir,
    fill_data_dir,
)
from harness.db.discovery import PostgresInstallation
from harness.db.initdb import MAINTENANCE_DB, SUPERUSER
from harness.db.launch import LaunchPlan, end_server, spawn_server, wait_until_ready
from harness.db.overlay import prepared_installation
from harness.db.rundir import RunDir, run_roots, sweep
from harness.errors import StackError

__all__ = ["Cluster", "ClusterOptions", "prepare_cluster", "server_settings"]

LOCALHOST = "127.0.0.1"
# The local stack's documented password.
TCP_PASSWORD = "postgres"
# Somebody may take a free port between our looking and the server's listening.
PORT_ATTEMPTS = 3
PORT_TAKEN = "Address already in use"
ZONEINFO = Path("/usr/share/zoneinfo/UTC")

Durability = Literal["fast", "full"]

COMMON_SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOCALHOST,
    "max_connections": "300",
    "wal_level": "logical",
    "max_wal_senders": "64",
    "max_replication_slots": "64",
    "max_logical_replication_workers": "2",
    "synchronous_commit": "on",
    "jit": "off",
    "default_text_search_config": "pg_catalog.english",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    # Not in /dev/shm: so it goes with the data directory after any crash.
    "dynamic_shared_memory_type": "mmap",
    "max_locks_per_transaction": "256",
    "max_slot_wal_keep_size": "4GB",
    "password_encryption": "scram-sha-256",
    "search_path": '"$user", public, extensions',
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "logging_collector": "off",
}
FAST_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_init_zero": "off",
    "wal_recycle": "off",
    # A checkpoint in the middle of a measurement would show in it.
    "checkpoint_timeout": "1h",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
}


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How to run a cluster; ``port`` 0 is any free one.

    ``settings`` override PostgreSQL's; ``run_root`` is the folder that run folders are
    made in (default: tmpfs if it has room); ``variant`` names a cached data directory
    that holds more than a fresh one (:mod:`harness.db.seeded`).
    """

    durability: Durability = "fast"
    port: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    cache_dir: Path | None = None
    run_root: Path | None = None
    ready_timeout_s: float = 30.0
    variant: str = ""


class Cluster:
    """A running server of this process; ``with Cluster.start(...) as cluster``."""

    def __init__(
        self, run_dir: RunDir, plan: LaunchPlan, server: subprocess.Popen[bytes]
    ) -> None:
        self._run_dir = run_dir
        self.plan = plan
        self._server = server

    @classmethod
    def start(
        cls, installation: PostgresInstallation, options: ClusterOptions | None = None
    ) -> Cluster:
        """Prepare and start a server and wait until it answers."""
        options = options or ClusterOptions()
        attempts = 1 if options.port else PORT_ATTEMPTS
        while True:
            attempts -= 1
            try:
                return cls._start_once(installation, options)
            except StackError as exc:
                if attempts <= 0 or PORT_TAKEN not in exc.log_tail:
                    raise

    @classmethod
    def _start_once(
        cls, installation: PostgresInstallation, options: ClusterOptions
    ) -> Cluster:
        run_dir, plan = prepare_cluster(installation, options)
        server: subprocess.Popen[bytes] | None = None
        try:
            server = spawn_server(plan)
            wait_until_ready(plan, server, timeout_s=options.ready_timeout_s)
        except BaseException:
            if server is not None:
                end_server(server)
            run_dir.remove()
            raise
        return cls(run_dir, plan, server)

    @property
    def pid(self) -> int:
        """The process id of the server's main process."""
        return self._server.pid

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, also part of the socket's name."""
        return self.plan.port

    def address(self, dbname: str = MAINTENANCE_DB) -> DatabaseAddress:
        """Return where a database is over the Unix socket, without a password."""
        return DatabaseAddress(self.plan.socket_dir, self.port, dbname)

    def tcp_address(self, dbname: str = MAINTENANCE_DB) -> DatabaseAddress:
        """Return where a database is over TCP."""
        return DatabaseAddress(LOCALHOST, self.port, dbname, TCP_PASSWORD)

    @property
    def data_dir(self) -> Path:
        """The data directory, there until :meth:`stop`."""
        return Path(self.plan.data_dir)

    def end_cleanly(self) -> None:
        """End the server with a checkpoint; its data directory stays until stop."""
        end_server(self._server, clean=True)

    def stop(self) -> None:
        """End the server and remove everything it had; harmless when repeated."""
        end_server(self._server)
        self._run_dir.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def prepare_cluster(
    installation: PostgresInstallation, options: ClusterOptions
) -> tuple[RunDir, LaunchPlan]:
    """Make the folders of a new cluster and say how to run it.

    Also sweeps up what crashed runs left.  The caller owns the returned folder's
    lock; a process that takes over must open a :class:`RunDir` of its own on the same
    path before the caller releases this one.  Raises :class:`StackError`.
    """
    account = server_account()
    roots = (options.run_root,) if options.run_root else run_roots()
    sweep(roots)
    run_dir = _create_run_dir(roots[0])
    try:
        return run_dir, _fill(run_dir.path, installation, options, account)
    except OSError as exc:
        run_dir.remove()
        raise _disk_error(exc, roots[0]) from exc
    except BaseException:
        run_dir.remove()
        raise


def server_settings(options: ClusterOptions) -> dict[str, str]:
    """Return the server's settings, later ones overriding earlier ones."""
    fast = FAST_SETTINGS if options.durability == "fast" else {}
    # A build without its own time zones and a system without any still know GMT.
    zone = {} if ZONEINFO.exists() else {"timezone": "GMT", "log_timezone": "GMT"}
    return {**COMMON_SETTINGS, **fast, **zone, **options.settings}


def _create_run_dir(root: Path) -> RunDir:
    try:
        return RunDir.create(root)
    except OSError as exc:
        raise _disk_error(exc, root) from exc


def _fill(
    path: Path,
    installation: PostgresInstallation,
    options: ClusterOptions,
    account: Account | None,
) -> LaunchPlan:
    data_dir, socket_dir, log_path = path / "data", path / "socket", path / "server.log"
    for folder in (data_dir, socket_dir):
        folder.mkdir(mode=0o700)
        give(folder, account)
    cache_dir = options.cache_dir or default_cache_dir(os.environ)
    installation = prepared_installation(installation, account, cache_dir=cache_dir)
    fill_data_dir(
        data_dir,
        installation,
        cache_dir=cache_dir,
        account=account,
        variant=options.variant,
    )
    _write_settings(data_dir / "postgresql.conf", server_settings(options))
    log_path.touch(mode=0o600)
    port = options.port or free_port()
    return LaunchPlan(
        argv=(
            str(installation.program("postgres")),
            *("-D", str(data_dir)),
            *("-k", str(socket_dir)),
            *("-p", str(port)),
        ),
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
        run_dir=str(path),
        data_dir=str(data_dir),
        socket_dir=str(socket_dir),
        log_path=str(log_path),
        port=port,
        superuser=SUPERUSER,
        maintenance_db=MAINTENANCE_DB,
        uid=None if account is None else account.uid,
        gid=None if account is None else account.gid,
    )


def _write_settings(path: Path, settings: Mapping[str, str]) -> None:
    quoted = (
        f"{k} = '{v.replace(chr(39), chr(39) * 2)}'\n" for k, v in settings.items()
    )
    path.write_text("".join(quoted), encoding="utf-8")


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _disk_error(exc: OSError, folder: Path) -> StackError:
    reasons = {
        errno.ENOSPC: "is full",
        errno.EDQUOT: "is over its quota",
        errno.EROFS: "is read-only",
        errno.EACCES: "cannot be written",
    }
    reason = reasons.get(exc.errno or 0)
    if reason is None:
        return StackError(f"preparing PostgreSQL failed: {exc}", service="postgres")
    return StackError(
        f"the disk of {exc.filename or folder} {reason}",
        service="postgres",
        hint="set TMPDIR to a folder with 200 MB of room",
    )
