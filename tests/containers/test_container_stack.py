"""The own stack as containers: it works, and it goes whatever its owner's end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio
from docker import DockerClient
from minio import Minio

from harness.config import load_config
from harness.resources import sql_root
from harness.stack.containers import ContainerStack
from harness.stack.images import (
    IMAGE_LABEL,
    KEPT_IMAGES,
    connect_docker,
    remove_older_images,
)
from harness.stack.reaper import OWNER_LABEL, STACK_LABEL, reap_abandoned

pytestmark = [pytest.mark.containers, pytest.mark.slow]

DEADLINE_S = 60.0
OWNER = """
import asyncio, os, sys
from pathlib import Path
from harness.config import load_config
from harness.stack.containers import ContainerStack

async def main():
    async with ContainerStack(load_config(Path.cwd(), os.environ)) as stack:
        print(stack.name, stack._reaper.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def docker() -> DockerClient:
    return connect_docker()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def containers() -> AsyncIterator[ContainerStack]:
    async with ContainerStack(load_config(Path.cwd(), os.environ)) as stack:
        yield stack


def carrying(docker: DockerClient, stack: str) -> int:
    label = {"label": f"{STACK_LABEL}={stack}"}
    found = docker.containers.list(all=True, filters=label, ignore_removed=True)
    return len(found) + len(docker.networks.list(filters=label))


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


async def test_an_uploaded_object_lies_in_the_s3_container(
    containers: ContainerStack,
) -> None:
    project = await containers.create_project([sql_root() / "climber"])
    ana = await project.create_user()
    client = await project.client(ana)
    files = client.storage.from_("user-avatars")
    await files.upload(f"{ana.id}/face.png", b"picture", {"content-type": "image/png"})
    assert await files.download(f"{ana.id}/face.png") == b"picture"

    keys = project.keys.s3
    store = Minio(
        f"127.0.0.1:{containers.port_of('s3')}",
        access_key=keys.access_key_id,
        secret_key=keys.secret_access_key,
        region=keys.region,
        secure=False,
    )
    assert store.bucket_exists("stub")
    names = [o.object_name for o in store.list_objects("stub", recursive=True)]
    assert [n for n in names if n and f"{ana.id}/face.png" in n]
    await project.close()


@pytest.mark.parametrize("killed", ["owner", "owner and reaper"])
def test_killed_owner_leaves_no_container(docker: DockerClient, killed: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    stack, reaper = owner.stdout.readline().split()
    assert carrying(docker, stack) == 6
    if killed == "owner and reaper":
        os.kill(int(reaper), signal.SIGKILL)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    if killed == "owner and reaper":
        assert carrying(docker, stack) == 6
        assert stack in reap_abandoned(docker)
    eventually(lambda: carrying(docker, stack) == 0, "containers outlived their owner")


def test_living_stack_is_not_reaped(docker: DockerClient) -> None:
    labels = {STACK_LABEL: "living", OWNER_LABEL: str(os.getpid())}
    network = docker.networks.create("harness-living", labels=labels)
    try:
        assert "living" not in reap_abandoned(docker)
        network.reload()
        assert network.attrs["Labels"] == labels
    finally:
        network.remove()


def build_empty_image(docker: DockerClient, name: str, tag: str) -> str:
    text = f'FROM scratch\nLABEL {IMAGE_LABEL}={name} number={tag}\nCMD ["none"]\n'
    docker.images.build(fileobj=BytesIO(text.encode()), tag=f"{name}:{tag}", rm=True)
    return f"{name}:{tag}"


def test_older_images_go_except_the_one_in_use(docker: DockerClient) -> None:
    name = "harness-test-images"
    tags = [build_empty_image(docker, name, str(n)) for n in range(KEPT_IMAGES + 2)]
    container = docker.containers.create(tags[0])
    try:
        remove_older_images(docker, name, built=tags[-1])
        left = {tag for image in docker.images.list(name) for tag in image.tags}
        assert left == {tags[0], *tags[-KEPT_IMAGES:]}
    finally:
        container.remove()
        for image in docker.images.list(name):
            docker.images.remove(image.id)
