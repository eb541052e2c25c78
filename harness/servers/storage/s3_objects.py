"""S3 calls about objects: put, copy, get, head, delete, tags, form upload.

Source: storage-api 3.9.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import aiohttp
from aiohttp import web

from harness.errors import RemoteProtocolError
from harness.protocols import s3_xml
from harness.protocols.http_ranges import http_date
from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef
from harness.servers.storage.calls import Call, read_body
from harness.servers.storage.copies import CopyRequest, copy_one
from harness.servers.storage.core import Core, parse_json
from harness.servers.storage.deletes import remove_object, remove_objects
from harness.servers.storage.reads import FoundObject, find_object, send_object
from harness.servers.storage.s3_answers import document, js_date, s3_time
from harness.servers.storage.s3_auth import S3Caller, authorize_form
from harness.servers.storage.s3_buckets import require_any_bucket
from harness.servers.storage.staging import BODY_ERRORS
from harness.servers.storage.uploads import (
    Incoming,
    Owner,
    continue_if_expected,
    receive_and_store,
)

__all__ = [
    "copy_object",
    "delete_object",
    "delete_objects",
    "get_object",
    "get_tagging",
    "head_object",
    "only_if_absent",
    "parse_copy_source",
    "post_object",
    "put_object",
    "user_metadata_of",
]

DELETE_BODY_LIMIT: Final = 4 * 1024 * 1024
FORM_FIELD_LIMIT: Final = 1024 * 1024
MAX_DELETED: Final = 1000
OVERRIDES: Final = {
    "response-content-type": "Content-Type",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-cache-control": "Cache-Control",
    "response-expires": "Expires",
}


async def put_object(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """PUT /:bucket/*: PutObject; replaces, unless it must not."""
    size = signed.declared_size(call)
    if key.endswith("/") and size == 0:
        # An empty object that names a folder becomes the folder's placeholder.
        key += names.EMPTY_FOLDER
    incoming = Incoming(
        chunks=signed.body(call),
        mime_type=call.header("Content-Type") or "application/octet-stream",
        cache_control=call.header("Cache-Control", "no-cache"),
        declared_size=size,
        is_form=False,
        user_metadata=user_metadata_of(call.request.headers) or None,
        sha256=signed.payload_sha256,
    )
    await continue_if_expected(call.request)
    ref = ObjectRef(bucket, key, str(uuid4()))
    with only_if_absent(core, call) as upsert:
        _, metadata = await receive_and_store(
            core, call, ref, incoming, Owner.of(call), upsert
        )
    return web.Response(headers={"ETag": metadata["eTag"]})


@contextmanager
def only_if_absent(core: Core, call: Call) -> Iterator[bool]:
    """Tell whether a write may replace an object: not with ``If-None-Match: *``.

    The real service passes over that header, and so replaces what it must not.
    """
    absent = call.header("If-None-Match").strip() == "*" and not core.settings.compat
    try:
        yield not absent
    except errors.StorageError as exc:
        if absent and exc.code in ("KeyAlreadyExists", "ResourceAlreadyExists"):
            raise errors.precondition_failed() from exc
        raise


async def copy_object(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """PUT /:bucket/* with x-amz-copy-source: CopyObject; always replaces."""
    replace = call.header("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    metadata = None
    if replace:
        metadata = {
            "mimetype": call.header("Content-Type") or "application/octet-stream",
            "cacheControl": call.header("Cache-Control", "no-cache"),
        }
    request = CopyRequest(
        source=parse_copy_source(call),
        target=ObjectRef(bucket, key, str(uuid4())),
        upsert=True,
        keep_metadata=not replace,
        metadata=metadata,
        user_metadata=user_metadata_of(call.request.headers) if replace else None,
    )
    row, stored = await copy_one(core, call, request)
    return document(
        "CopyObjectResult",
        {"ETag": stored.get("eTag"), "LastModified": s3_time(row["updated_at"])},
    )


def parse_copy_source(call: Call) -> tuple[str, str]:
    """Return (bucket, key) of x-amz-copy-source."""
    header = call.header("x-amz-copy-source").partition("?")[0]
    bucket, _, key = unquote(header).removeprefix("/").partition("/")
    if not bucket or not key or "\0" in bucket or "\0" in key:
        raise errors.missing_parameter("CopySource")
    return bucket, key


async def get_object(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.StreamResponse:
    """GET /:bucket/*: GetObject."""
    found = await _find(core, call, bucket, key)
    query = call.query
    extra = {header: query[name] for name, header in OVERRIDES.items() if name in query}
    if "Expires" in extra:
        try:
            parsedate_to_datetime(extra["Expires"])
        except ValueError as exc:
            raise errors.invalid_parameter("response-expires") from exc
    extra |= _metadata_headers(found)
    return await send_object(core, call, found, extra=extra)


async def head_object(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """HEAD /:bucket/*: HeadObject, from the row alone."""
    found = await _find(core, call, bucket, key)
    row, metadata = found.row, found.metadata
    headers = {
        "created-at": js_date(row["created_at"].astimezone(UTC)),
        "Cache-Control": str(metadata.get("cacheControl") or "no-cache"),
        "Content-Length": str(found.size),
        "Content-Type": str(metadata.get("mimetype") or "application/octet-stream"),
        "ETag": found.etag,
        "Last-Modified": http_date(row["updated_at"]),
        "Accept-Ranges": "bytes",
        **_metadata_headers(found),
    }
    return web.Response(headers=headers)


async def get_tagging(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """GET /:bucket/*?tagging: no object has tags."""
    await _find(core, call, bucket, key)
    return document("Tagging", {"TagSet": ""})


async def delete_object(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """DELETE /:bucket/*: DeleteObject; a missing object is as good as deleted."""
    await require_any_bucket(core, bucket)
    try:
        await remove_object(core, call, bucket, key)
    except errors.StorageError as exc:
        if exc.code != "NoSuchKey":
            raise
    return web.Response(status=204)


async def delete_objects(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """POST /:bucket?delete: DeleteObjects; each key has its own outcome."""
    body = await read_body(call.request, DELETE_BODY_LIMIT)
    try:
        asked = s3_xml.parse_delete(body)
    except RemoteProtocolError as exc:
        raise errors.StorageError("MalformedXML", str(exc), 400) from exc
    if not asked.keys or len(asked.keys) > MAX_DELETED:
        raise errors.StorageError(
            "MalformedXML", f"1 to {MAX_DELETED} objects can be deleted at once", 400
        )
    await require_any_bucket(core, bucket)
    keys = list(dict.fromkeys(asked.keys))
    gone = {row["name"] for row in await remove_objects(core, call, bucket, keys)}
    rest = [key for key in keys if key not in gone]
    kept: set[str] = set()
    if rest:
        rows = await core.connections.rows(
            "select name from storage.objects where bucket_id = $1 and name = any($2)",
            bucket,
            rest,
        )
        kept = {row["name"] for row in rows}
    denied = [
        {"Key": key, "Code": "AccessDenied", "Message": "Access Denied"}
        for key in rest
        if key in kept
    ]
    deleted = [{"Key": key} for key in keys if key not in kept]
    return document(
        "DeleteResult", {"Deleted": [] if asked.quiet else deleted, "Error": denied}
    )


async def post_object(core: Core, call: Call, bucket: str) -> web.Response:
    """POST /:bucket with a form: upload under a signed policy."""
    await continue_if_expected(call.request)
    fields: dict[str, str] = {}
    try:
        reader = aiohttp.MultipartReader(call.request.headers, call.request.content)
        while (part := await reader.next()) is not None:
            if not isinstance(part, aiohttp.BodyPartReader):
                continue
            if part.filename is not None or part.name == "file":
                return await _post_file(core, call, bucket, fields, part)
            data = await part.read()
            if len(data) > FORM_FIELD_LIMIT:
                raise errors.entity_too_large("form field")
            name = (part.name or "").lower()
            if name in fields:
                raise errors.invalid_signature(
                    "Duplicate form field in POST policy request"
                )
            fields[name] = data.decode("utf-8", "replace")
    except (ValueError, AssertionError, *BODY_ERRORS) as exc:
        raise errors.no_content("The form could not be read") from exc
    authorize_form(core, call, fields, bucket)
    raise errors.no_content()


async def _post_file(
    core: Core,
    call: Call,
    bucket: str,
    fields: Mapping[str, str],
    part: aiohttp.BodyPartReader,
) -> web.Response:
    policy = authorize_form(core, call, fields, bucket)
    key = fields.get("key", "").replace("${filename}", part.filename or "")
    meta = "x-amz-meta-"
    metadata = {k[len(meta) :]: v for k, v in fields.items() if k.startswith(meta)}
    incoming = Incoming(
        chunks=_limited(part, policy.size_range, enforced=not core.settings.compat),
        mime_type=fields.get("content-type")
        or part.headers.get("Content-Type")
        or "application/octet-stream",
        cache_control=fields.get("cache-control") or "no-cache",
        declared_size=None,
        is_form=True,
        user_metadata=metadata or None,
    )
    ref = ObjectRef(bucket, key, str(uuid4()))
    _, stored = await receive_and_store(
        core, call, ref, incoming, Owner.of(call), upsert=True
    )
    etag = {"ETag": stored["eTag"]}
    wanted = fields.get("success_action_status")
    if wanted == "201":
        content = {"Bucket": bucket, "Key": key, "ETag": stored["eTag"]}
        return document("PostResponse", content, status=201, headers=etag)
    return web.Response(status=204 if wanted == "204" else 200, headers=etag)


async def _limited(
    part: aiohttp.BodyPartReader, bounds: tuple[int, int] | None, *, enforced: bool
) -> AsyncIterator[bytes]:
    """Yield a file part's bytes; refuse what the policy's length range excludes."""
    size = 0
    try:
        while chunk := await part.read_chunk(64 * 1024):
            size += len(chunk)
            if bounds and enforced and size > bounds[1]:
                raise errors.entity_too_large()
            yield bytes(chunk)
        if not part.at_eof():
            raise errors.no_content("Unexpected end of form")
    except (ValueError, AssertionError, *BODY_ERRORS) as exc:
        reason = "Request stream closed before upload could complete"
        raise errors.no_content(reason) from exc
    if bounds and enforced and size < bounds[0]:
        raise errors.StorageError(
            "EntityTooSmall", "The object is smaller than the policy allows", 400
        )


def user_metadata_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the x-amz-meta-* headers of a request, without their prefix."""
    return {
        name.lower().removeprefix("x-amz-meta-"): value
        for name, value in headers.items()
        if name.lower().startswith("x-amz-meta-")
    }


def _metadata_headers(found: FoundObject) -> dict[str, str]:
    """Return user metadata as headers; what no header can carry is only counted."""
    headers: dict[str, str] = {}
    missing = 0
    for name, value in parse_json(found.row["user_metadata"]).items():
        text = value if isinstance(value, str) else ""
        printable = text.isascii() and text.isprintable() and text.strip() == text
        if isinstance(value, str) and printable and name.isascii() and _token(name):
            headers[f"x-amz-meta-{name.lower()}"] = text
        else:
            missing += 1
    if missing:
        headers["x-amz-missing-meta"] = str(missing)
    return headers


def _token(name: str) -> bool:
    return bool(name) and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)


async def _find(core: Core, call: Call, bucket: str, key: str) -> FoundObject:
    """Return an object as the caller sees it, public bucket or not."""
    try:
        return await find_object(core, call, bucket, key, "strict")
    except errors.StorageError as exc:
        if exc.code == "NoSuchBucket":
            raise errors.no_such_key(key) from exc
        raise
