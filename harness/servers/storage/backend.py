"""What the Storage API needs of the place where bytes are kept.

Two implementations pass the same suite: :mod:`backend_file` and :mod:`backend_s3`.
Bytes belong to a version, never to a name: they are written once, under a version that
no row points at yet, and never changed.  So an overwrite cannot be seen half done, and
copies may share bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from aiohttp import web

__all__ = ["Backend", "ObjectRef", "OpenObject", "Staged", "StoredBytes"]


class ObjectRef(NamedTuple):
    """One version of one object."""

    bucket: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """What the backend knows of stored bytes; ``etag`` with its quotes."""

    etag: str
    size: int
    modified: datetime


@dataclass(slots=True)
class Staged:
    """A body that was received whole: in memory when small, else in a file.

    Whoever holds it must either hand it to :meth:`Backend.store` or discard it.
    """

    size: int
    md5_hex: str
    data: bytes | None = None
    path: Path | None = None
    mime_type: str = "application/octet-stream"
    cache_control: str = "no-cache"
    etag_parts: int = 0

    @property
    def etag(self) -> str:
        """The entity tag, quoted; ``-N`` marks one joined from N parts."""
        suffix = f"-{self.etag_parts}" if self.etag_parts else ""
        return f'"{self.md5_hex}{suffix}"'

    def discard(self) -> None:
        """Remove the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None


class OpenObject(Protocol):
    """Bytes opened for reading; must be closed."""

    @property
    def stored(self) -> StoredBytes:
        """Size, entity tag and time."""
        ...

    async def read(self) -> bytes:
        """Return all bytes; for small objects and for images."""
        ...

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield bytes ``start`` to ``end`` (exclusive)."""
        ...

    async def send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        start: int,
        end: int,
    ) -> None:
        """Send bytes ``start`` to ``end`` (exclusive) as the prepared answer's body."""
        ...

    def close(self) -> None:
        """Let go of the bytes."""
        ...


class Backend(Protocol):
    """Where bytes are kept."""

    @property
    def refuses_dot_segments(self) -> bool:
        """Whether keys with ``.`` or ``..`` segments are refused."""
        ...

    async def store(self, ref: ObjectRef, staged: Staged) -> StoredBytes:
        """Keep ``staged`` as ``ref``; durable on return if the settings ask for it."""
        ...

    async def copy(self, source: ObjectRef, target: ObjectRef) -> StoredBytes:
        """Keep the bytes of ``source`` as ``target`` too; missing is no_such_key."""
        ...

    async def open(self, ref: ObjectRef, etag: str) -> OpenObject:
        """Open for reading; ``etag`` is what the row says; missing is no_such_key."""
        ...

    async def remove(self, refs: Iterable[ObjectRef]) -> None:
        """Remove bytes; what is not there is as good as removed."""
        ...

    async def exists(self, ref: ObjectRef) -> bool:
        """Whether bytes are kept as ``ref``."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
