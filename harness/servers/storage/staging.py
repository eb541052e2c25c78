"""Receiving a body whole before anything else is told about it.

Small bodies stay in memory; larger ones go to a file, hashed and written in a thread
while the next part arrives, so that neither the loop nor the memory carries them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from harness.servers.storage import errors
from harness.servers.storage.backend import Staged

__all__ = ["BODY_ERRORS", "Stager", "body_chunks"]

IN_MEMORY_BYTES: Final = 256 * 1024
INLINE_HASH_BYTES: Final = 64 * 1024  # longer ones are hashed in a thread
BATCH_BYTES: Final = 1024 * 1024

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

    async def receive(self, chunks: AsyncIterator[bytes], limit: int) -> Staged:
        """Receive a body of at most ``limit`` bytes; more is EntityTooLarge."""
        held: list[bytes] = []
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise errors.entity_too_large()
            held.append(chunk)
            if size > IN_MEMORY_BYTES:
                return await self._receive_file(held, chunks, limit)
        data = held[0] if len(held) == 1 else b"".join(held)
        return await stage_bytes(data)

    async def _receive_file(
        self, held: list[bytes], chunks: AsyncIterator[bytes], limit: int
    ) -> Staged:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        path = self._folder / uuid4().hex
        digest = hashlib.md5(usedforsecurity=False)
        size = waiting = sum(map(len, held))
        file = await asyncio.to_thread(path.open, "wb", buffering=0)
        writing: asyncio.Task[None] | None = None
        try:
            with file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise errors.entity_too_large()
                    held.append(chunk)
                    waiting += len(chunk)
                    if waiting >= BATCH_BYTES:
                        if writing is not None:
                            await writing
                        writing = _write_later(file.fileno(), digest, held)
                        held, waiting = [], 0
                if writing is not None:
                    await writing
                await _write_later(file.fileno(), digest, held)
        except BaseException:
            if writing is not None:
                # The file must not be removed under the thread that writes it.
                await asyncio.wait([writing])
            path.unlink(missing_ok=True)
            raise
        return Staged(size, digest.hexdigest(), path=path)


async def stage_bytes(data: bytes) -> Staged:
    """Return ``data`` as a staged body."""
    if len(data) <= INLINE_HASH_BYTES:
        return Staged(len(data), md5_hex(data), data=data)
    return Staged(len(data), await asyncio.to_thread(md5_hex, data), data=data)


def md5_hex(data: bytes) -> str:
    """Return the MD5 of ``data``: an entity tag, not a signature."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _write_later(
    descriptor: int, digest: hashlib._Hash, chunks: list[bytes]
) -> asyncio.Task[None]:
    return asyncio.create_task(
        asyncio.to_thread(_write_and_hash, descriptor, digest, chunks)
    )


def _write_and_hash(
    descriptor: int, digest: hashlib._Hash, chunks: list[bytes]
) -> None:
    data = memoryview(b"".join(chunks))
    digest.update(data)
    while data:
        data = data[os.write(descriptor, data) :]
