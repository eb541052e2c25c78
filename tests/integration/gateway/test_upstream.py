"""A gateway whose storage and realtime are other processes, as in containers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from harness.config import Config
from harness.db.address import DatabaseAddress
from harness.stack.base import AttachedStack
from harness.stack.embedded import EmbeddedStack
from harness.stack.project import Project

TIMEOUT_S = 20.0
BODY = bytes(range(256)) * 8192  # 2 MiB


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def project(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Project]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    config = Config(
        postgres=os.environ.get("HARNESS_POSTGRES"), state_dir=folder / "state"
    )
    async with EmbeddedStack(config) as behind:
        spec = folder / "spec.json"
        spec.write_text(json.dumps(gateway_spec(behind, folder)))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "harness.servers", "--spec", str(spec),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            port = json.loads(await process.stdout.readline())["port"]
            front = AttachedStack(
                dataclasses.replace(
                    behind.descriptor, api_url=f"http://127.0.0.1:{port}"
                )
            )
            async with front:
                made = await front.create_project()
                yield made
                await made.drop()
        finally:
            process.terminate()
            await process.wait()


def gateway_spec(behind: EmbeddedStack, folder: Path) -> dict[str, object]:
    postgres: DatabaseAddress = behind.descriptor.postgres
    url = behind.descriptor.api_url
    return {
        "host": "127.0.0.1",
        "port": 0,
        "control_secret": behind.descriptor.control_secret,
        "objects_root": str(folder / "objects"),
        "postgres": {"host": postgres.host, "port": postgres.port, "password": ""},
        "durability": "fast",
        "projects": [],
        "access_log": None,
        "upstreams": {"storage": url, "realtime": url},
    }


async def test_objects_pass_through_unchanged(project: Project) -> None:
    client = await project.client(project.service)
    await client.storage.create_bucket("files")
    files = client.storage.from_("files")
    await files.upload("a/b c.bin", BODY, {"content-type": "application/octet-stream"})
    assert await files.download("a/b c.bin") == BODY


async def test_refusals_pass_through_with_status_and_body(project: Project) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{project.url}/storage/v1/bucket")
    assert answer.status_code == 400
    assert "authorization" in answer.json()["message"]


async def test_sockets_are_joined_in_both_directions(project: Project) -> None:
    ana = await project.client(await project.create_user())
    ben = await project.client(await project.create_user())
    heard = asyncio.get_running_loop().create_future()
    listening = ben.realtime.channel("room")
    listening.on_broadcast("greeting", heard.set_result)
    joined = asyncio.Event()
    await listening.subscribe(lambda state, _: joined.set())
    async with asyncio.timeout(TIMEOUT_S):
        await joined.wait()
        speaking = ana.realtime.channel("room")
        ready = asyncio.Event()
        await speaking.subscribe(lambda state, _: ready.set())
        await ready.wait()
        await speaking.send_broadcast("greeting", {"from": "ana"})
        assert (await heard)["payload"] == {"from": "ana"}


async def test_services_of_its_own_are_not_passed_on(project: Project) -> None:
    async with httpx.AsyncClient(headers={"apikey": project.anon_key}) as http:
        assert (await http.get(f"{project.url}/auth/v1/health")).status_code == 200
