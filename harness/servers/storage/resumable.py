"""Unfinished resumable uploads on disk: what was announced, and the bytes so far.

An upload is two files named by its version: the bytes, whose length *is* the offset (so
a crash cannot make the two disagree), and a note of what was announced.  Only one
request at a time holds an upload; a second one asks the first to stop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from harness.protocols.tus import TusError, UploadId, not_found
from harness.servers.storage import errors, names
from harness.servers.storage.backend import Staged
from harness.servers.storage.staging import FileSink

__all__ = ["Announced", "ResumableUploads", "Upload"]

HASH_CHUNK_BYTES: Final = 1024 * 1024
SIZE_EXCEEDED: Final = "upload's size exceeded"


@dataclass(frozen=True, slots=True)
class Announced:
    """What the creating request said; times in Unix seconds."""

    bucket: str
    key: str
    version: str
    size: int | None
    raw_metadata: str
    created_at: float
    owner_id: str | None


class Upload:
    """One unfinished upload in the hands of one request."""

    def __init__(self, folder: Path, announced: Announced, *, durable: bool) -> None:
        self.announced = announced
        self._folder = folder
        self._durable = durable
        self._data = folder / announced.version
        self._digest: hashlib._Hash | None = None
        self.offset = 0
        self.interrupt: Callable[[], None] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every announced byte is here."""
        return self.offset == self.announced.size

    def save(self) -> None:
        """Write the note; the first time, make room for the bytes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._folder / f"{self.announced.version}.json"
        partial = note.with_suffix(f".{uuid4().hex}")
        with partial.open("wb") as file:
            file.write(orjson.dumps(asdict(self.announced)))
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(note)
        self._data.touch()

    def declare_size(self, size: int) -> None:
        """Note a length that was deferred."""
        self.announced = replace(self.announced, size=size)
        self.save()

    def load_offset(self) -> None:
        """Read the offset from the bytes.

        A complete upload that is still here was never given its row: its last byte is
        dropped, so that the client sends it again and the upload is finished then.
        """
        if not self._data.exists():
            raise not_found()
        self.offset = self._data.stat().st_size
        if self.announced.size and self.offset >= self.announced.size:
            self.offset = self.announced.size - 1
            # A crash may have left a second link: never change shared bytes.
            own = self._data.with_suffix(f".{uuid4().hex}")
            shutil.copyfile(self._data, own)
            os.truncate(own, self.offset)
            own.replace(self._data)
            self._digest = None

    async def append(self, chunks: AsyncIterator[bytes], limit: int) -> None:
        """Append a body until it ends, the client goes, or another request waits.

        What arrived is kept whatever ends it; more than ``limit`` bytes in all is 413.
        """
        if self._digest is None:
            self._digest = await asyncio.to_thread(_hash_file, self._data)
        began = self.offset
        async with FileSink.opened(
            self._data, self._digest, sync=self._durable
        ) as sink:
            async for chunk in chunks:
                if began + sink.size + len(chunk) > limit:
                    raise TusError(413, SIZE_EXCEEDED)
                await sink.add(chunk)
                self.offset = began + sink.size

    async def staged(self, mime_type: str, cache_control: str) -> Staged:
        """Return the complete bytes as a staged body, under a name of its own."""
        if self._digest is None:
            self._digest = await asyncio.to_thread(_hash_file, self._data)
        link = self._folder / f"{self.announced.version}.{uuid4().hex}"
        os.link(self._data, link)
        return Staged(
            self.offset,
            self._digest.hexdigest(),
            path=link,
            mime_type=mime_type,
            cache_control=cache_control,
        )

    def remove(self) -> None:
        """Forget the upload and its bytes."""
        for path in self._folder.glob(f"{self.announced.version}*"):
            path.unlink(missing_ok=True)


class ResumableUploads:
    """All unfinished uploads of a project."""

    def __init__(self, folder: Path, *, durable: bool, lock_wait_s: float) -> None:
        self._folder = folder
        self._durable = durable
        self._lock_wait_s = lock_wait_s
        self._held: dict[str, _Held] = {}
        self._known: dict[str, Upload] = {}

    def create(self, announced: Announced) -> Upload:
        """Note a new upload without bytes."""
        upload = Upload(self._folder, announced, durable=self._durable)
        upload.save()
        self._known[announced.version] = upload
        return upload

    def find(self, upload_id: UploadId) -> Upload:
        """Return an unfinished upload; 404 when there is none."""
        if not names.is_uuid(upload_id.version):
            raise not_found()
        upload = self._known.get(upload_id.version)
        if upload is None:
            note = self._folder / f"{upload_id.version}.json"
            try:
                announced = Announced(**orjson.loads(note.read_bytes()))
            except FileNotFoundError as exc:
                raise not_found() from exc
            upload = Upload(self._folder, announced, durable=self._durable)
            upload.load_offset()
            self._known[announced.version] = upload
        announced = upload.announced
        if (announced.bucket, announced.key) != (upload_id.bucket, upload_id.key):
            raise not_found()
        return upload

    def versions(self) -> list[str]:
        """Return the versions of all uploads on disk."""
        return [path.stem for path in self._folder.glob("*.json")]

    def remove_versions(self, versions: Iterable[str]) -> None:
        """Remove uploads that have become objects."""
        for version in versions:
            for path in self._folder.glob(f"{version}*"):
                path.unlink(missing_ok=True)

    def forget(self, upload: Upload) -> None:
        """Remove an upload that is finished, given up or expired."""
        self._known.pop(upload.announced.version, None)
        upload.remove()

    @asynccontextmanager
    async def hold(self, version: str) -> AsyncIterator[None]:
        """Be the only request of an upload; ask whoever holds it to stop."""
        held = self._held.setdefault(version, _Held(asyncio.Lock()))
        held.wanted += 1
        try:
            upload = self._known.get(version)
            if held.lock.locked() and upload and upload.interrupt:
                upload.interrupt()
            try:
                async with asyncio.timeout(self._lock_wait_s):
                    await held.lock.acquire()
            except TimeoutError as exc:
                raise errors.lock_timeout() from exc
            try:
                yield
            finally:
                held.lock.release()
        finally:
            held.wanted -= 1
            if not held.wanted:
                del self._held[version]

    def is_wanted(self, version: str) -> bool:
        """Tell whether another request waits for the one that holds an upload."""
        held = self._held.get(version)
        return held is not None and held.wanted > 1

    def reload(self, upload: Upload) -> None:
        """Believe the disk from now on, after something went wrong."""
        self._known.pop(upload.announced.version, None)

    def remove_expired(self, before: float) -> None:
        """Remove uploads whose last byte came before ``before`` (Unix seconds)."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Held:
    lock: asyncio.Lock
    wanted: int = 0


def _hash_file(path: Path) -> hashlib._Hash:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(HASH_CHUNK_BYTES):
            digest.update(data)
    return digest
