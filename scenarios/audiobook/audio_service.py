"""The audio of one narrator: saving, listening, deleting, and what it takes.

Audio goes to the store that the settings name.  When Supabase cannot be reached, and
only then, it falls back to local disk, marked ``pending_migration``, and
:meth:`AudioService.resync` takes it over later.  A refusal stays a refusal.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scenarios.audiobook.audio_path import BadAudioPathError, file_name_for
from scenarios.audiobook.audio_store import (
    AudioRefusedError,
    AudioUnavailableError,
    Reason,
)
from scenarios.audiobook.records import AudioRecord, AudioRecords, Place, Usage

if TYPE_CHECKING:
    from scenarios.audiobook.audio_store import AudioStore
    from scenarios.audiobook.settings import Backend

__all__ = ["AudioService", "Recording", "SavedOrRefused"]

logger = logging.getLogger(__name__)

URL_LIFETIME_S = 300
Transcoder = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio that a narrator hands in for a section."""

    section_id: str
    title: str
    content: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class SavedOrRefused:
    """What became of one recording of a batch: one of the two is set."""

    saved: AudioRecord | None = None
    refused: AudioRefusedError | None = None


class AudioService:
    """Audio of ``user_id``.

    ``remote`` speaks for the user, so that the bucket's policies hold; ``None`` means
    that the application runs on local disk.  ``transcode`` makes audio smaller before
    it is stored; what is stored is what counts.
    """

    def __init__(
        self,
        user_id: str,
        records: AudioRecords,
        local: AudioStore,
        remote: AudioStore | None = None,
        *,
        transcode: Transcoder | None = None,
    ) -> None:
        self._user_id = user_id
        self._records = records
        self._local = local
        self._remote = remote
        self._transcode = transcode

    async def save(self, recording: Recording) -> AudioRecord:
        """Store a recording and point its section at it.

        Raises :class:`AudioRefusedError`; a recording with the same title is replaced.
        """
        place = await self._own(recording.section_id)
        content = recording.content
        if self._transcode is not None:
            content = await asyncio.to_thread(self._transcode, content)
        path = self._path(place, recording)
        await self._check_quota(place, path, len(content))
        backend = await self._store(path, content, recording.mime_type)
        before = await self._records.audio(place.section_id)
        record = AudioRecord(
            section_id=place.section_id,
            storage_backend=backend,
            path=path,
            size_bytes=len(content),
            mime_type=recording.mime_type,
            sha256=hashlib.sha256(content).hexdigest(),
            pending_migration=self._remote is not None and backend == "local",
        )
        await self._records.save(record)
        await self._drop_replaced(before, record)
        return record

    async def save_all(self, recordings: Sequence[Recording]) -> list[SavedOrRefused]:
        """Store a batch at once; each recording succeeds or is refused by itself."""

        async def one(recording: Recording) -> SavedOrRefused:
            try:
                return SavedOrRefused(saved=await self.save(recording))
            except AudioRefusedError as refused:
                return SavedOrRefused(refused=refused)

        return await asyncio.gather(*(one(recording) for recording in recordings))

    async def audio(self, section_id: str) -> AudioRecord:
        """Return where the audio of a section is; raises when there is none."""
        place = await self._own(section_id)
        record = await self._records.audio(place.section_id)
        if record is None:
            raise AudioRefusedError(Reason.NOT_FOUND, section_id)
        return record

    async def listen(self, section_id: str) -> bytes:
        """Return the bytes of a section's audio, wherever they are."""
        record = await self.audio(section_id)
        return await self._holder(record.storage_backend).download(record.path)

    async def url(self, section_id: str, *, lifetime_s: int = URL_LIFETIME_S) -> str:
        """Return a URL of a section's audio: signed, or a path of the application."""
        record = await self.audio(section_id)
        store = self._holder(record.storage_backend)
        return await store.url(record.path, lifetime_s=lifetime_s)

    async def delete(self, section_id: str) -> bool:
        """Delete a section's audio; false when there is none."""
        place = await self._own(section_id)
        record = await self._records.audio(place.section_id)
        if record is None:
            return False
        # The record goes first: better a file nobody points at than a dead pointer.
        await self._records.remove(section_id)
        await self._holder(record.storage_backend).delete(record.path)
        return True

    async def usage(self) -> Usage:
        """Return what the user stores in both places, and may store."""
        counted = await self._records.usage(self._user_id)
        local_bytes = await self._local.usage_bytes(self._user_id)
        return replace(counted, used_bytes=counted.used_bytes + local_bytes)

    async def resync(self) -> int:
        """Take what fell back to local disk over to Supabase; return how much.

        What Supabase refuses stays where it is, and is logged.
        """
        moved = 0
        async for record in self._records.local(pending_only=True):
            if self._remote is None or not record.path.startswith(f"{self._user_id}/"):
                continue
            try:
                moved += await self._take_over(self._remote, record)
            except AudioRefusedError as refused:
                self._log_failure(record.path, refused.reason)
        return moved

    async def _take_over(self, remote: AudioStore, record: AudioRecord) -> bool:
        content = await self._local.download(record.path)
        await remote.upload(record.path, content, record.mime_type, replace=True)
        moved = replace(record, storage_backend="supabase", pending_migration=False)
        if not await self._records.point_over(record, moved):
            return False
        await self._local.delete(record.path)
        return True

    async def _own(self, section_id: str) -> Place:
        place = await self._records.place(section_id, user_id=self._user_id)
        if place is None:
            raise AudioRefusedError(Reason.NOT_FOUND, section_id)
        return place

    def _path(self, place: Place, recording: Recording) -> str:
        try:
            return place.file(file_name_for(recording.title, recording.mime_type))
        except BadAudioPathError as exc:
            raise AudioRefusedError(
                Reason.WRONG_TYPE, recording.title, str(exc)
            ) from exc

    async def _check_quota(self, place: Place, path: str, size: int) -> None:
        """Refuse early and clearly; the database decides again, under a lock."""
        usage = await self.usage()
        before = await self._records.audio(place.section_id)
        replaced = before.size_bytes if before and before.path == path else 0
        if size > replaced and usage.used_bytes + size - replaced > usage.limit_bytes:
            self._log_failure(path, Reason.QUOTA)
            raise AudioRefusedError(Reason.QUOTA, path, f"{usage.left_bytes} left")

    async def _store(self, path: str, content: bytes, mime_type: str) -> Backend:
        if self._remote is not None:
            try:
                await self._remote.upload(path, content, mime_type, replace=True)
            except AudioUnavailableError as exc:
                logger.warning(
                    "audio falls back to local disk",
                    extra={"path": path, "cause": str(exc)},
                )
            except AudioRefusedError as refused:
                self._log_failure(path, refused.reason)
                raise
            else:
                return "supabase"
        await self._local.upload(path, content, mime_type, replace=True)
        return "local"

    async def _drop_replaced(
        self, before: AudioRecord | None, now: AudioRecord
    ) -> None:
        """Delete the file that a section pointed at before, if it is another one."""
        if before is None:
            return
        moved = (before.storage_backend, before.path) != (now.storage_backend, now.path)
        # What Supabase cannot be asked to delete now is replaced by the next resync.
        if moved and not now.pending_migration:
            await self._holder(before.storage_backend).delete(before.path)

    def _holder(self, backend: Backend) -> AudioStore:
        if backend == "local":
            return self._local
        if self._remote is None:
            raise AudioUnavailableError(
                "this audio is in Supabase, which is not set up"
            )
        return self._remote

    def _log_failure(self, path: str, reason: Reason) -> None:
        logger.warning("audio upload failed", extra={"path": path, "reason": reason})
