"""A stack that writes an access log, and a project on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from harness.config import load_config
from harness.stack.base import Stack
from harness.stack.embedded import EmbeddedStack
from harness.stack.project import Project

LogReader = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name the file that the gateway writes one line a request to."""
    return tmp_path_factory.mktemp("gateway") / "access.log"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(access_log: Path) -> AsyncIterator[Stack]:
    """Run a stack of this folder's own, with an access log."""
    config = load_config(Path.cwd(), os.environ)
    async with EmbeddedStack(config, access_log=access_log) as started:
        yield started


@pytest.fixture
async def http(project: Project) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the gateway's root, without any key."""
    async with httpx.AsyncClient(
        base_url=project.stack.descriptor.api_url, timeout=20
    ) as client:
        yield client


@pytest.fixture
def new_log_lines(access_log: Path) -> LogReader:
    """Give a function that returns the log lines since the test began."""
    seen = access_log.stat().st_size if access_log.exists() else 0

    def read() -> list[dict[str, Any]]:
        lines = access_log.read_bytes()[seen:].splitlines()
        return [orjson.loads(line) for line in lines]

    return read
