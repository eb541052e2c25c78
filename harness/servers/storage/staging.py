"""Receiving a body whole before anything else is told about it.

Small bodies stay in memory; larger ones go to a file, hashed and written in a thread
while the next part arrives, so that neither the loop nor the memory carries them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from harness.servers.storage import errors
from harness.servers.storage.backend import Staged

__all__ = ["BODY_ERRORS", "FileSink", "Stager", "body_chunks", "stage_bytes"]

IN_MEMORY_BYTES: Final = 256 * 1024
INLINE_HASH_BYTES: Final = 64 * 1024  # longer ones are hashed in a thread
BATCH_BYTES: Final = 1024 * 1024
BATCH_CHUNKS: Final = 512  # the system takes 1,024 pieces in one call

BODY_ERRORS: Final = (
    ConnectionError,
    aiohttp.ClientError,
    HttpProcessingError,
    web.RequestPayloadError,
)


async def body_chunks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield a request's body; a client that vanished is a refusal nobody reads."""
    content = request.content
    try:
        while chunk := await content.readany():
            yield chunk
    except BODY_ERRORS as exc:
        reason = "Request stream closed before upload could complete"
        raise errors.no_content(reason) from exc


class Stager:
    """Makes :class:`Staged` bodies; their files lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = False

    async def receive(
        self, chunks: AsyncIterator[bytes], limit: int, *, sha256: str = ""
    ) -> Staged:
        """Receive a body of at most ``limit`` bytes; more is EntityTooLarge.

        With ``sha256`` (hexadecimal) a body with another digest is refused.
        """
        held: list[bytes] = []
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise errors.entity_too_large()
            held.append(chunk)
            if size > IN_MEMORY_BYTES:
                return await self._receive_file(held, chunks, limit, sha256)
        data = held[0] if len(held) == 1 else b"".join(held)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise errors.content_sha256_mismatch()
        return await stage_bytes(data)

    async def _receive_file(
        self,
        held: list[bytes],
        chunks: AsyncIterator[bytes],
        limit: int,
        expected_sha256: str,
    ) -> Staged:
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._made = True
        path = self._folder / uuid4().hex
        md5 = hashlib.md5(usedforsecurity=False)
        sha256 = hashlib.sha256()
        digests = (md5, sha256) if expected_sha256 else (md5,)
        try:
            async with FileSink.opened(path, *digests) as sink:
                for chunk in held:
                    await sink.add(chunk)
                async for chunk in chunks:
                    if sink.size + len(chunk) > limit:
                        raise errors.entity_too_large()
                    await sink.add(chunk)
            if expected_sha256 and sha256.hexdigest() != expected_sha256:
                raise errors.content_sha256_mismatch()
        except OSError as exc:
            path.unlink(missing_ok=True)
            raise errors.disk_error(exc) from exc
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Staged(sink.size, md5.hexdigest(), path=path)


class FileSink:
    """Appends to a file and hashes, one batch in a thread while the next arrives."""

    def __init__(self, descriptor: int, digests: Sequence[hashlib._Hash]) -> None:
        self._descriptor = descriptor
        self._digests = digests
        self._held: list[bytes] = []
        self._waiting = 0
        self._writing: asyncio.Future[None] | None = None
        self.size = 0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, path: Path, *digests: hashlib._Hash, sync: bool = False
    ) -> AsyncIterator[FileSink]:
        """Open ``path`` for appending; everything added is in the file at the end.

        ``sync`` flushes it to the disk as well.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        sink = cls(descriptor, digests)
        try:
            yield sink
        finally:
            try:
                await sink.flush()
                if sync:
                    await asyncio.to_thread(os.fsync, descriptor)
            finally:
                os.close(descriptor)

    async def add(self, chunk: bytes) -> None:
        """Take a chunk over."""
        self._held.append(chunk)
        self._waiting += len(chunk)
        self.size += len(chunk)
        if self._waiting >= BATCH_BYTES or len(self._held) >= BATCH_CHUNKS:
            await self._write_later()

    async def flush(self) -> None:
        """Wait until everything is in the file."""
        await self._write_later()
        if self._writing is not None:
            await self._writing

    async def _write_later(self) -> None:
        if self._writing is not None:
            await self._writing
            self._writing = None
        held, self._held, self._waiting = self._held, [], 0
        if held:
            self._writing = asyncio.create_task(
                asyncio.to_thread(
                    _write_and_hash, self._descriptor, self._digests, held
                )
            )


async def stage_bytes(data: bytes) -> Staged:
    """Return ``data`` as a staged body."""
    if len(data) <= INLINE_HASH_BYTES:
        return Staged(len(data), md5_hex(data), data=data)
    return Staged(len(data), await asyncio.to_thread(md5_hex, data), data=data)


def md5_hex(data: bytes) -> str:
    """Return the MD5 of ``data``: an entity tag, not a signature."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _write_and_hash(
    descriptor: int, digests: Sequence[hashlib._Hash], chunks: list[bytes]
) -> None:
    for digest in digests:
        for chunk in chunks:
            digest.update(chunk)
    # Joining the chunks would cost as much again as writing them.
    written = os.writev(descriptor, chunks)
    rest = sum(map(len, chunks)) - written
    if rest:
        data = memoryview(b"".join(chunks))[written:]
        while data:
            data = data[os.write(descriptor, data) :]
