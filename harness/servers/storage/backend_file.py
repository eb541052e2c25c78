"""Bytes in a folder of this machine: one file a version, named by the version alone.

A file's name is the version's UUID, so no object key ever reaches the file system: keys
of any length and form are safe.  A file appears by rename and is never changed, so a
copy is a second link to the same bytes.

With ``durability`` ``full`` a file and its folder are synced before :meth:`store` and
:meth:`copy` return.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from harness.servers.storage import errors
from harness.servers.storage.backend import ObjectRef, OpenObject, Staged, StoredBytes
from harness.servers.storage.names import is_uuid
from harness.servers.storage.sendfile import send_file

__all__ = ["FileBackend"]

INLINE_BYTES: Final = 64 * 1024  # read or written on the loop: the page cache is faster
CHUNK_BYTES: Final = 256 * 1024


class FileBackend:
    """Keeps versions below ``root``; ``durable`` syncs everything."""

    refuses_dot_segments = True

    def __init__(self, root: Path, *, durable: bool) -> None:
        # Plain strings: paths are made for every request.
        self._objects = str(root / "objects")
        self._incoming = str(root / "incoming")
        self._durable = durable
        self._made: set[str] = set()

    def path(self, ref: ObjectRef) -> str:
        """Return where ``ref`` lies; a version that is no UUID is no such key."""
        if not is_uuid(ref.version):
            raise errors.no_such_key(ref.name)
        name = ref.version.replace("-", "").lower()
        return f"{self._objects}/{name[:2]}/{name}"

    async def store(self, ref: ObjectRef, staged: Staged) -> StoredBytes:
        """Keep ``staged`` as ``ref``."""
        target = self.path(ref)
        inline = staged.data is not None and staged.size <= INLINE_BYTES
        try:
            if inline and not self._durable:
                self._store(target, staged)
            else:
                await asyncio.to_thread(self._store, target, staged)
        except OSError as exc:
            raise errors.disk_error(exc) from exc
        return StoredBytes(staged.etag, staged.size, datetime.now(UTC))

    async def copy(self, source: ObjectRef, target: ObjectRef) -> StoredBytes:
        """Link the bytes of ``source`` as ``target``."""
        try:
            await asyncio.to_thread(self._link, self.path(source), self.path(target))
            status = os.stat(self.path(target))
        except FileNotFoundError as exc:
            raise errors.no_such_key(source.name) from exc
        except OSError as exc:
            raise errors.disk_error(exc) from exc
        return StoredBytes("", status.st_size, datetime.now(UTC))

    async def open(self, ref: ObjectRef, etag: str) -> OpenObject:
        """Open for reading."""
        try:
            descriptor = os.open(self.path(ref), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as exc:
            raise errors.no_such_key(ref.name) from exc
        except OSError as exc:
            raise errors.disk_error(exc) from exc
        status = os.fstat(descriptor)
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return OpenFile(descriptor, StoredBytes(etag, status.st_size, modified))

    async def remove(self, refs: Iterable[ObjectRef]) -> None:
        """Remove files; on a durable backend the removal itself need not be synced.

        A removed file that comes back after a power cut is still noted in the intents.
        """
        for ref in refs:
            if is_uuid(ref.version):
                _unlink(self.path(ref))

    async def exists(self, ref: ObjectRef) -> bool:
        """Whether there is a file for ``ref``."""
        return await asyncio.to_thread(os.path.exists, self.path(ref))

    async def close(self) -> None:
        """Nothing is kept open."""

    def _store(self, target: str, staged: Staged) -> None:
        folder = os.path.dirname(target)
        self._make(folder)
        if staged.path is None:
            self._make(self._incoming)
            source = f"{self._incoming}/{os.path.basename(target)}"
            try:
                _write_file(source, staged.data or b"", sync=self._durable)
            except OSError:
                _unlink(source)
                raise
        else:
            source = str(staged.path)
            if self._durable:
                _sync(source)
        os.replace(source, target)
        staged.path = None
        if self._durable:
            _sync(folder)

    def _link(self, source: str, target: str) -> None:
        folder = os.path.dirname(target)
        self._make(folder)
        try:
            os.link(source, target)
        except OSError as exc:
            if exc.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                raise
            # A file system without (enough) links gets a copy, by the same rename.
            self._make(self._incoming)
            partial = f"{self._incoming}/{os.path.basename(target)}"
            shutil.copyfile(source, partial)
            if self._durable:
                _sync(partial)
            os.replace(partial, target)
        if self._durable:
            _sync(folder)

    def _make(self, folder: str) -> None:
        if folder in self._made:
            return
        os.makedirs(folder, exist_ok=True)
        if self._durable:
            parent = os.path.dirname(folder)
            _sync(parent)
            _sync(os.path.dirname(parent))
        self._made.add(folder)


@dataclass(slots=True)
class OpenFile:
    """A file opened for reading."""

    descriptor: int
    stored: StoredBytes

    async def read(self) -> bytes:
        """Return the whole file."""
        size = self.stored.size
        if size <= INLINE_BYTES:
            return os.pread(self.descriptor, size, 0)
        return await asyncio.to_thread(_read_all, self.descriptor, size)

    async def send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        start: int,
        end: int,
    ) -> None:
        """Send a part of the file as the body."""
        if await send_file(request, response, self.descriptor, start, end):
            return
        async for chunk in self.chunks(start, end):
            await response.write(chunk)

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a part of the file."""
        while start < end:
            wanted = min(CHUNK_BYTES, end - start)
            chunk = await asyncio.to_thread(os.pread, self.descriptor, wanted, start)
            if not chunk:
                raise ConnectionError("stored file is shorter than it was")
            start += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    start = 0
    while start < size and (part := os.pread(descriptor, size - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _write_file(path: str, data: bytes, *, sync: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
