"""Fixtures of the climber suites: the schema, the people, their libraries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scenarios.climber import SCENARIO
from scenarios.climber.cast import PEOPLE_SQL, Cast, LibraryOf, assemble
from scenarios.climber.media import MediaLibrary
from scenarios.fixtures import sql
from scenarios.schemas import schema_folders

if TYPE_CHECKING:
    from storage3 import AsyncStorageClient

    from harness.stack.project import Persona, Project

__all__ = ["harness_schema", "library_of", "people", "sql"]


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Run on the climber schema, or on its draft, with its people."""
    return (*schema_folders(SCENARIO), PEOPLE_SQL)


@pytest.fixture
def people(project: Project) -> Cast:
    """Return the cast of the project."""
    return assemble(project)


@pytest.fixture
def library_of(
    storage: Callable[[Persona], Awaitable[AsyncStorageClient]],
) -> LibraryOf:
    """Return a function that opens a person's library."""

    async def of(persona: Persona) -> MediaLibrary:
        return MediaLibrary(await storage(persona), persona.id)

    return of
