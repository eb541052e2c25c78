"""What the database knows of sections and their audio.

Speaks with the service key, because users may not write these rows; therefore every
question about a section carries the user whose section it must be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from scenarios.audiobook.audio_path import AudioPath

if TYPE_CHECKING:
    from supabase import AsyncClient

    from scenarios.audiobook.settings import Backend

__all__ = ["AudioRecord", "AudioRecords", "Place", "Usage"]

PAGE = 500
PLACE = "id, chapters!inner(id, projects!inner(id, user_id))"
RECORD = "section_id, storage_backend, path, size_bytes, mime_type, sha256"


@dataclass(frozen=True, slots=True)
class Place:
    """A section and what it belongs to."""

    user_id: str
    project_id: str
    chapter_id: str
    section_id: str

    def file(self, name: str) -> str:
        """Return the path of an audio file of this section."""
        return str(
            AudioPath(
                self.user_id, self.project_id, self.chapter_id, self.section_id, name
            )
        )


@dataclass(frozen=True, slots=True)
class AudioRecord:
    """Where the audio of a section is."""

    section_id: str
    storage_backend: Backend
    path: str
    size_bytes: int
    mime_type: str
    sha256: str
    pending_migration: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user stores, and may store."""

    used_bytes: int
    limit_bytes: int
    plan: str

    @property
    def left_bytes(self) -> int:
        """How much more fits; 0 when over the limit."""
        return max(0, self.limit_bytes - self.used_bytes)


FREE = Usage(0, 524_288_000, "free")


class AudioRecords:
    """The tables ``sections``, ``section_audio`` and ``user_credits``."""

    def __init__(self, service: AsyncClient) -> None:
        self.service = service

    async def place(self, section_id: str, *, user_id: str) -> Place | None:
        """Return where a section is, if it is the user's."""
        places = await self._places(
            lambda q: q.eq("id", section_id).eq("chapters.projects.user_id", user_id)
        )
        return places[0] if places else None

    async def places(self, section_ids: list[str]) -> dict[str, Place]:
        """Return the places of sections, whoever owns them."""
        places = await self._places(lambda q: q.in_("id", section_ids))
        return {place.section_id: place for place in places}

    async def audio(self, section_id: str) -> AudioRecord | None:
        """Return where the audio of a section is, if it has any."""
        answer = await self._audio().eq("section_id", section_id).execute()
        rows = cast("list[dict[str, Any]]", answer.data)
        return AudioRecord(**rows[0]) if rows else None

    async def save(self, record: AudioRecord) -> None:
        """Record where the audio of a section is now."""
        row = {name: getattr(record, name) for name in AudioRecord.__slots__}
        await self.service.table("section_audio").upsert(row).execute()

    async def point_over(self, old: AudioRecord, new: AudioRecord) -> bool:
        """Replace ``old`` by ``new``; false when ``old`` is no longer what is there."""
        row = {name: getattr(new, name) for name in AudioRecord.__slots__}
        answer = await (
            self.service.table("section_audio")
            .update(row)
            .eq("section_id", old.section_id)
            .eq("storage_backend", old.storage_backend)
            .eq("path", old.path)
            .eq("sha256", old.sha256)
            .execute()
        )
        return bool(answer.data)

    async def remove(self, section_id: str) -> None:
        """Forget the audio of a section."""
        await (
            self.service.table("section_audio")
            .delete()
            .eq("section_id", section_id)
            .execute()
        )

    async def local(self, *, pending_only: bool = False) -> AsyncIterator[AudioRecord]:
        """Yield every record of a local file, by section."""
        last = "00000000-0000-0000-0000-000000000000"
        while True:
            query = self._audio().eq("storage_backend", "local").gt("section_id", last)
            if pending_only:
                query = query.eq("pending_migration", True)
            answer = await query.order("section_id").limit(PAGE).execute()
            rows = cast("list[dict[str, Any]]", answer.data)
            for row in rows:
                yield AudioRecord(**row)
            if len(rows) < PAGE:
                return
            last = rows[-1]["section_id"]

    async def usage(self, user_id: str) -> Usage:
        """Return what a user stores and may store."""
        answer = await (
            self.service.table("user_credits")
            .select("storage_used_bytes, storage_limit_bytes, plan")
            .eq("user_id", user_id)
            .execute()
        )
        rows = cast("list[dict[str, Any]]", answer.data)
        if not rows:
            return FREE
        return Usage(
            rows[0]["storage_used_bytes"],
            rows[0]["storage_limit_bytes"],
            rows[0]["plan"],
        )

    def _audio(self) -> Any:
        table = self.service.table("section_audio")
        return table.select(f"{RECORD}, pending_migration")

    async def _places(self, narrow: Any) -> list[Place]:
        query = narrow(self.service.table("sections").select(PLACE))
        rows = cast("list[dict[str, Any]]", (await query.execute()).data)
        return [
            Place(
                user_id=row["chapters"]["projects"]["user_id"],
                project_id=row["chapters"]["projects"]["id"],
                chapter_id=row["chapters"]["id"],
                section_id=row["id"],
            )
            for row in rows
        ]
