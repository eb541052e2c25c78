"""Stories and scenes in the database, as whoever the client speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from supabase import AsyncClient

__all__ = ["Scene", "Story", "StoryRepository"]


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene of a story."""

    idx: int
    text: str
    image_url: str


@dataclass(frozen=True, slots=True)
class Story:
    """A story's record, times as the database writes them."""

    id: str
    user_id: str
    title: str
    prompt: str
    status: str
    created_at: str
    updated_at: str


class StoryRepository:
    """The tables ``stories`` and ``scenes``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(self, user_id: str, title: str, prompt: str) -> Story:
        """Insert a story that is being made."""
        row = {"user_id": user_id, "title": title, "prompt": prompt}
        answer = await self._client.table("stories").insert(row).execute()
        return _story(answer.data)

    async def add_scenes(self, story_id: str, scenes: Sequence[Scene]) -> None:
        """Insert all scenes of a story, or none."""
        rows = [
            {
                "story_id": story_id,
                "idx": s.idx,
                "text": s.text,
                "image_url": s.image_url,
            }
            for s in scenes
        ]
        await self._client.table("scenes").insert(rows).execute()

    async def set_status(self, story_id: str, status: str) -> Story:
        """Set the status and return the story as it is now."""
        answer = await (
            self._client.table("stories")
            .update({"status": status})
            .eq("id", story_id)
            .execute()
        )
        return _story(answer.data)

    async def find(self, story_id: str) -> Story | None:
        """Return a story of the caller's, if there is such a one."""
        answer = await (
            self._client.table("stories").select("*").eq("id", story_id).execute()
        )
        return _story(answer.data) if answer.data else None

    async def scenes(self, story_id: str) -> list[Scene]:
        """Return the scenes of a story in order."""
        answer = await (
            self._client.table("scenes")
            .select("idx, text, image_url")
            .eq("story_id", story_id)
            .order("idx")
            .execute()
        )
        return [Scene(**row) for row in cast("list[dict[str, Any]]", answer.data)]

    async def delete(self, story_id: str) -> bool:
        """Delete a story with its scenes; false when there is none."""
        answer = (
            await self._client.table("stories").delete().eq("id", story_id).execute()
        )
        return bool(answer.data)


def _story(data: object) -> Story:
    row = cast("list[dict[str, Any]]", data)[0]
    return Story(**{name: row[name] for name in Story.__slots__})
