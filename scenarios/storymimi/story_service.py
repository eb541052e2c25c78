"""Making a story: its text, its scenes, a picture for each, or nothing at all.

Pictures are drawn and uploaded a few at a time, in threads, because the Storage client
is synchronous.  When one fails the story is marked ``failed`` and the pictures that got
through are removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from scenarios.storymimi.image_storage import ImageStorageError
from scenarios.storymimi.image_urls import path_of
from scenarios.storymimi.stories import Scene, Story

if TYPE_CHECKING:
    from scenarios.storymimi.image_storage import ImageStorage
    from scenarios.storymimi.stories import StoryRepository

__all__ = [
    "RateLimitedError",
    "StoryFailedError",
    "StoryRequest",
    "StoryService",
    "Storyteller",
]

logger = logging.getLogger(__name__)

UPLOADS_AT_ONCE = 5


class Storyteller(Protocol):
    """What writes and draws; an AI service in production."""

    async def scenes(self, title: str, prompt: str) -> Sequence[str]:
        """Return the texts of the scenes."""
        ...

    async def picture(self, text: str) -> bytes:
        """Return a PNG for a scene."""
        ...


class RateLimiter(Protocol):
    """What decides whether a user may ask again."""

    async def allows(self, user_id: str) -> bool:
        """Count a request; false when it is one too many."""
        ...


class RateLimitedError(Exception):
    """The user asked too often."""


class StoryFailedError(Exception):
    """A story could not be made; nothing but its record is left."""

    def __init__(self, story_id: str, detail: str) -> None:
        super().__init__(f"story {story_id} failed: {detail}")
        self.story_id = story_id


@dataclass(frozen=True, slots=True)
class StoryRequest:
    """What a user asks for."""

    user_id: str
    title: str
    prompt: str


class StoryService:
    """Stories of the user that ``stories`` and ``images`` speak for."""

    def __init__(
        self,
        stories: StoryRepository,
        images: ImageStorage,
        teller: Storyteller,
        limiter: RateLimiter,
        supabase_url: str,
    ) -> None:
        self._stories = stories
        self._images = images
        self._teller = teller
        self._limiter = limiter
        self._supabase_url = supabase_url

    async def create_new_story(self, request: StoryRequest) -> dict[str, Any]:
        """Make a story and return it with its scenes.

        Raises :class:`RateLimitedError` or :class:`StoryFailedError`.
        """
        if not await self._limiter.allows(request.user_id):
            raise RateLimitedError(request.user_id)
        story = await self._stories.create(
            request.user_id, request.title, request.prompt
        )
        scenes: list[Scene] = []
        try:
            await self._illustrate(story, scenes)
            await self._stories.add_scenes(story.id, scenes)
        except Exception as exc:
            # Whatever it was, nothing of the story may stay but its record.
            await self._undo(story, scenes)
            raise StoryFailedError(story.id, str(exc)) from exc
        ready = await self._stories.set_status(story.id, "ready")
        return {
            "story_id": ready.id,
            "title": ready.title,
            "scenes": [asdict(scene) for scene in scenes],
            "created_at": ready.created_at,
            "updated_at": ready.updated_at,
            "user_id": ready.user_id,
        }

    async def delete_story(self, user_id: str, story_id: str) -> bool:
        """Delete a story and its pictures; false when there is no such story."""
        if await self._stories.find(story_id) is None:
            return False
        # Pictures first: a story whose deletion failed halfway can be deleted again.
        paths = await asyncio.to_thread(self._images.images_of, user_id, story_id)
        await asyncio.to_thread(self._images.remove, paths)
        return await self._stories.delete(story_id)

    async def _illustrate(self, story: Story, scenes: list[Scene]) -> None:
        """Add the scenes whose pictures are stored; raise the first failure after."""
        slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def one(idx: int, text: str) -> None:
            async with slots:
                picture = await self._teller.picture(text)
                url = await asyncio.to_thread(
                    self._images.upload_image, story.user_id, story.id, idx, picture
                )
            scenes.append(Scene(idx, text, url))

        texts = await self._teller.scenes(story.title, story.prompt)
        # A thread cannot be cancelled, so all uploads are waited for before deciding.
        outcomes = await asyncio.gather(
            *(one(idx, text) for idx, text in enumerate(texts)), return_exceptions=True
        )
        scenes.sort(key=lambda scene: scene.idx)
        for failure in outcomes:
            if failure is not None:
                raise failure

    async def _undo(self, story: Story, scenes: Sequence[Scene]) -> None:
        """Remove the pictures that got through and mark the story."""
        paths = [path_of(self._supabase_url, scene.image_url) for scene in scenes]
        try:
            await asyncio.to_thread(self._images.remove, paths)
        except ImageStorageError:
            # Still in the story's folder, so deleting the story finds them.
            logger.exception("pictures are left behind", extra={"story": story.id})
        await self._stories.set_status(story.id, "failed")
