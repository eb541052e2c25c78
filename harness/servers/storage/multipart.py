"""Parts of unfinished S3 multipart uploads: their rows, their files, their joining.

The rows are those of the real service (``storage.s3_multipart_uploads``, its parts); a
part's file is named by its row's id and is there before the row.  ``upload_signature``
binds the recorded size to this project's secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg
import orjson

from harness.servers.storage import errors
from harness.servers.storage.backend import Staged
from harness.servers.storage.connections import Connections

__all__ = ["MultipartUploads", "Part", "PendingUpload"]

COPY_BYTES: Final = 1024 * 1024
FIND: Final = (
    "select id, version, owner_id, in_progress_size, upload_signature, metadata, "
    "user_metadata from storage.s3_multipart_uploads "
    "where id = $1 and bucket_id = $2 and key = $3"
)
INSERT: Final = (
    "insert into storage.s3_multipart_uploads (id, upload_signature, bucket_id, key, "
    "version, owner_id, metadata, user_metadata) values ($1,$2,$3,$4,$5,$6,$7,$8)"
)
INSERT_PART: Final = (
    "insert into storage.s3_multipart_uploads_parts (id, upload_id, size, part_number, "
    "bucket_id, key, etag, version, owner_id) values ($1,$2,$3,$4,$5,$6,$7,$8,$9)"
)
LATEST_PARTS: Final = (
    "select id, part_number, size, etag, created_at "
    "from storage.s3_multipart_uploads_parts where upload_id = $1 order by part_number"
)
# Rows whose object exists were completed; the process died before it removed them.
SWEEP_COMPLETED: Final = (
    "delete from storage.s3_multipart_uploads u using storage.objects o "
    "where o.bucket_id = u.bucket_id and o.name = u.key and o.version = u.version"
)


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was created and not finished."""

    upload_id: str
    bucket: str
    key: str
    version: str
    owner_id: str | None
    size: int
    metadata: dict[str, Any]
    user_metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part; ``etag`` is the MD5 of its bytes, without quotes."""

    part_id: str
    number: int
    size: int
    etag: str


class MultipartUploads:
    """All unfinished multipart uploads of a project; part files lie in ``folder``."""

    def __init__(
        self, connections: Connections, folder: Path, secret: str, *, durable: bool
    ) -> None:
        self._connections = connections
        self._folder = folder
        self._secret = secret.encode()
        self._durable = durable
        self._locks: dict[str, asyncio.Lock] = {}

    async def create(
        self,
        bucket: str,
        key: str,
        version: str,
        owner_id: str | None,
        metadata: dict[str, Any],
        user_metadata: dict[str, Any] | None,
    ) -> str:
        """Note a new upload; return its id."""
        upload_id = uuid4().hex
        await self._connections.execute(
            INSERT,
            upload_id,
            self._sign(upload_id, 0),
            bucket,
            key,
            version,
            owner_id,
            orjson.dumps(metadata).decode(),
            None if user_metadata is None else orjson.dumps(user_metadata).decode(),
        )
        return upload_id

    async def find(self, upload_id: str, bucket: str, key: str) -> PendingUpload:
        """Return an upload of exactly this object, or refuse."""
        if "\0" in upload_id:
            raise errors.no_such_upload(upload_id)
        rows = await self._connections.rows(FIND, upload_id, bucket, key)
        if not rows:
            raise errors.no_such_upload(upload_id)
        row = rows[0]
        self._verify(upload_id, row["in_progress_size"], row["upload_signature"])
        user_metadata = row["user_metadata"]
        return PendingUpload(
            upload_id=upload_id,
            bucket=bucket,
            key=key,
            version=row["version"],
            owner_id=row["owner_id"],
            size=row["in_progress_size"],
            metadata=orjson.loads(row["metadata"] or "{}"),
            user_metadata=None
            if user_metadata is None
            else orjson.loads(user_metadata),
        )

    async def parts(self, upload_id: str) -> Sequence[asyncpg.Record]:
        """Return the rows of an upload's parts, by number."""
        return await self._connections.rows(LATEST_PARTS, upload_id)

    async def keep(self, pending: PendingUpload, staged: Staged) -> str:
        """Keep the bytes of a part as a file; return the part's id."""
        part_id = str(uuid4())
        await asyncio.to_thread(self._keep, pending.upload_id, part_id, staged)
        return part_id

    async def record(
        self, pending: PendingUpload, part: Part, owner_id: str | None, limit: int
    ) -> None:
        """Give a kept part its row, in place of an earlier one of its number."""
        upload_id = pending.upload_id
        connections = self._connections
        async with connections.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                f"{FIND} for update", upload_id, pending.bucket, pending.key
            )
            if row is None:
                raise errors.no_such_upload(upload_id)
            self._verify(upload_id, row["in_progress_size"], row["upload_signature"])
            replaced = await connection.fetch(
                "delete from storage.s3_multipart_uploads_parts "
                "where upload_id = $1 and part_number = $2 returning id, size",
                upload_id,
                part.number,
            )
            size = row["in_progress_size"] + part.size
            size -= sum(old["size"] for old in replaced)
            if size > limit:
                raise errors.entity_too_large()
            await connection.execute(
                INSERT_PART,
                part.part_id,
                upload_id,
                part.size,
                part.number,
                pending.bucket,
                pending.key,
                part.etag,
                pending.version,
                owner_id,
            )
            await connection.execute(
                "update storage.s3_multipart_uploads "
                "set in_progress_size = $2, upload_signature = $3 where id = $1",
                upload_id,
                size,
                self._sign(upload_id, size),
            )
        self.discard(pending, [str(old["id"]) for old in replaced])

    def discard(self, pending: PendingUpload, part_ids: Sequence[str]) -> None:
        """Remove files of parts that have no row."""
        for part_id in part_ids:
            (self._folder / pending.upload_id / part_id).unlink(missing_ok=True)

    async def join(self, pending: PendingUpload, parts: Sequence[Part]) -> Staged:
        """Return all parts, in order, as one staged body."""
        return await asyncio.to_thread(self._join, pending, parts)

    async def remove(self, pending: PendingUpload) -> None:
        """Remove an upload's rows, then its files."""
        await self._connections.execute(
            "delete from storage.s3_multipart_uploads where id = $1", pending.upload_id
        )
        folder = self._folder / pending.upload_id
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @asynccontextmanager
    async def finishing(self, upload_id: str) -> AsyncIterator[None]:
        """Let one request at a time complete or abort an upload."""
        lock = self._locks.setdefault(upload_id, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(upload_id, None)

    async def sweep(self) -> None:
        """Remove what a process that died left: rows of objects, files without rows."""
        if not self._folder.is_dir():
            return
        await self._connections.execute(SWEEP_COMPLETED)
        uploads = {path.name for path in self._folder.iterdir()}
        rows = await self._connections.rows(
            "select u.id as upload_id, p.id::text as part_id "
            "from storage.s3_multipart_uploads u "
            "left join storage.s3_multipart_uploads_parts p on p.upload_id = u.id "
            "where u.id = any($1)",
            list(uploads),
        )
        known = {(row["upload_id"], row["part_id"]) for row in rows}
        for upload_id in uploads - {upload_id for upload_id, _ in known}:
            shutil.rmtree(self._folder / upload_id, ignore_errors=True)
        for path in self._folder.glob("*/*"):
            if (path.parent.name, path.name) not in known:
                path.unlink(missing_ok=True)

    def _keep(self, upload_id: str, part_id: str, staged: Staged) -> None:
        folder = self._folder / upload_id
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / part_id
        try:
            if staged.path is None:
                target.write_bytes(staged.data or b"")
            else:
                os.replace(staged.path, target)
                staged.path = None
            if self._durable:
                _sync(target)
                _sync(folder)
        except OSError as exc:
            target.unlink(missing_ok=True)
            raise errors.disk_error(exc) from exc

    def _join(self, pending: PendingUpload, parts: Sequence[Part]) -> Staged:
        folder = self._folder / pending.upload_id
        joined = folder / uuid4().hex
        digest = hashlib.md5(usedforsecurity=False)
        size = 0
        try:
            with joined.open("wb", buffering=0) as target:
                for part in parts:
                    with (folder / part.part_id).open("rb", buffering=0) as source:
                        while data := source.read(COPY_BYTES):
                            digest.update(data)
                            target.write(data)
                            size += len(data)
        except FileNotFoundError as exc:
            joined.unlink(missing_ok=True)
            raise errors.no_such_upload(pending.upload_id) from exc
        except OSError as exc:
            joined.unlink(missing_ok=True)
            raise errors.disk_error(exc) from exc
        return Staged(size, digest.hexdigest(), path=joined)

    def _sign(self, upload_id: str, size: int) -> str:
        return hmac.digest(self._secret, f"{upload_id}:{size}".encode(), "sha256").hex()

    def _verify(self, upload_id: str, size: int, signature: str) -> None:
        if not hmac.compare_digest(self._sign(upload_id, size), signature):
            raise errors.invalid_upload_signature()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
