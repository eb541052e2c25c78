"""Fixtures of the WedSync suites: the guests and the running server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiohttp.test_utils import TestServer

from harness.clock import ManualClock
from harness.servers.project import ProjectSettings
from scenarios.browsing import browser
from scenarios.fixtures import AsPersona, sql
from scenarios.schemas import schema_folders
from scenarios.wedsync import SCENARIO
from scenarios.wedsync.guests import Guest, Guests, guests
from scenarios.wedsync.server import Running, running_server
from scenarios.wedsync.settings import Settings
from scenarios.wedsync.subscription_manager import RealtimeSubscriptionManager

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["harness_schema", "harness_settings", "sql"]


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Run on the WedSync schema, or on its draft, with its people."""
    return (*schema_folders(SCENARIO), Path(__file__).with_name("people.sql"))


@pytest.fixture(scope="session")
def harness_settings() -> ProjectSettings:
    """Run with the realtime limits of a supplier in season."""
    return SCENARIO.settings


@pytest.fixture
def people(project: Project) -> Guests:
    """Return everybody."""
    return guests(project)


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of the application, which tests move."""
    return ManualClock()


@pytest.fixture
def settings(project: Project) -> Settings:
    """Return the settings of the application."""
    return Settings(project.url, project.anon_key, project.service_role_key)


@pytest.fixture
async def running(settings: Settings, clock: ManualClock) -> AsyncIterator[Running]:
    """Yield the running application."""
    async with running_server(settings, clock) as started:
        yield started


@pytest.fixture
async def site(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application's HTTP interface."""
    server = TestServer(running.app)
    await server.start_server()
    async with browser(base_url=str(server.make_url("/")), timeout=30) as client:
        yield client
    await server.close()


@pytest.fixture
def manager_of(
    running: Running,
) -> Callable[[Guest], Awaitable[RealtimeSubscriptionManager]]:
    """Return a function that gives a guest's live subscriptions."""

    async def of(guest: Guest) -> RealtimeSubscriptionManager:
        return await running.sessions.of(guest.tenant, guest.token)

    return of


@pytest.fixture
async def write(
    people: Guests, as_persona: AsPersona, project: Project
) -> Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]:
    """Return a function that writes a row as the service and returns it."""
    service = await as_persona(project.service)

    async def insert(table: str, row: dict[str, Any]) -> dict[str, Any]:
        answer: Any = await service.table(table).insert(row).execute()
        written: dict[str, Any] = answer.data[0]
        return written

    return insert
