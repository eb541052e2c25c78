"""The keeper: owns the life of a stack's processes and folders.

It is started as a script with the standard library alone, so that it is up at once
and cannot fail on what it keeps.  The first line on standard input is the plan
(:class:`Plan` as JSON); more lines are orders (``kill``, ``start``, ``stop``).  Every
answer is one JSON line on standard output.

When standard input ends, for whatever reason the parent died, the keeper stops its
processes in reverse order and removes its folders.  When the keeper itself is killed,
the kernel signals its children (``PR_SET_PDEATHSIG``), and the next start sweeps the
folders (:func:`harness.db.rundir.sweep`), which a held file lock marks as in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
STOP_GRACE_S = 5.0
REAP_POLL_S = 0.005


class Kept:
    """One process that the keeper starts, watches and stops."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.name: str = plan["name"]
        self.plan = plan
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes to its log, except a wanted readiness line."""
        plan = self.plan
        with open(plan["log"], "ab") as log:
            self.process = subprocess.Popen(
                plan["argv"],
                env=plan["env"],
                cwd=plan.get("cwd"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if plan.get("announces") else log,
                stderr=log,
                user=plan.get("uid"),
                group=plan.get("gid"),
                extra_groups=[] if plan.get("uid") is not None else None,
                start_new_session=True,
                # Runs after the change of user, which would reset the setting.
                preexec_fn=_signal_on_parent_death(plan["death_signal"]),
            )

    def stop(self) -> None:
        """Send the stop signals one after the other until it is gone."""
        for number in [*self.plan["stop_signals"], signal.SIGKILL]:
            if not self.running():
                break
            self.send(number)
            self._wait(STOP_GRACE_S)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def send(self, number: int) -> None:
        """Signal the process, its whole group for SIGKILL."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                os.kill(self.process.pid, number)

    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def _wait(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.running() and time.monotonic() < deadline:
            time.sleep(REAP_POLL_S)


class Keeper:
    """Starts the plan's processes, obeys orders, and cleans up at the end."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.folders: list[str] = plan["folders"]
        self.locks = [_hold_lock(folder) for folder in self.folders]
        self.kept = {p["name"]: Kept(p) for p in plan["processes"]}
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        self.reported: set[int] = set()
        self.order_bytes = b""

    def run(self) -> None:
        """Keep everything until told to stop or the parent is gone."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(wake_read, selectors.EVENT_READ, ("wake", wake_read))
        self.selector.register(0, selectors.EVENT_READ, ("orders", 0))
        try:
            for kept in self.kept.values():
                self._start(kept)
            while not self.stopping:
                self._turn()
        finally:
            self._shut_down()

    def _turn(self) -> None:
        for key, _ in self.selector.select():
            kind, source = key.data
            if kind == "wake":
                os.read(source, 4096)
            elif kind == "orders":
                self._read_orders()
            else:
                self._read_announcement(self.kept[source])
        self._report_ended()

    def _read_orders(self) -> None:
        chunk = os.read(0, 65536)
        if not chunk:
            self.stopping = True
            return
        *lines, self.order_bytes = (self.order_bytes + chunk).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if order["order"] == "stop":
            self.stopping = True
            return
        kept = self.kept[order["name"]]
        if order["order"] == "start" and not kept.running():
            self._start(kept)
        elif order["order"] == "signal" and kept.running():
            kept.send(order["signal"])

    def _start(self, kept: Kept) -> None:
        try:
            kept.start()
        except OSError as exc:
            _tell({"event": "failed", "name": kept.name, "error": str(exc)})
            return
        assert kept.process is not None
        _tell({"event": "started", "name": kept.name, "pid": kept.process.pid})
        if kept.process.stdout is not None:
            self.selector.register(
                kept.process.stdout, selectors.EVENT_READ, ("announced", kept.name)
            )

    def _read_announcement(self, kept: Kept) -> None:
        assert kept.process is not None
        assert kept.process.stdout is not None
        line = kept.process.stdout.readline()
        if not line:
            self.selector.unregister(kept.process.stdout)
            return
        _tell({"event": "announced", "name": kept.name, "line": line.decode().strip()})

    def _report_ended(self) -> None:
        for kept in self.kept.values():
            process = kept.process
            if process is None or process.pid in self.reported:
                continue
            if process.poll() is not None:
                self.reported.add(process.pid)
                _tell(
                    {
                        "event": "ended",
                        "name": kept.name,
                        "pid": process.pid,
                        "code": process.returncode,
                    }
                )

    def _shut_down(self) -> None:
        for kept in reversed(self.kept.values()):
            kept.stop()
        for folder in self.folders:
            # What cannot be removed now, the sweep of the next start removes.
            shutil.rmtree(folder, ignore_errors=True)
        for lock in self.locks:
            os.close(lock)
        _tell({"event": "stopped"})

    def _on_stop_signal(self, number: int, frame: object) -> None:
        self.stopping = True


def _hold_lock(folder: str) -> int:
    """Mark ``folder`` as in use for as long as this process lives.

    The rule is that of :class:`harness.db.rundir.RunDir`, which this script, without
    the package on its path, cannot import.
    """
    held = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def _signal_on_parent_death(number: int) -> Any:
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None

    def arm() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, number)

    return arm


def _tell(record: dict[str, Any]) -> None:
    # A parent that is gone hears nothing; the clean-up goes on all the same.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Read the plan from standard input and keep it."""
    plan = b""
    while not plan.endswith(b"\n"):
        chunk = os.read(0, 1)
        if not chunk:
            return
        plan += chunk
    Keeper(json.loads(plan)).run()


if __name__ == "__main__":
    main()
