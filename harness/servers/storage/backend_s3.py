"""Bytes at an S3 endpoint, under ``<tenant>/<bucket>/<key>/<version>``.

Requests are path-style and signed by :mod:`harness.protocols.s3_signature`.  Objects up
to :data:`SINGLE_PUT_BYTES` are put at once, larger ones in parts; a body is whole on
this machine before the endpoint hears of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web
from yarl import URL

from harness.clock import Clock
from harness.protocols import s3_xml
from harness.protocols.http_ranges import parse_http_date
from harness.protocols.s3_signature import UNSIGNED_PAYLOAD, Request, sign
from harness.servers.outward import client_session
from harness.servers.storage import errors
from harness.servers.storage.backend import ObjectRef, OpenObject, Staged, StoredBytes
from harness.servers.storage.settings import StorageSettings

__all__ = ["S3Backend"]

SINGLE_PUT_BYTES: Final = 128 * 1024 * 1024
PART_BYTES: Final = 32 * 1024 * 1024
CHUNK_BYTES: Final = 256 * 1024
CONNECT_TIMEOUT_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 60.0
DELETE_BATCH: Final = 1000
ERROR_BODY_BYTES: Final = 4096


class S3Backend:
    """Keeps versions at the endpoint of ``settings``."""

    def __init__(self, settings: StorageSettings, tenant: str, clock: Clock) -> None:
        self.refuses_dot_segments = not settings.compat
        self._settings = settings
        self._tenant = tenant
        self._clock = clock
        parts = urlsplit(settings.s3_endpoint)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._base = f"{parts.path.rstrip('/')}/{settings.s3_bucket}"
        self._session: aiohttp.ClientSession | None = None

    async def store(self, ref: ObjectRef, staged: Staged) -> StoredBytes:
        """Put ``staged`` as ``ref``."""
        headers = {
            "Content-Type": staged.mime_type,
            "Cache-Control": staged.cache_control,
        }
        if staged.size > SINGLE_PUT_BYTES and staged.path is not None:
            etag = await self._put_parts(ref, staged.path, staged.size, headers)
        else:
            etag = await self._put(ref, staged, headers)
        staged.discard()
        return StoredBytes(etag, staged.size, self._clock.now())

    async def copy(self, source: ObjectRef, target: ObjectRef) -> StoredBytes:
        """Let the endpoint copy."""
        origin = quote(f"/{self._settings.s3_bucket}/{self._key(source)}", safe="/-_.~")
        headers = {"x-amz-copy-source": origin}
        async with self._call("PUT", self._path(target), headers=headers) as answer:
            await _check(answer, source.name)
            body = await answer.read()
        # An S3 copy may fail after its 200 was sent.
        if b"<Error>" in body:
            raise errors.internal_error()
        async with self._call("HEAD", self._path(target)) as answer:
            await _check(answer, source.name)
            return _stored(answer)

    async def open(self, ref: ObjectRef, etag: str) -> OpenObject:
        """Begin to get the object."""
        context = self._call("GET", self._path(ref))
        answer = await context.__aenter__()
        try:
            await _check(answer, ref.name)
        except BaseException:
            answer.close()
            raise
        stored = _stored(answer)
        named = StoredBytes(etag or stored.etag, stored.size, stored.modified)
        return RemoteObject(self, ref, named, answer)

    async def remove(self, refs: Iterable[ObjectRef]) -> None:
        """Delete objects, many in one call."""
        keys = [self._key(ref) for ref in refs]
        for start in range(0, len(keys), DELETE_BATCH):
            await self._delete(keys[start : start + DELETE_BATCH])

    async def exists(self, ref: ObjectRef) -> bool:
        """Ask for the object's head."""
        async with self._call("HEAD", self._path(ref)) as answer:
            if answer.status == 404:
                return False
            await _check(answer, ref.name)
            return True

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def get_range(self, ref: ObjectRef, start: int, end: int) -> _Call:
        """Begin to get bytes ``start`` to ``end`` (exclusive)."""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        return self._call("GET", self._path(ref), headers=headers)

    def _key(self, ref: ObjectRef) -> str:
        return f"{self._tenant}/{ref.bucket}/{ref.name}/{ref.version}"

    def _path(self, ref: ObjectRef) -> str:
        return f"{self._base}/{quote(self._key(ref), safe='/-_.~')}"

    async def _put(
        self, ref: ObjectRef, staged: Staged, headers: Mapping[str, str]
    ) -> str:
        data: bytes | AsyncIterator[bytes] = staged.data or b""
        digest = UNSIGNED_PAYLOAD
        if staged.path is not None:
            data = _file_chunks(staged.path, 0, staged.size)
        else:
            digest = hashlib.sha256(staged.data or b"").hexdigest()
        length = {**headers, "Content-Length": str(staged.size)}
        call = self._call(
            "PUT", self._path(ref), headers=length, data=data, payload_hash=digest
        )
        async with call as answer:
            await _check(answer, ref.name)
            return answer.headers.get("ETag", staged.etag)

    async def _put_parts(
        self, ref: ObjectRef, path: Path, size: int, headers: Mapping[str, str]
    ) -> str:
        target = self._path(ref)
        async with self._call("POST", target, "uploads=", headers=headers) as answer:
            await _check(answer, ref.name)
            upload_id = s3_xml.parse_upload_id(await answer.read())
        query = f"uploadId={quote(upload_id, safe='')}"
        try:
            parts: list[str] = []
            for number, start in enumerate(range(0, size, PART_BYTES), start=1):
                end = min(size, start + PART_BYTES)
                part = f"partNumber={number}&{query}"
                call = self._call(
                    "PUT",
                    target,
                    part,
                    headers={"Content-Length": str(end - start)},
                    data=_file_chunks(path, start, end),
                )
                async with call as answer:
                    await _check(answer, ref.name)
                    etag = escape(answer.headers["ETag"])
                parts.append(
                    f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
                )
            body = "".join(parts)
            body = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>"
            async with self._call("POST", target, query, data=body.encode()) as answer:
                await _check(answer, ref.name)
                return s3_xml.parse_etag(await answer.read())
        except BaseException:
            async with self._call("DELETE", target, query):
                pass
            raise

    async def _delete(self, keys: list[str]) -> None:
        objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers = {"Content-MD5": base64.b64encode(digest).decode()}
        call = self._call(
            "POST",
            self._base,
            "delete=",
            headers=headers,
            data=body,
            payload_hash=hashlib.sha256(body).hexdigest(),
        )
        async with call as answer:
            await _check(answer, "")
            if b"<Error>" in await answer.read():
                raise errors.internal_error()

    def _call(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        payload_hash: str = UNSIGNED_PAYLOAD,
    ) -> _Call:
        settings = self._settings
        request = Request(method, path, query, headers or {}, self._host)
        signed = sign(
            request,
            settings.s3_access_key_id,
            settings.s3_secret_access_key,
            settings.s3_region,
            self._clock.now(),
            payload_hash=payload_hash,
        )
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
            )
            self._session = client_session(timeout=timeout, auto_decompress=False)
        url = URL(f"{self._origin}{path}?{query}".rstrip("?"), encoded=True)
        return _Call(
            self._session.request(
                method, url, headers={**request.headers, **signed}, data=data
            )
        )


