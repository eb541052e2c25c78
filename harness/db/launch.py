"""Run a PostgreSQL server from a plan: spawn it, wait until it answers, end it.

A :class:`LaunchPlan` is plain data (JSON both ways), so that one process can prepare it
and another, such as the keeper of a stack, can run it.  Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import NotReadyError, StackError

__all__ = [
    "LaunchPlan",
    "end_server",
    "log_tail",
    "probe",
    "spawn_server",
    "wait_until_ready",
]

PROBE_INTERVAL_S = 0.004
PROBE_TIMEOUT_S = 1.0
# Immediate shutdown needs no checkpoint; a server that is stuck is killed.
END_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 20
PROTOCOL_3 = 196608
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How to run one server: everything decided, nothing started.

    ``uid``/``gid`` are set only when the server must not run as the caller (root).
    ``superuser`` and ``maintenance_db`` are what :func:`probe` logs in with.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    run_dir: str
    data_dir: str
    socket_dir: str
    log_path: str
    port: int
    superuser: str
    maintenance_db: str
    uid: int | None = None
    gid: int | None = None

    def to_json(self) -> str:
        """Return the plan as one JSON object."""
        return json.dumps({**dataclasses.asdict(self), "env": dict(self.env)})

    @classmethod
    def from_json(cls, text: str) -> LaunchPlan:
        """Read back what :meth:`to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "argv": tuple(values["argv"])})

    @property
    def socket_path(self) -> str:
        """The path of the server's Unix socket."""
        return f"{self.socket_dir}/.s.PGSQL.{self.port}"


def spawn_server(
    plan: LaunchPlan, *, die_with_parent: bool | None = None
) -> subprocess.Popen[bytes]:
    """Start the server process; it may not answer yet.

    With ``die_with_parent`` (default: where it is sound) the kernel ends the server
    when the calling thread ends, so it is only for threads that live as long as the
    process: the main one.
    """
    if die_with_parent is None:
        die_with_parent = threading.current_thread() is threading.main_thread()
    # O_APPEND: a second start after a port clash keeps the first one's words.
    with open(plan.log_path, "ab") as log, warnings.catch_warnings():
        # Python 3.12 warns of any hook between fork and exec while threads run; ours
        # calls one C function and takes no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        return subprocess.Popen(
            plan.argv,
            cwd=plan.data_dir,
            env=dict(plan.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=plan.uid,
            group=plan.gid,
            extra_groups=None if plan.gid is None else [],
            preexec_fn=_death_signal_setter() if die_with_parent else None,
            # Ctrl-C goes to the harness, which ends the server in order.
            process_group=0,
        )


def wait_until_ready(
    plan: LaunchPlan, server: subprocess.Popen[bytes], *, timeout_s: float
) -> None:
    """Wait until the server answers; raises :class:`StackError` if it ends first."""
    started_s = time.monotonic()
    while True:
        seen = probe(plan)
        if seen is None:
            return
        waited_s = time.monotonic() - started_s
        if server.poll() is not None:
            raise StackError(
                f"PostgreSQL ended with status {server.returncode} while starting",
                service="postgres",
                log_tail=log_tail(plan),
                hint="the last lines of its log say why",
            )
        if waited_s > timeout_s:
            raise NotReadyError(
                "postgres", waited_s=waited_s, last_seen=seen, log_tail=log_tail(plan)
            )
        time.sleep(PROBE_INTERVAL_S)


def end_server(
    server: subprocess.Popen[bytes],
    *,
    clean: bool = False,
    timeout_s: float = END_TIMEOUT_S,
) -> None:
    """End the server and its children; returns when it is gone.

    ``clean`` writes a checkpoint first (SIGINT, fast shutdown), for data that will be
    started again.  Otherwise it is an immediate shutdown (SIGQUIT); either way
    sessions are cut.
    """
    for sent in (signal.SIGINT if clean else signal.SIGQUIT, signal.SIGQUIT):
        if server.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout_s)
            return
    server.kill()
    server.wait()


def log_tail(plan: LaunchPlan, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of the server's log, '' if there is none."""
    try:
        text = Path(plan.log_path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def probe(plan: LaunchPlan) -> str | None:
    """Log in over the Unix socket: ``None`` if the server answers, else what was seen.

    Speaks the few bytes of the protocol that are needed: a start-up message, then
    messages until ReadyForQuery or ErrorResponse.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(PROBE_TIMEOUT_S)
            link.connect(plan.socket_path)
            link.sendall(_startup_message(plan.superuser, plan.maintenance_db))
            return _read_until_ready(link)
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"


def _startup_message(user: str, dbname: str) -> bytes:
    parameters = b"".join(
        part.encode() + b"\0" for part in ("user", user, "database", dbname)
    )
    body = struct.pack("!I", PROTOCOL_3) + parameters + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def _read_until_ready(link: socket.socket) -> str | None:
    with link.makefile("rb") as stream:
        while len(head := stream.read(5)) == 5:
            kind, length = struct.unpack("!cI", head)
            body = stream.read(length - 4)
            if kind == b"Z":
                link.sendall(b"X\0\0\0\x04")
                return None
            if kind == b"E":
                return _error_text(body)
            if kind == b"R" and body != b"\0\0\0\0":
                return "the server asks for a password on its Unix socket"
    return "connection closed while starting"


def _error_text(body: bytes) -> str:
    fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
    return f"{fields.get(b'M', 'error')} [{fields.get(b'C', '')}]"


def _death_signal_setter() -> Callable[[], None] | None:
    """Return what makes the kernel send SIGQUIT to the child when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    # Looked up before the fork: the child must do nothing that can take a lock.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def set_death_signal() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal
