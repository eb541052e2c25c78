"""Reading objects: bodies, HEAD, info; public, authenticated and signed.

Source: storage-api 3.3, 3.5 and 3.6.  HEAD and info are answered from the row alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg
from aiohttp import web

from harness.errors import RemoteProtocolError
from harness.protocols.http_ranges import (
    content_disposition,
    http_date,
    is_not_modified,
    parse_range,
)
from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef, StoredBytes
from harness.servers.storage.calls import Call, json_response
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core, iso, parse_json, raw_json

__all__ = [
    "FoundObject",
    "asset_headers",
    "find_object",
    "get_object",
    "get_public_object",
    "get_signed_object",
    "head_object",
    "head_public_object",
    "object_info",
    "public_object_info",
    "reader_of",
    "send_object",
    "signed_claims",
]

Reader = Literal["caller", "public", "service", "strict"]

FIND = f"select * from {calling('find_object', 3)}"
INLINE_BYTES = 64 * 1024
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True)
class FoundObject:
    """A row that the reader may see."""

    ref: ObjectRef
    row: asyncpg.Record
    metadata: dict[str, Any]

    @property
    def etag(self) -> str:
        """The quoted entity tag."""
        return str(self.metadata.get("eTag") or "")

    @property
    def size(self) -> int:
        """The size that the row states."""
        return int(self.metadata.get("size") or 0)


async def find_object(
    core: Core, call: Call, bucket: str, key: str, reader: Reader
) -> FoundObject:
    """Return the row of an object, or refuse as the real service does."""
    names.check_key(key)
    row = await core.connections.row(
        FIND, *call.database_settings(), bucket, key, reader
    )
    if not row["bucket_found"]:
        raise errors.no_such_bucket(bucket)
    if reader == "public" and not row["is_public"]:
        raise errors.no_such_bucket(bucket)
    if row["id"] is None:
        raise errors.no_such_key(key)
    ref = ObjectRef(bucket, key, row["version"] or "")
    return FoundObject(ref, row, parse_json(row["metadata"]))


def reader_of(call: Call) -> Reader:
    """Return how a call reads: without a valid token only public buckets."""
    return "caller" if call.authenticated else "public"


async def get_object(
    core: Core, call: Call, bucket: str, key: str
) -> web.StreamResponse:
    """GET /object/:bucket/* and /object/authenticated/:bucket/*."""
    found = await find_object(core, call, bucket, key, reader_of(call))
    return await send_object(core, call, found)


async def get_public_object(
    core: Core, call: Call, bucket: str, key: str
) -> web.StreamResponse:
    """GET /object/public/:bucket/*."""
    found = await find_object(core, call, bucket, key, "public")
    return await send_object(core, call, found)


async def get_signed_object(
    core: Core, call: Call, bucket: str, key: str
) -> web.StreamResponse:
    """GET and HEAD /object/sign/:bucket/*?token=."""
    claims = signed_claims(core, call, bucket, key)
    found = await find_object(core, call, bucket, key, "service")
    expires = datetime.fromtimestamp(claims["exp"], UTC)
    return await send_object(core, call, found, expires=expires)


def signed_claims(core: Core, call: Call, bucket: str, key: str) -> dict[str, Any]:
    """Return the claims of the query's token, which must be for this object."""
    token = call.query.get("token")
    if token is None:
        raise errors.invalid_request(
            "querystring must have required property 'token'", error="Error"
        )
    url = f"{bucket}/{key}"
    return core.signed_urls.check(token, url, "download", now=call.now)


async def head_object(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """HEAD of a private or public object."""
    return _head(
        core, call, await find_object(core, call, bucket, key, reader_of(call))
    )


async def head_public_object(
    core: Core, call: Call, bucket: str, key: str
) -> web.Response:
    """HEAD /object/public/:bucket/*."""
    return _head(core, call, await find_object(core, call, bucket, key, "public"))


async def object_info(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """GET /object/info/:bucket/* and /object/info/authenticated/:bucket/*."""
    return _info(await find_object(core, call, bucket, key, reader_of(call)))


async def public_object_info(
    core: Core, call: Call, bucket: str, key: str
) -> web.Response:
    """GET /object/info/public/:bucket/*."""
    return _info(await find_object(core, call, bucket, key, "public"))


async def send_object(
    core: Core,
    call: Call,
    found: FoundObject,
    *,
    expires: datetime | None = None,
    extra: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer a GET with the object's bytes, a part of them, or 304.

    ``extra`` headers replace the object's own.
    """
    request = call.request
    opened = await core.backend.open(found.ref, found.etag)
    try:
        stored = opened.stored
        headers = asset_headers(core, call, found.metadata, stored)
        if expires is not None:
            headers["Expires"] = http_date(expires)
            del headers["Cache-Control"]
        if extra:
            headers.update(extra)
            check_header_values(extra)
        if is_not_modified(request.headers, stored.etag, stored.modified):
            del headers["Content-Length"]
            return web.Response(status=304, headers=headers)
        start, end, status = 0, stored.size, 200
        if asked := request.headers.get("Range"):
            try:
                start, end = parse_range(asked, stored.size)
            except RemoteProtocolError as exc:
                raise errors.invalid_range() from exc
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
            headers["Content-Length"] = str(end - start)
        if end - start <= INLINE_BYTES and stored.size <= INLINE_BYTES:
            body = await opened.read()
            return web.Response(status=status, headers=headers, body=body[start:end])
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if call.method != "HEAD":
            await opened.send(request, response, start, end)
        await response.write_eof()
        return response
    finally:
        opened.close()


def asset_headers(
    core: Core, call: Call, metadata: dict[str, Any], stored: StoredBytes
) -> dict[str, str]:
    """Return the headers of an object's answer."""
    mime_type = str(metadata.get("mimetype") or "application/octet-stream")
    headers = {
        "Accept-Ranges": "bytes",
        # Stored pages must not run scripts in the service's origin.
        "Content-Type": "text/plain" if "text/html" in mime_type else mime_type,
        "ETag": stored.etag,
        "X-Robots-Tag": str(metadata.get("xRobotsTag") or "none"),
        "Last-Modified": http_date(stored.modified),
        "Content-Length": str(stored.size),
        "Cache-Control": _cache_control(core, call, metadata, stored.etag),
    }
    download = call.query.get("download")
    if download is not None:
        headers["Content-Disposition"] = content_disposition(download)
    check_header_values(headers)
    return headers


def check_header_values(headers: Mapping[str, str]) -> None:
    """Refuse to send a header with a control character in it."""
    for name, value in headers.items():
        if CONTROLS.search(value):
            raise errors.invalid_request(
                f'Invalid character in response header "{name.lower()}": {value[:50]}',
                error="invalid_header_char",
            )


def _cache_control(core: Core, call: Call, metadata: dict[str, Any], etag: str) -> str:
    parts = [str(metadata.get("cacheControl") or "no-cache")]
    if core.settings.response_s_maxage > 0:
        parts.append(f"s-maxage={core.settings.response_s_maxage}")
    known = call.request.headers.get("If-None-Match")
    if known and known != etag:
        head = call.method == "HEAD" and not call.path.startswith("/object/sign/")
        parts.append("must-revalidate" if head else "stale-while-revalidate=30")
    return ", ".join(parts)


def _head(core: Core, call: Call, found: FoundObject) -> web.Response:
    metadata = found.metadata
    stored = StoredBytes(found.etag, found.size, found.row["updated_at"])
    headers = asset_headers(core, call, metadata, stored)
    return web.Response(headers=headers)


def _info(found: FoundObject) -> web.Response:
    row, metadata = found.row, found.metadata
    return json_response(
        {
            "id": str(row["id"]),
            "name": found.ref.name,
            "version": row["version"],
            "bucket_id": found.ref.bucket,
            "size": metadata.get("size"),
            "content_type": metadata.get("mimetype"),
            "cache_control": metadata.get("cacheControl"),
            "etag": metadata.get("eTag"),
            "metadata": raw_json(row["user_metadata"]),
            "last_modified": iso(row["updated_at"]),
            "created_at": iso(row["created_at"]),
        }
    )
