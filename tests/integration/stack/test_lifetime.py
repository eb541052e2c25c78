"""Nothing outlives a stack, however its owner ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.config import Config
from harness.db.rundir import run_roots, sweep
from harness.errors import StackError
from harness.stack.embedded import EmbeddedStack
from harness.stack.registry import is_alive

DEADLINE_S = 20.0
OWNER = """
import asyncio, signal, sys
from harness.config import load_config
from harness.stack.embedded import EmbeddedStack
from pathlib import Path
import os

async def main():
    async with EmbeddedStack(load_config(Path.cwd(), os.environ)) as stack:
        print(stack.descriptor.to_json(), flush=True)
        await asyncio.Event().wait()

# A shell that runs the tests in the background lets its children ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    postgres = os.environ.get("HARNESS_POSTGRES")
    return Config(postgres=postgres, state_dir=tmp_path / "state")


@pytest.fixture
def owner() -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """Start a process that owns a stack; give it and the descriptor."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, json.loads(line)
    process.stdout.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def left(folder: object) -> bool:
    return Path(str(folder)).exists()


def alive(descriptor: dict[str, object]) -> list[str]:
    pids = descriptor["pids"]
    assert isinstance(pids, dict)
    return [name for name, pid in pids.items() if is_alive(pid)]


async def test_stack_answers_on_every_service_after_start(config: Config) -> None:
    async with EmbeddedStack(config) as stack:
        project = await stack.create_project()
        async with httpx.AsyncClient(headers={"apikey": project.anon_key}) as http:
            answers = {
                path: (await http.get(project.url + path)).status_code
                for path in (
                    "/auth/v1/health",
                    "/rest/v1/",
                    "/storage/v1/status",
                    "/realtime/v1/api/ping",
                )
            }
    assert answers == dict.fromkeys(answers, 200)


async def test_stack_stopped_leaves_no_process_and_no_folder(config: Config) -> None:
    async with EmbeddedStack(config) as stack:
        descriptor = stack.descriptor
        assert all(is_alive(pid) for pid in descriptor.pids.values())
    assert not any(is_alive(pid) for pid in descriptor.pids.values())
    assert not left(descriptor.log_dir)


async def test_stacks_side_by_side_do_not_share(config: Config) -> None:
    async with EmbeddedStack(config) as one, EmbeddedStack(config) as other:
        assert one.descriptor.api_url != other.descriptor.api_url
        first = await one.create_project(ref="same")
        second = await other.create_project(ref="same")
        await first.create_user("a@example.test")
        connection = await second.connect()
        assert await connection.fetchval("select count(*) from auth.users") == 0
        await connection.close()


def test_owner_killed_takes_everything_with_it(
    owner: tuple[subprocess.Popen[str], dict[str, object]],
) -> None:
    process, descriptor = owner
    assert sorted(alive(descriptor)) == ["keeper", "postgres", "server"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: alive(descriptor) == [], "processes outlived their owner")
    eventually(lambda: not left(descriptor["log_dir"]), "the run folder is left")


def test_keeper_killed_leaves_nothing_after_the_sweep(
    owner: tuple[subprocess.Popen[str], dict[str, object]],
) -> None:
    _, descriptor = owner
    pids = descriptor["pids"]
    assert isinstance(pids, dict)
    os.kill(pids["keeper"], signal.SIGKILL)
    eventually(lambda: alive(descriptor) == [], "processes outlived the keeper")
    folder = Path(str(descriptor["log_dir"]))
    eventually(lambda: folder in sweep(run_roots()) or not folder.exists(), "not swept")
    assert not folder.exists()


def test_owner_interrupted_stops_in_order(
    owner: tuple[subprocess.Popen[str], dict[str, object]],
) -> None:
    process, descriptor = owner
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE_S)
    assert alive(descriptor) == []
    assert not left(descriptor["log_dir"])


async def test_taken_port_is_named(config: Config) -> None:
    async with EmbeddedStack(config) as running:
        port = int(running.descriptor.api_url.rpartition(":")[2])
        taken = EmbeddedStack(config.replace(api_port=port), ports="exact")
        with pytest.raises(StackError, match=f"port {port} is taken"):
            await taken.start()


async def test_server_killed_is_restarted_on_order(config: Config) -> None:
    async with EmbeddedStack(config) as stack:
        first = stack.keeper.pids["server"]
        stack.keeper.signal("server", signal.SIGKILL)
        await stack.server_ended()
        await stack.restart_server()
        assert stack.keeper.pids["server"] != first
        async with httpx.AsyncClient() as http:
            answer = await http.get(stack.descriptor.api_url + "/")
        assert answer.status_code == 200