class _Call:
    """A request whose transport faults leave as refusals."""

    def __init__(self, request: aiohttp.client._RequestContextManager) -> None:
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        with _transport_faults():
            return await self._request.__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._request.__aexit__(*exc_info)  # type: ignore[arg-type]


@dataclass(slots=True)
class RemoteObject:
    """An object whose bytes are on their way."""

    backend: S3Backend
    ref: ObjectRef
    stored: StoredBytes
    answer: aiohttp.ClientResponse

    async def read(self) -> bytes:
        """Return the whole object."""
        with _transport_faults():
            return await self.answer.read()

    async def send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        start: int,
        end: int,
    ) -> None:
        """Send a part of the object as the body."""
        async for chunk in self.chunks(start, end):
            await response.write(chunk)

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a part of the object; other than the whole is asked for anew."""
        if (start, end) == (0, self.stored.size):
            with _transport_faults():
                async for chunk in self.answer.content.iter_chunked(CHUNK_BYTES):
                    yield chunk
            return
        self.answer.close()
        async with self.backend.get_range(self.ref, start, end) as answer:
            await _check(answer, self.ref.name)
            with _transport_faults():
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    yield chunk

    def close(self) -> None:
        """Let the connection go; it is reused when the body was read."""
        self.answer.release()


@contextmanager
def _transport_faults() -> Iterator[None]:
    """Turn a broken connection to the endpoint into a refusal."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise errors.StorageError("S3Error", f"S3 endpoint: {exc}", 500) from exc


async def _check(answer: aiohttp.ClientResponse, key: str) -> None:
    """Refuse on an answer that is no success."""
    if answer.status < 300:
        return
    if answer.status == 404:
        raise errors.no_such_key(key)
    text = (await answer.content.read(ERROR_BODY_BYTES)).decode("utf-8", "replace")
    status = min(500, answer.status)
    message = s3_xml.parse_message(text) or f"the S3 endpoint answered {answer.status}"
    raise errors.StorageError("S3Error", message, status)


def _stored(answer: aiohttp.ClientResponse) -> StoredBytes:
    modified = parse_http_date(answer.headers.get("Last-Modified", ""))
    return StoredBytes(
        etag=answer.headers.get("ETag", ""),
        size=int(answer.headers.get("Content-Length", "0")),
        modified=modified or datetime.now(UTC),
    )


async def _file_chunks(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < end:
            chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, end - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk
