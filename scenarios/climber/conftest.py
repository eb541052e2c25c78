"""Fixtures of the climber suites: the schema, the people, their libraries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from scenarios.climber import SCENARIO
from scenarios.climber.cast import Cast, LibraryOf, assemble
from scenarios.climber.media import MediaLibrary
from scenarios.fixtures import sql
from scenarios.public_url import set_public_url
from scenarios.schemas import schema_folders

if TYPE_CHECKING:
    from storage3 import AsyncStorageClient

    from harness.stack.project import Persona, Project

__all__ = ["harness_schema", "library_of", "people", "sql"]


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Run on the climber schema, or on its draft."""
    return schema_folders(SCENARIO)


@pytest_asyncio.fixture(loop_scope="session")
async def people(project: Project) -> Cast:
    """Return the cast, in a project that knows its own URL."""
    await set_public_url(project)
    return await assemble(project)


@pytest.fixture
def library_of(
    storage: Callable[[Persona], Awaitable[AsyncStorageClient]],
) -> LibraryOf:
    """Return a function that opens a person's library."""

    async def of(persona: Persona) -> MediaLibrary:
        return MediaLibrary(await storage(persona), persona.id)

    return of
