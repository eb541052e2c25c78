"""Moving local audio to Supabase, safe to interrupt at any point.

For each section that points at a local file: upload, download again and compare the
checksum, point the section over, and at the very end (when asked to) delete the local
file.  Until the section points over, the local file is the truth; afterwards the copy
in Supabase is.  A journal beside the files remembers which file became which object, so
that a rerun deletes what an interrupted run left.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios.audiobook.audio_path import BadAudioPathError
from scenarios.audiobook.audio_store import AudioRefusedError, AudioUnavailableError

if TYPE_CHECKING:
    from scenarios.audiobook.audio_store import AudioStore, LocalAudioStore
    from scenarios.audiobook.records import AudioRecord, AudioRecords, Place

__all__ = ["Migration", "MigrationReport", "Outcome", "Result"]

JOURNAL = ".migrated.jsonl"
BATCH = 100
Checkpoint = Callable[[str], None]


class Outcome(StrEnum):
    """What became of one section."""

    PLANNED = "planned"
    MIGRATED = "migrated"
    MISSING = "missing"
    EMPTY = "empty"
    CHANGED = "changed"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    UNVERIFIED = "unverified"
    OVERTAKEN = "overtaken"


FAILURES = frozenset(Outcome) - {Outcome.PLANNED, Outcome.MIGRATED}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the audio of one section, and why."""

    section_id: str
    path: str
    size_bytes: int
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """All results; ``deleted`` names local files that are gone."""

    results: tuple[Result, ...]
    deleted: tuple[str, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """What did not work."""
        return tuple(r for r in self.results if r.outcome in FAILURES)

    def to_json(self) -> str:
        """Return the report for a file."""
        return json.dumps(asdict(self), indent=2)


class Migration:
    """One run over all local audio.

    ``remote`` speaks with the service key.  ``checkpoint`` is called with the name of
    each step before it happens.
    """

    def __init__(
        self,
        records: AudioRecords,
        local: LocalAudioStore,
        remote: AudioStore,
        *,
        checkpoint: Checkpoint = lambda step: None,
    ) -> None:
        self._records = records
        self._local = local
        self._remote = remote
        self._checkpoint = checkpoint

    async def plan(self) -> MigrationReport:
        """Tell what a run would do; change nothing."""
        results = []
        async for record, place in self._work():
            problem, _ = await self._read(record, place)
            results.append(problem or _result(record, Outcome.PLANNED))
        return MigrationReport(tuple(results), ())

    async def run(
        self,
        *,
        delete_after: bool = False,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> MigrationReport:
        """Migrate every section; a failure of one does not stop the others."""
        results = []
        async for record, place in self._work():
            result = await self._migrate(record, place)
            results.append(result)
            on_result(result)
        deleted = await self._delete_migrated() if delete_after else ()
        return MigrationReport(tuple(results), deleted)

    async def count(self) -> int:
        """Return how many sections point at local files."""
        return len([record async for record in self._records.local()])

    async def _work(self) -> AsyncIterator[tuple[AudioRecord, Place | None]]:
        """Yield every local record with the place of its section."""
        records = [record async for record in self._records.local()]
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            places = await self._records.places([r.section_id for r in batch])
            for record in batch:
                yield record, places.get(record.section_id)

    async def _migrate(self, record: AudioRecord, place: Place | None) -> Result:
        problem, content = await self._read(record, place)
        if problem is not None or place is None:
            return problem or _result(record, Outcome.OVERTAKEN, "the section is gone")
        target = place.file(Path(record.path).name)
        try:
            self._checkpoint("upload")
            await self._remote.upload(target, content, record.mime_type, replace=True)
            self._checkpoint("verify")
            stored = await self._remote.download(target)
        except (AudioRefusedError, AudioUnavailableError) as exc:
            return _result(record, Outcome.REFUSED, str(exc))
        if _sha256(stored) != record.sha256:
            return _result(record, Outcome.UNVERIFIED, "the stored bytes differ")
        self._checkpoint("journal")
        await asyncio.to_thread(self._remember, record)
        self._checkpoint("commit")
        moved = replace(
            record, storage_backend="supabase", path=target, pending_migration=False
        )
        if not await self._records.point_over(record, moved):
            return _result(record, Outcome.OVERTAKEN, "the section changed meanwhile")
        return _result(record, Outcome.MIGRATED)

    async def _read(
        self, record: AudioRecord, place: Place | None
    ) -> tuple[Result | None, bytes]:
        """Return the local bytes, or why they cannot be migrated."""
        try:
            content = await self._local.download(record.path)
        except AudioRefusedError as exc:
            return _result(record, Outcome.MISSING, str(exc)), b""
        if not content:
            return _result(record, Outcome.EMPTY, "the file has no bytes"), b""
        if _sha256(content) != record.sha256:
            return _result(record, Outcome.CHANGED, "the file is not as recorded"), b""
        if place is not None:
            try:
                place.file(Path(record.path).name)
            except BadAudioPathError as exc:
                return _result(record, Outcome.UNSUPPORTED, str(exc)), b""
        return None, content

    def _remember(self, record: AudioRecord) -> None:
        with self._journal.open("a", encoding="utf-8") as journal:
            line = {"section_id": record.section_id, "path": record.path}
            journal.write(json.dumps(line) + "\n")

    async def _delete_migrated(self) -> tuple[str, ...]:
        """Delete local files whose sections point at a verified copy."""
        still_local = {record.path async for record in self._records.local()}
        deleted = []
        for section_id, path in await asyncio.to_thread(self._remembered):
            record = await self._records.audio(section_id)
            if record is None or record.storage_backend != "supabase":
                continue
            if path in still_local or not await self._local.exists(path):
                continue
            if _sha256(await self._remote.download(record.path)) != record.sha256:
                continue
            self._checkpoint("delete")
            await self._local.delete(path)
            deleted.append(path)
        return tuple(deleted)

    def _remembered(self) -> list[tuple[str, str]]:
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        # A crash may have cut the last line; its section was not pointed over yet.
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        return list(
            dict.fromkeys((entry["section_id"], entry["path"]) for entry in entries)
        )

    @property
    def _journal(self) -> Path:
        return self._local.root / JOURNAL


def _result(record: AudioRecord, outcome: Outcome, detail: str = "") -> Result:
    return Result(record.section_id, record.path, record.size_bytes, outcome, detail)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
