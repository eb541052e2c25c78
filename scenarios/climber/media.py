"""The files of a climber in the four buckets.

Every path is ``<user id>/<file>``.  The server decides what is allowed; this module
gives each refusal a stable :class:`Refusal` and leaves one log record per operation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import httpx
from storage3.exceptions import StorageApiError

if TYPE_CHECKING:
    from storage3 import AsyncStorageClient

__all__ = ["Bucket", "FileRefusedError", "MediaLibrary", "Refusal", "StoredFile"]

logger = logging.getLogger(__name__)

LINK_LIFETIME_S = 300
LIST_PAGE = 100


class Bucket(StrEnum):
    """The four buckets."""

    AVATARS = "user-avatars"
    VIDEOS = "training-videos"
    MOUNTAINS = "mountain-images"
    ASSETS = "app-assets"


class Refusal(StrEnum):
    """Why the server did not do what it was asked."""

    BAD_REQUEST = "bad_request"
    NOT_SIGNED_IN = "not_signed_in"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    EXISTS = "exists"
    TOO_LARGE = "too_large"
    WRONG_TYPE = "wrong_type"
    UNAVAILABLE = "unavailable"


_BY_STATUS = {
    "400": Refusal.BAD_REQUEST,
    "401": Refusal.NOT_SIGNED_IN,
    "403": Refusal.FORBIDDEN,
    "404": Refusal.NOT_FOUND,
    "409": Refusal.EXISTS,
    "413": Refusal.TOO_LARGE,
    "415": Refusal.WRONG_TYPE,
}


class FileRefusedError(Exception):
    """An operation on a file failed; nothing was changed.

    ``reason`` is stable, ``detail`` is the server's own sentence.
    """

    def __init__(self, reason: Refusal, operation: str, path: str, detail: str) -> None:
        super().__init__(f"cannot {operation} {path}: {reason} ({detail})")
        self.reason = reason
        self.operation = operation
        self.path = path
        self.detail = detail


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a listing shows it: ``name`` is relative to the folder."""

    name: str
    size: int
    content_type: str


class MediaLibrary:
    """The files that one signed-in user may reach."""

    def __init__(self, storage: AsyncStorageClient, user_id: str) -> None:
        self._storage = storage
        self._user_id = user_id

    def path(self, file_name: str) -> str:
        """Return the path of ``file_name`` in the user's own folder."""
        return f"{self._user_id}/{file_name}"

    async def store(
        self,
        bucket: Bucket,
        path: str,
        content: bytes,
        content_type: str,
        *,
        replace: bool = False,
    ) -> None:
        """Upload a file; an existing one is replaced only with ``replace``."""
        with _operation("store", bucket, path):
            await self._storage.from_(bucket).upload(
                path,
                content,
                {
                    "content-type": content_type,
                    "upsert": "true" if replace else "false",
                },
            )

    async def fetch(self, bucket: Bucket, path: str) -> bytes:
        """Return the bytes of a file that the user may read."""
        with _operation("fetch", bucket, path):
            return await self._storage.from_(bucket).download(path)

    async def rename(self, bucket: Bucket, path: str, new_path: str) -> None:
        """Move a file within its bucket."""
        with _operation("rename", bucket, path):
            await self._storage.from_(bucket).move(path, new_path)

    async def duplicate(self, bucket: Bucket, path: str, new_path: str) -> None:
        """Copy a file within its bucket."""
        with _operation("duplicate", bucket, path):
            await self._storage.from_(bucket).copy(path, new_path)

    async def remove(self, bucket: Bucket, *paths: str) -> list[str]:
        """Delete files and return the paths that are gone because of it."""
        with _operation("remove", bucket, ", ".join(paths)):
            removed = await self._storage.from_(bucket).remove(list(paths))
            return [str(entry["name"]) for entry in removed]

    async def files(self, bucket: Bucket, folder: str) -> list[StoredFile]:
        """Return the files directly in ``folder`` that the user may see, by name."""
        found: list[StoredFile] = []
        with _operation("list", bucket, folder):
            while True:
                page = await self._storage.from_(bucket).list(
                    folder, {"limit": LIST_PAGE, "offset": len(found)}
                )
                found += [_stored_file(entry) for entry in page if entry["id"]]
                if len(page) < LIST_PAGE:
                    return found

    async def link(
        self, bucket: Bucket, path: str, *, lifetime_s: int = LINK_LIFETIME_S
    ) -> str:
        """Return a URL that serves the file to anybody for ``lifetime_s``."""
        with _operation("link", bucket, path):
            signed = await self._storage.from_(bucket).create_signed_url(
                path, lifetime_s
            )
            return str(signed["signedURL"])

    async def public_url(self, bucket: Bucket, path: str) -> str:
        """Return the URL under which a public bucket serves the file."""
        return await self._storage.from_(bucket).get_public_url(path)


@contextmanager
def _operation(name: str, bucket: Bucket, path: str) -> Iterator[None]:
    """Log how the operation ended, and translate what the client raises."""
    record = {"operation": name, "bucket": str(bucket), "path": path}
    try:
        yield
    except StorageApiError as exc:
        reason = _BY_STATUS.get(str(exc.status), Refusal.UNAVAILABLE)
        logger.warning("file operation refused", extra={**record, "reason": reason})
        raise FileRefusedError(reason, name, path, exc.message) from exc
    except httpx.HTTPError as exc:
        logger.warning(
            "file operation failed", extra={**record, "reason": Refusal.UNAVAILABLE}
        )
        raise FileRefusedError(Refusal.UNAVAILABLE, name, path, str(exc)) from exc
    logger.info("file operation done", extra=record)


def _stored_file(entry: dict[str, Any]) -> StoredFile:
    metadata = entry["metadata"] or {}
    return StoredFile(
        name=entry["name"],
        size=int(metadata.get("size", 0)),
        content_type=str(metadata.get("mimetype", "")),
    )
