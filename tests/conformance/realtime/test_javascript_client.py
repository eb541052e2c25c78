"""The official JavaScript clients work unchanged, in their current default protocol."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.realtime.server import RealtimeServer

pytestmark = [pytest.mark.conformance, pytest.mark.slow]

SCRIPTS = Path(__file__).parent / "js"
ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
INSTALL_TIMEOUT_S = 180
RUN_TIMEOUT_S = 60


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the clients from npm beside a copy of the scripts."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    folder = tmp_path_factory.mktemp("js")
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
    installed = subprocess.run(
        ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm could not install the clients: {installed.stderr[-300:]}")
    return folder


class Script:
    """A running script: its lines, and how it ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ready(self) -> None:
        """Wait until the script says that it listens."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line.strip() == b"ready", await self._complaint(line)

    async def succeeds(self) -> None:
        """Wait for the end, which must be a good one."""
        out, err = await self._process.communicate()
        assert self._process.returncode == 0, err.decode()
        assert out.strip().endswith(b"ok")

    async def _complaint(self, line: bytes) -> str:
        out, err = await self._process.communicate()
        return (line + out + err).decode()


@asynccontextmanager
async def running(
    folder: Path, name: str, server: RealtimeServer
) -> AsyncIterator[Script]:
    environment = {
        **os.environ,
        "REALTIME_URL": server.url,
        "PROJECT_URL": f"http://127.0.0.1:{server.port}",
        "ANON_TOKEN": server.token("anon"),
        "ALICE_TOKEN": server.token(sub=ALICE),
        "BOB_TOKEN": server.token(sub=BOB),
    }
    process = await asyncio.create_subprocess_exec(
        "node",
        f"{name}.mjs",
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("name", ["broadcast", "presence"])
async def test_clients_speak_to_each_other(
    server: RealtimeServer, javascript: Path, name: str
) -> None:
    async with running(javascript, name, server) as script:
        await script.succeeds()


async def test_changes_arrive_as_documented(
    server: RealtimeServer, javascript: Path
) -> None:
    await server.sql(
        "create table public.todos"
        " (id int primary key, owner uuid, title text, at timestamptz)",
        "alter table public.todos enable row level security",
        "create policy own on public.todos using (owner = auth.uid())",
        "grant select on public.todos to anon, authenticated",
        "alter publication supabase_realtime add table public.todos",
    )
    async with running(javascript, "changes", server) as script:
        for statement in (
            f"insert into todos values (1, '{BOB}', 'his', now()),"
            f" (2, '{ALICE}', 'mine', '2026-01-02 03:04:05+00')",
            "update todos set title = 'changed' where id = 2",
            "delete from todos where id = 2",
        ):
            await script.ready()
            await server.sql(statement)
        await script.succeeds()


async def test_private_channels_and_stored_messages(
    server: RealtimeServer, javascript: Path
) -> None:
    await server.sql(
        "create policy hear on realtime.messages for select to authenticated"
        " using (true)",
        "create policy speak on realtime.messages for insert to authenticated"
        " with check (true)",
    )
    async with running(javascript, "private", server) as script:
        await script.ready()
        await server.sql(
            "select realtime.send('{\"from\": \"database\"}', 'news', 'club')"
        )
        await script.succeeds()
