"""Fixtures of the StoryMimi suites: two authors, their pictures and stories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.stack.project import Persona
from scenarios.fixtures import AsPersona, sql
from scenarios.flaky_gateway import FlakyGateway
from scenarios.schemas import schema_folders
from scenarios.storymimi import SCENARIO
from scenarios.storymimi.clients import storage_client
from scenarios.storymimi.image_storage import ImageStorage
from scenarios.storymimi.rate_limit import StoryRateLimiter
from scenarios.storymimi.stories import StoryRepository
from scenarios.storymimi.story_service import StoryService, Storyteller
from scenarios.storymimi.telling import PlainStoryteller

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["harness_schema", "sql"]


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Run on the StoryMimi schema, or on its draft, with its authors."""
    return (*schema_folders(SCENARIO), Path(__file__).with_name("people.sql"))


def _author(project: Project, number: int, name: str) -> Persona:
    sub = f"c0000000-0000-4000-8000-{number:012d}"
    email = f"{name}@example.test"
    token = project.token(sub, email=email, session_id="")
    return Persona(sub, token, "authenticated", email, {"email": email})


@pytest.fixture
def mia(project: Project) -> Persona:
    """Return an author."""
    return _author(project, 1, "mia")


@pytest.fixture
def leo(project: Project) -> Persona:
    """Return another author."""
    return _author(project, 2, "leo")


@pytest.fixture
def gateway(project: Project) -> Iterator[FlakyGateway]:
    """Yield a gateway in front of the project, which fails on demand."""
    with FlakyGateway(project.url) as running:
        yield running


@pytest.fixture
def images_of(
    project: Project, gateway: FlakyGateway
) -> Iterator[Callable[[Persona], ImageStorage]]:
    """Yield a function that gives a person's pictures, through the gateway."""
    opened = []

    def of(persona: Persona) -> ImageStorage:
        client = storage_client(gateway.url, project.anon_key, persona.token)
        opened.append(client)
        return ImageStorage(client, gateway.url, pause=lambda seconds: None)

    yield of
    for client in opened:
        client.storage.session.close()
        client.auth.close()


@pytest.fixture
def images(images_of: Callable[[Persona], ImageStorage], mia: Persona) -> ImageStorage:
    """Return the pictures of mia."""
    return images_of(mia)


@pytest.fixture
async def stories(mia: Persona, as_persona: AsPersona) -> StoryRepository:
    """Return the stories of mia."""
    return StoryRepository(await as_persona(mia))


@pytest.fixture
async def service_with(
    stories: StoryRepository,
    images: ImageStorage,
    gateway: FlakyGateway,
    project: Project,
    as_persona: AsPersona,
) -> Callable[..., StoryService]:
    """Return a function that gives mia's story service with a storyteller."""
    limiter = StoryRateLimiter(await as_persona(project.service))

    def make(teller: Storyteller | None = None) -> StoryService:
        return StoryService(
            stories, images, teller or PlainStoryteller(), limiter, gateway.url
        )

    return make
