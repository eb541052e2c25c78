"""A throw-away server for the benchmarks that run as commands."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from harness.db.address import DatabaseAddress
from harness.db.cluster import Cluster
from harness.db.discovery import find_postgres
from harness.db.schema_files import Schema, read_schema
from harness.db.templates import TemplateStore

ROOT = Path(__file__).resolve().parents[3]
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Server:
    """A server with the platform in it, and databases made of schemas."""

    def __init__(self, cluster: Cluster, store: TemplateStore, folder: Path) -> None:
        self._cluster, self._store, self._folder = cluster, store, folder
        self._platform = read_schema(
            ROOT / "sql" / "platform", role="supabase_admin", recorded=False
        )

    async def clone(self, schema: Schema | str) -> DatabaseAddress:
        """Return a fresh database that holds ``schema`` (one file, given as text)."""
        if isinstance(schema, str):
            schema = written(schema, self._folder / str(abs(hash(schema))))
        template = await self._store.template((self._platform, schema))
        return self._store.address(await self._store.clone(template))

    async def drop(self, database: DatabaseAddress) -> None:
        """Drop a database."""
        await self._store.drop(database.dbname)

    def cpu_s(self) -> float:
        """Return the CPU seconds of this process, and of sessions past and present."""
        server = self._cluster.pid
        children = Path(f"/proc/{server}/task/{server}/children")
        ticks = sum(_ticks(server)[2:])
        ticks += sum(sum(_ticks(int(pid))[:2]) for pid in children.read_text().split())
        return ticks / CLOCK_TICKS_PER_S + sum(os.times()[:2])


def _ticks(pid: int) -> list[int]:
    """Return user and system time, a process's own and its ended children's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return [0, 0, 0, 0]
    return [int(field) for field in stat.rpartition(")")[2].split()[11:15]]


def written(sql: str, folder: Path) -> Schema:
    """Return a schema of one file."""
    folder.mkdir(exist_ok=True)
    (folder / "20260101000000_schema.sql").write_text(sql, encoding="utf-8")
    return read_schema(folder)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_on_server(body: Callable[[Server], Awaitable[bool]]) -> int:
    """Run ``body`` on a server of its own; returns the exit code."""
    installation = find_postgres(
        os.environ.get("HARNESS_POSTGRES"),
        search_path=os.environ.get("PATH", os.defpath),
    )

    async def on(cluster: Cluster) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            async with TemplateStore(cluster.address()) as store:
                return await body(Server(cluster, store, Path(folder)))

    cluster = Cluster.start(installation)
    try:
        return 0 if asyncio.run(on(cluster)) else 1
    finally:
        cluster.stop()
