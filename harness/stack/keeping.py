"""Our side of the keeper: start it with a plan, hear it, give it orders."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import NotReadyError, StackError

__all__ = ["KeeperClient", "KeptProcess"]

KEEPER = Path(__file__).with_name("keeper.py")
STOP_TIMEOUT_S = 20.0
LOG_TAIL_LINES = 20
# One line of the keeper; a plan holds an environment and two command lines.
LINE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptProcess:
    """One process for the keeper.

    ``announces`` says that its standard output carries a readiness line;
    ``stop_signals`` are sent one after the other, SIGKILL last in any case.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: str
    stop_signals: Sequence[int] = (signal.SIGTERM,)
    death_signal: int = signal.SIGKILL
    announces: bool = False
    cwd: str | None = None
    uid: int | None = None
    gid: int | None = None

    def as_plan(self) -> dict[str, Any]:
        """Return the process as the keeper reads it."""
        return {
            "name": self.name,
            "argv": list(self.argv),
            "env": dict(self.env),
            "log": self.log,
            "stop_signals": [int(s) for s in self.stop_signals],
            "death_signal": int(self.death_signal),
            "announces": self.announces,
            "cwd": self.cwd,
            "uid": self.uid,
            "gid": self.gid,
        }


@dataclass(slots=True)
class KeeperClient:
    """A running keeper; when this end of its pipe closes, it stops everything.

    ``pids`` holds process ids, ``gone`` the exit status of processes that ended and
    were not started again.
    """

    process: asyncio.subprocess.Process
    logs: Mapping[str, str]
    pids: dict[str, int] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    _announced: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reader: asyncio.Task[None] | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def start(
        cls, processes: Sequence[KeptProcess], folders: Sequence[Path]
    ) -> KeeperClient:
        """Start a keeper on ``processes``; it owns ``folders`` from now on.

        The keeper has a session of its own, so that Ctrl-C reaches us and not it.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(KEEPER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_LIMIT,
        )  # fmt: skip
        client = cls(process, {p.name: p.log for p in processes})
        loop = asyncio.get_running_loop()
        client._announced = {p.name: loop.create_future() for p in processes}
        client.pids["keeper"] = process.pid
        client._send(
            {
                "folders": [str(folder) for folder in folders],
                "processes": [p.as_plan() for p in processes],
            }
        )
        client._reader = asyncio.create_task(client._read())
        return client

    async def announced(self, name: str, timeout_s: float) -> dict[str, Any]:
        """Return the readiness line of process ``name``; raises if it never comes."""
        try:
            line = await asyncio.wait_for(
                asyncio.shield(self._announced[name]), timeout_s
            )
        except TimeoutError:
            raise NotReadyError(
                name,
                waited_s=timeout_s,
                last_seen="it has not told that it is ready",
                log_tail=self.log_tail(name),
            ) from None
        record: dict[str, Any] = json.loads(line)
        return record

    async def until_gone(self, name: str) -> int:
        """Wait until process ``name`` has ended; returns its exit status."""
        async with self._changed:
            await self._changed.wait_for(lambda: name in self.gone)
        return self.gone[name]

    async def restart(self, name: str, timeout_s: float) -> dict[str, Any]:
        """Start process ``name`` again after it ended; returns its readiness line."""
        self._announced[name] = asyncio.get_running_loop().create_future()
        self._send({"order": "start", "name": name})
        return await self.announced(name, timeout_s)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to process ``name``."""
        self._send({"order": "signal", "name": name, "signal": int(number)})

    async def stop(self) -> None:
        """Stop everything and wait until the keeper is gone."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        if self._reader is not None:
            await self._reader

    def log_tail(self, name: str) -> str:
        """Return the last lines of the log of ``name``, '' if there is none."""
        path = Path(self.logs.get(name, ""))
        if not path.is_file():
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _send(self, record: dict[str, Any]) -> None:
        if self.process.stdin is None:
            raise StackError("the keeper is gone", service="keeper")
        self.process.stdin.write(json.dumps(record).encode() + b"\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._hear(json.loads(line))
            async with self._changed:
                self._changed.notify_all()
        self.stopped.set()
        for name in self._announced:
            self._fail(name, "the keeper is gone")

    def _hear(self, record: dict[str, Any]) -> None:
        name = record.get("name", "")
        match record["event"]:
            case "started":
                self.pids[name] = record["pid"]
                self.gone.pop(name, None)
            case "announced" if not self._announced[name].done():
                self._announced[name].set_result(record["line"])
            case "failed":
                self._fail(name, record["error"])
            case "ended":
                self.gone[name] = record["code"]
                self._fail(name, f"it ended with status {record['code']}")
            case _:
                pass

    def _fail(self, name: str, reason: str) -> None:
        future = self._announced[name]
        if future.done():
            return
        future.set_exception(
            StackError(
                f"{name} did not start: {reason}",
                service=name,
                log_tail=self.log_tail(name),
            )
        )
        # Whoever waits gets it; if nobody does, it is no unhandled error.
        future.exception()
