"""One contract for audio files, kept on local disk or in Supabase Storage.

Both stores refuse with :class:`AudioRefusedError` what must not happen, and raise
:class:`AudioUnavailableError` when nothing could be decided: only then may a caller try
elsewhere.  Paths are ``<user>/<project>/<chapter>/<section>/<file>``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import httpx
from storage3.exceptions import StorageApiError

if TYPE_CHECKING:
    from storage3 import AsyncStorageClient

__all__ = [
    "AudioRefusedError",
    "AudioStore",
    "AudioUnavailableError",
    "LocalAudioStore",
    "Reason",
    "SupabaseAudioStore",
]

BUCKET = "audiofiles"
CACHE_SECONDS = 3600
PAGE = 100


class Reason(StrEnum):
    """Why a store refused."""

    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    EXISTS = "exists"
    TOO_LARGE = "too_large"
    WRONG_TYPE = "wrong_type"
    QUOTA = "quota"
    BAD_PATH = "bad_path"


class AudioRefusedError(Exception):
    """The operation must not happen; trying elsewhere would be wrong."""

    def __init__(self, reason: Reason, path: str, detail: str = "") -> None:
        super().__init__(f"{path}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.path = path


class AudioUnavailableError(Exception):
    """The store could not be reached or failed on its own side."""


class AudioStore(Protocol):
    """What the application asks of a store."""

    async def upload(
        self, path: str, content: bytes, mime_type: str, *, replace: bool = False
    ) -> None:
        """Store a file; an existing one is replaced only with ``replace``."""
        ...

    async def download(self, path: str) -> bytes:
        """Return the bytes of a file."""
        ...

    async def url(self, path: str, *, lifetime_s: int) -> str:
        """Return a URL that serves the file, for a time where that can be limited."""
        ...

    async def delete(self, path: str) -> bool:
        """Delete a file; false when there was none."""
        ...

    async def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        ...

    async def usage_bytes(self, user_id: str) -> int:
        """Return how much the files of a user take."""
        ...


class LocalAudioStore:
    """Files below a folder, served by the application under ``/audio/``.

    A file appears whole or not at all: it is written beside its place and renamed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    async def upload(
        self, path: str, content: bytes, mime_type: str, *, replace: bool = False
    ) -> None:
        """Store a file; an existing one is replaced only with ``replace``."""
        await asyncio.to_thread(self._write, path, content, replace)

    async def download(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return await asyncio.to_thread(self._read, path)

    async def url(self, path: str, *, lifetime_s: int) -> str:
        """Return the path under which the application serves the file."""
        self.place(path)
        return f"/audio/{path}"

    async def delete(self, path: str) -> bool:
        """Delete a file; false when there was none."""
        try:
            await asyncio.to_thread(self.place(path).unlink)
        except FileNotFoundError:
            return False
        return True

    async def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return await asyncio.to_thread(self.place(path).is_file)

    async def usage_bytes(self, user_id: str) -> int:
        """Return how much the files of a user take."""
        return await asyncio.to_thread(_bytes_below, self.place(user_id))

    def place(self, path: str) -> Path:
        """Return where a file lies; raises for a path that leaves the folder."""
        return self.root.joinpath(*_parts(path))

    def _read(self, path: str) -> bytes:
        try:
            return self.place(path).read_bytes()
        except FileNotFoundError as exc:
            raise AudioRefusedError(Reason.NOT_FOUND, path) from exc

    def _write(self, path: str, content: bytes, replace: bool) -> None:
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".part-")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            if replace:
                part.replace(place)
            else:
                # Linking fails where the name is taken; renaming would overwrite.
                os.link(part, place)
        except FileExistsError as exc:
            raise AudioRefusedError(Reason.EXISTS, path) from exc
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()


class SupabaseAudioStore:
    """The private bucket ``audiofiles``, as whoever the client speaks for."""

    def __init__(self, storage: AsyncStorageClient) -> None:
        self.bucket = storage.from_(BUCKET)

    async def upload(
        self, path: str, content: bytes, mime_type: str, *, replace: bool = False
    ) -> None:
        """Store a file; an existing one is replaced only with ``replace``."""
        _parts(path)
        try:
            await self.bucket.upload(
                path,
                content,
                {
                    "content-type": mime_type,
                    "cache-control": str(CACHE_SECONDS),
                    "upsert": str(replace).lower(),
                },
            )
        except (StorageApiError, httpx.HTTPError) as exc:
            _refuse(exc, path)

    async def download(self, path: str) -> bytes:
        """Return the bytes of a file."""
        try:
            return await self.bucket.download(path)
        except (StorageApiError, httpx.HTTPError) as exc:
            _refuse(exc, path)

    async def url(self, path: str, *, lifetime_s: int) -> str:
        """Return a signed URL, good for ``lifetime_s``."""
        try:
            signed = await self.bucket.create_signed_url(path, lifetime_s)
        except (StorageApiError, httpx.HTTPError) as exc:
            _refuse(exc, path)
        return str(signed["signedURL"])

    async def delete(self, path: str) -> bool:
        """Delete a file; false when there was none, or none of the caller's."""
        try:
            return bool(await self.bucket.remove([path]))
        except (StorageApiError, httpx.HTTPError) as exc:
            _refuse(exc, path)

    async def exists(self, path: str) -> bool:
        """Tell whether the caller can see such a file."""
        folder, _, name = path.rpartition("/")
        try:
            # A search is a prefix match, so the first page may hold longer names.
            found = await self.bucket.list(folder, {"search": name, "limit": PAGE})
        except (StorageApiError, httpx.HTTPError) as exc:
            _refuse(exc, path)
        return any(entry["name"] == name for entry in found)

    async def usage_bytes(self, user_id: str) -> int:
        """Return how much the files that the caller can see in a folder take."""
        total, folders = 0, [user_id]
        while folders:
            folder = folders.pop()
            offset = 0
            while page := await self._page(folder, offset):
                offset += len(page)
                for entry in page:
                    if entry["id"] is None:
                        folders.append(f"{folder}/{entry['name']}")
                    else:
                        total += int(entry["metadata"]["size"])
                if len(page) < PAGE:
                    break
        return total

    async def _page(self, folder: str, offset: int) -> list[dict[str, Any]]:
        try:
            return await self.bucket.list(folder, {"limit": PAGE, "offset": offset})
        except (StorageApiError, httpx.HTTPError) as exc:
            _refuse(exc, folder)


_REASONS = {
    "400": Reason.BAD_PATH,
    "401": Reason.FORBIDDEN,
    "403": Reason.FORBIDDEN,
    "404": Reason.NOT_FOUND,
    "409": Reason.EXISTS,
    "413": Reason.TOO_LARGE,
    "415": Reason.WRONG_TYPE,
}


def _refuse(exc: StorageApiError | httpx.HTTPError, path: str) -> NoReturn:
    """Raise what the client's exception means."""
    if isinstance(exc, StorageApiError):
        reason = _REASONS.get(str(exc.status))
        if reason is not None:
            raise AudioRefusedError(reason, path, exc.message) from exc
    raise AudioUnavailableError(f"{path}: {exc}") from exc


def _parts(path: str) -> list[str]:
    """Return the segments of a path; raises where one could lead elsewhere."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise AudioRefusedError(Reason.BAD_PATH, path)
    return parts


def _bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
