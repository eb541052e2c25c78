"""Start: from nothing to a server process that listens, and whose Storage answers.

A server process of its own is started beside the target's, on the target's PostgreSQL.
What is timed begins before the process exists.  It ends with the line in which the
process tells its port, and with the first 200 of ``/storage/v1/status``: by then
Storage has settled what an earlier server left unfinished.  PostgreSQL's own start is
not in it: a stack starts both at the same time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.bench.registry.result import BenchResult
from harness.db.address import DatabaseAddress
from harness.errors import HarnessError, UsageError
from harness.load.cpu import tree_cpu_s
from harness.load.target import Target

__all__ = ["run"]

STARTS: Final = 5
GOAL_S: Final = 0.5
DEADLINE_S: Final = 60.0
REQUEST: Final = b"GET /storage/v1/status HTTP/1.1\r\nHost: bench\r\n\r\n"


@dataclass(frozen=True, slots=True)
class _Start:
    listening_s: float
    ready_s: float
    cpu_s: float


async def run(target: Target) -> list[BenchResult]:
    """Start a server process a few times beside ``target``."""
    if target.database is None:
        raise UsageError("the start suite needs the database's address")
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        spec = Path(folder) / "server.json"
        spec.write_text(json.dumps(_spec(target.database, folder)), encoding="utf-8")
        starts = [await _start(spec) for _ in range(STARTS)]
    median = sorted(starts, key=lambda start: start.ready_s)[STARTS // 2]
    return [
        BenchResult(
            name="start",
            operation="server process listens",
            ops=1,
            wall_s=median.listening_s,
        ),
        BenchResult(
            name="start",
            operation="Storage answers",
            ops=1,
            wall_s=median.ready_s,
            server_cpu_s=median.cpu_s,
            goal=f"within {GOAL_S} s",
            met=median.ready_s <= GOAL_S,
            note="from the start of the process, PostgreSQL running",
        ),
    ]


def _spec(database: DatabaseAddress, folder: str) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": 0,
        "control_secret": "bench",
        "objects_root": folder,
        "postgres": {
            "host": database.host,
            "port": database.port,
            "password": database.password,
        },
        "durability": "fast",
        "projects": [{"ref": "default", "dbname": database.dbname}],
        "access_log": None,
    }


async def _start(spec: Path) -> _Start:
    began_s = time.perf_counter()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harness.servers", "--spec", str(spec)),
        # The end of its input ends the server, whatever ends this process.
        "--exit-with-parent",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = await server.stdout.readline()
            if not line:
                raise HarnessError("the server process ended before it listened")
            listening_s = time.perf_counter() - began_s
            await _ask(json.loads(line)["port"])
            ready_s = time.perf_counter() - began_s
            return _Start(listening_s, ready_s, tree_cpu_s([server.pid]))
    finally:
        server.stdin.close()
        await server.wait()


async def _ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    if not head.startswith(b"HTTP/1.1 200"):
        raise HarnessError(f"storage answered {head[:40]!r}")
