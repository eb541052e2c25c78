"""Scene images in the public bucket ``story-images``.

Synchronous, like the client it is built on; callers in an event loop use threads.
Images are validated before anything is sent, uploads are tried again when the fault was
not ours, and every failure is logged with bucket, path and operation and raised with
its cause.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
from storage3.exceptions import StorageApiError

from scenarios.storymimi.image_urls import BUCKET, public_url

if TYPE_CHECKING:
    from supabase import Client

__all__ = ["BucketError", "ImageStorage", "ImageStorageError", "InvalidImageError"]

logger = logging.getLogger(__name__)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 10_485_760
ATTEMPTS = 3
FIRST_PAUSE_S = 0.2
LIST_PAGE = 100
T = TypeVar("T")


class InvalidImageError(ValueError):
    """Not a PNG of an acceptable size; nothing was sent."""


class ImageStorageError(Exception):
    """Storage did not do what it was asked; the cause is the client's exception."""


class BucketError(ImageStorageError):
    """The bucket is missing and cannot be made, or is not as it must be."""


class ImageStorage:
    """Images of whoever the client speaks for."""

    def __init__(
        self,
        client: Client,
        supabase_url: str,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.storage = client.storage
        self._supabase_url = supabase_url
        self._pause = pause

    def ensure_bucket(self) -> None:
        """Make the bucket unless it is there; called once, at the start.

        Needs the service key.  Only "it exists already" is tolerated: listing a missing
        bucket succeeds, so it proves nothing.
        """
        try:
            bucket = self.storage.get_bucket(BUCKET)
        except StorageApiError as exc:
            if str(exc.status) != "404":
                raise self._failed("look up bucket", BUCKET, exc, BucketError) from exc
            self._create_bucket()
            return
        except httpx.HTTPError as exc:
            raise self._failed("look up bucket", BUCKET, exc, BucketError) from exc
        if not bucket.public:
            raise BucketError(f"bucket {BUCKET} is private, its URLs would not work")

    def upload_image(
        self, user_id: str, story_id: str, scene_index: int, image: bytes
    ) -> str:
        """Store a PNG under a name of its own and return its public URL."""
        check_image(image)
        name = f"scene_{scene_index}_{uuid.uuid4()}.png"
        path = f"{user_id}/{story_id}/{name}"
        self._with_retries("upload", path, lambda: self._upload(path, image))
        return public_url(self._supabase_url, path)

    def remove(self, paths: Sequence[str]) -> None:
        """Delete images; those that are gone already are no error."""
        if paths:
            bucket = self.storage.from_(BUCKET)
            self._with_retries(
                "remove", ", ".join(paths), lambda: bucket.remove(list(paths))
            )

    def images_of(self, user_id: str, story_id: str) -> list[str]:
        """Return the paths of all images of a story."""
        folder = f"{user_id}/{story_id}"
        bucket = self.storage.from_(BUCKET)
        found: list[str] = []

        def next_page() -> list[dict[str, Any]]:
            return bucket.list(folder, {"limit": LIST_PAGE, "offset": len(found)})

        while page := self._with_retries("list", folder, next_page):
            found += [f"{folder}/{entry['name']}" for entry in page]
            if len(page) < LIST_PAGE:
                break
        return found

    def _create_bucket(self) -> None:
        try:
            self.storage.create_bucket(
                BUCKET,
                options={
                    "public": True,
                    "file_size_limit": MAX_BYTES,
                    "allowed_mime_types": ["image/png"],
                },
            )
        except StorageApiError as exc:
            # Another process was faster.
            if str(exc.status) != "409":
                raise self._failed("create bucket", BUCKET, exc, BucketError) from exc
        except httpx.HTTPError as exc:
            raise self._failed("create bucket", BUCKET, exc, BucketError) from exc

    def _upload(self, path: str, image: bytes) -> None:
        try:
            self.storage.from_(BUCKET).upload(
                path, image, {"content-type": "image/png"}
            )
        except StorageApiError as exc:
            # The name is ours alone: an earlier attempt got through after all.
            if str(exc.status) != "409":
                raise

    def _with_retries(self, operation: str, path: str, call: Callable[[], T]) -> T:
        attempt = 1
        while True:
            try:
                return call()
            except (StorageApiError, httpx.HTTPError) as exc:
                if attempt == ATTEMPTS or not _is_transient(exc):
                    raise self._failed(operation, path, exc) from exc
            self._pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            attempt += 1

    def _failed(
        self,
        operation: str,
        path: str,
        exc: Exception,
        kind: type[ImageStorageError] = ImageStorageError,
    ) -> ImageStorageError:
        logger.error(
            "image storage failed",
            extra={"operation": operation, "bucket": BUCKET, "path": path},
            exc_info=exc,
        )
        return kind(f"cannot {operation} {BUCKET}/{path}: {exc}")


def check_image(image: bytes) -> None:
    """Raise :class:`InvalidImageError` unless this is a PNG that fits."""
    if not image.startswith(PNG_SIGNATURE):
        raise InvalidImageError("not a PNG")
    if len(image) > MAX_BYTES:
        raise InvalidImageError(f"{len(image)} bytes are more than {MAX_BYTES}")


def _is_transient(exc: Exception) -> bool:
    """Tell whether the same request may succeed a moment later."""
    if isinstance(exc, StorageApiError):
        status = str(cast("Any", exc.status))
        return status.startswith("5") or status == "429"
    return isinstance(exc, httpx.TransportError)
