"""Fixtures of the KeepInTouch suites: both storages, empty."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scenarios.fixtures import sql
from scenarios.flaky_gateway import FlakyGateway
from scenarios.keepintouch import SCENARIO
from scenarios.keepintouch.local_storage_service import LocalStorageService
from scenarios.keepintouch.storage_service import StorageService
from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService
from scenarios.schemas import schema_folders

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["harness_schema", "sql"]

NewUser = Callable[[StorageService], Awaitable[str]]


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Run on the KeepInTouch schema, or on its draft."""
    return schema_folders(SCENARIO)


@pytest.fixture
async def local() -> AsyncIterator[LocalStorageService]:
    """Yield a local storage without a backup."""
    storage = LocalStorageService()
    yield storage
    await storage.close()


@pytest.fixture
async def supabase(project: Project) -> AsyncIterator[SupabaseStorageService]:
    """Yield a storage in the project."""
    storage = SupabaseStorageService(project.url, project.service_role_key)
    yield storage
    await storage.close()


@pytest.fixture
def gateway(project: Project) -> Iterator[FlakyGateway]:
    """Yield a gateway in front of the project, which fails on demand."""
    with FlakyGateway(project.url) as running:
        yield running


@pytest.fixture
async def behind_gateway(
    gateway: FlakyGateway, project: Project
) -> AsyncIterator[SupabaseStorageService]:
    """Yield a storage that reaches the project through the gateway."""
    storage = SupabaseStorageService(gateway.url, project.service_role_key)
    yield storage
    await storage.close()


@pytest.fixture(params=["local", "supabase"])
def storage(request: pytest.FixtureRequest) -> StorageService:
    """Return each of the two storages in turn."""
    chosen: Any = request.getfixturevalue(request.param)
    assert isinstance(chosen, StorageService)
    return chosen


@pytest.fixture
def new_user() -> NewUser:
    """Return a function that creates a user and returns the id."""

    async def create(storage: StorageService) -> str:
        email = f"{uuid.uuid4().hex[:12]}@example.test"
        user = await storage.create_user({"email": email, "name": "Kim"})
        return str(user["id"])

    return create
