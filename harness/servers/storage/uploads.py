"""Standard uploads: a body becomes an object, or nothing changes.

Source: storage-api 3.2, 3.3 and 3.5.  The order is: permission as the caller (rolled
back), bytes, row as service_role.  The first transaction also notes the version, the
second takes the note off, so that a crash in between leaves nothing behind.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import orjson
from aiohttp import web

from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef, Staged, StoredBytes
from harness.servers.storage.calls import Call, json_response
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core, iso
from harness.servers.storage.robots import check_x_robots_tag
from harness.servers.storage.staging import BODY_ERRORS, body_chunks, stage_bytes

__all__ = [
    "Incoming",
    "Owner",
    "Permitted",
    "continue_if_expected",
    "finish",
    "metadata_of",
    "permit",
    "read_incoming",
    "size_limit",
    "store_staged",
    "upload_object",
]

USER_METADATA_LIMIT: Final = 1024 * 1024
IN_MEMORY: Final = 64 * 1024
FORM_FIELD_LIMIT: Final = 2 * 1024 * 1024

BEGIN: Final = f"select * from {calling('begin_upload', 8)}"
FINISH: Final = (
    f"select conflict, old_version, (stored).* from {calling('finish_upload', 9)}"
)


@dataclass(slots=True)
class Incoming:
    """What a request says about the body it carries.

    ``raw`` is where the very bytes come from, when nothing has to be taken off them;
    ``whole`` is all of them, when they came together with the head.
    """

    chunks: AsyncIterator[bytes]
    mime_type: str
    cache_control: str
    declared_size: int | None
    is_form: bool
    user_metadata: Any = None
    x_robots_tag: str | None = None
    sha256: str = ""
    raw: aiohttp.StreamReader | None = None
    whole: bytes | None = None


@dataclass(frozen=True, slots=True)
class Permitted:
    """A write that the caller may do, and the bucket's rules for it."""

    ref: ObjectRef
    limit: int
    allowed_mime_types: list[str] | None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose object it will be."""

    owner: UUID | None
    owner_id: str | None

    @classmethod
    def of(cls, call: Call) -> Owner:
        """Return the caller of ``call`` as owner."""
        return cls(call.owner, call.owner_id)


async def upload_object(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """POST or PUT /object/:bucket/* (PUT always replaces)."""
    upsert = call.method == "PUT" or call.header("x-upsert") == "true"
    incoming = await read_incoming(call)
    row, _ = await receive_and_store(
        core,
        call,
        ObjectRef(bucket, key, str(uuid4())),
        incoming,
        Owner.of(call),
        upsert,
    )
    return json_response({"Key": f"{bucket}/{key}", "Id": str(row["id"])})


async def receive_and_store(
    core: Core,
    call: Call,
    ref: ObjectRef,
    incoming: Incoming,
    owner: Owner,
    upsert: bool,
) -> tuple[asyncpg.Record, dict[str, Any]]:
    """Do a whole upload; return the new row and its metadata."""
    names.check_key(ref.name)
    core.intents.begin(ref.version)
    try:
        permitted = await permit(core, call, ref, incoming, owner, upsert=upsert)
    except BaseException:
        core.intents.forget(ref.version)
        raise
    core.faults.hit("upload.permitted")
    staged: Staged | None = None
    try:
        check_incoming(incoming, permitted)
        limit = permitted.limit
        if core.settings.compat and not incoming.is_form:
            limit = core.settings.upload_file_size_limit
        staged = await _receive(core, incoming, limit)
        staged.mime_type, staged.cache_control = (
            incoming.mime_type,
            incoming.cache_control,
        )
        core.faults.hit("upload.staged")
        return await store_staged(
            core,
            call,
            ref,
            staged,
            owner,
            user_metadata=incoming.user_metadata or {},
            upsert=upsert,
            x_robots_tag=incoming.x_robots_tag,
        )
    except BaseException as exc:
        if staged is not None:
            staged.discard()
        await core.intents.abandon(ref, exc)
        raise


async def _receive(core: Core, incoming: Incoming, limit: int) -> Staged:
    raw = incoming.raw
    small = (incoming.declared_size or 0) <= IN_MEMORY
    if incoming.whole is not None and small:
        return await stage_bytes(incoming.whole)
    if raw is not None and small and raw.is_eof() and raw.exception() is None:
        # All of a small body is here by now.
        return await stage_bytes(raw.read_nowait(-1))
    sha256 = "" if core.settings.compat else incoming.sha256
    return await core.stager.receive(incoming.chunks, limit, sha256=sha256)


async def read_incoming(call: Call) -> Incoming:
    """Read what comes before the bytes: headers, or form fields up to the file."""
    request = call.request
    await continue_if_expected(request)
    content_type = call.header("Content-Type")
    if content_type.startswith("multipart/form-data"):
        incoming = await _read_form(call)
    else:
        whole: bytes | None = getattr(request, "whole_body", None)
        streamed = whole is None and request.content_length is not None
        incoming = Incoming(
            chunks=body_chunks(request),
            mime_type=content_type or "application/octet-stream",
            cache_control=call.header("Cache-Control", "no-cache"),
            declared_size=request.content_length,
            is_form=False,
            user_metadata=decode_user_metadata(call.header("x-metadata")),
            raw=request.content if streamed else None,
            whole=whole,
        )
    incoming.x_robots_tag = call.header("x-robots-tag") or None
    return incoming


async def continue_if_expected(request: web.BaseRequest) -> None:
    """Tell a client that waits for it that the body may come."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        transport = request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def permit(
    core: Core,
    call: Call,
    ref: ObjectRef,
    incoming: Incoming,
    owner: Owner,
    *,
    upsert: bool,
    noted: bool = True,
    standard: bool = True,
    bucket_looked_up: bool = True,
) -> Permitted:
    """Ask the database whether the caller may write ``ref``.

    ``noted`` notes the version in the intents.  Without ``bucket_looked_up`` a missing
    bucket is what the database says of a row in it.  A refusal comes in the order of
    the real service: bucket, form of the headers, type, size, policy.
    """
    metadata: dict[str, Any] = {"mimetype": incoming.mime_type}
    if incoming.declared_size is not None:
        metadata["contentLength"] = incoming.declared_size
    row = await core.connections.row(
        BEGIN,
        *call.database_settings(),
        ref.bucket,
        ref.name,
        owner.owner,
        owner.owner_id,
        orjson.dumps(metadata).decode(),
        _json_text(incoming.user_metadata),
        upsert,
        ref.version if noted else None,
    )
    if not row["bucket_found"] and (bucket_looked_up or row["state"] is None):
        raise errors.no_such_bucket(ref.bucket)
    limit = size_limit(core, ref.name, row["file_size_limit"], standard=standard)
    permitted = Permitted(ref, limit, row["allowed_mime_types"])
    if row["state"] is not None:
        check_incoming(incoming, permitted)
        raise errors.from_sqlstate(row["state"], row["message"], ref.name)
    return permitted


def check_incoming(incoming: Incoming, permitted: Permitted) -> None:
    """Refuse what the bucket does not take, and a key the backend cannot keep."""
    if incoming.x_robots_tag:
        check_x_robots_tag(incoming.x_robots_tag)
    names.check_mime_type(
        incoming.mime_type, permitted.allowed_mime_types, key=permitted.ref.name
    )
    declared = incoming.declared_size
    if not incoming.is_form and declared is not None and declared > permitted.limit:
        raise errors.entity_too_large()


def size_limit(
    core: Core, key: str, bucket_limit: int | None, *, standard: bool = True
) -> int:
    """Return how many bytes an object may have; 0 for an empty-folder placeholder."""
    if names.is_empty_folder(key):
        return 0
    settings = core.settings
    limit = settings.upload_file_size_limit
    if bucket_limit is not None:
        limit = min(limit, bucket_limit)
    if standard and settings.upload_file_size_limit_standard > 0:
        limit = min(limit, settings.upload_file_size_limit_standard)
    return limit


async def store_staged(
    core: Core,
    call: Call,
    ref: ObjectRef,
    staged: Staged,
    owner: Owner,
    *,
    user_metadata: Any,
    upsert: bool,
    x_robots_tag: str | None = None,
) -> tuple[asyncpg.Record, dict[str, Any]]:
    """Keep the bytes, then give them their row, then remove what they replace."""
    if core.backend.refuses_dot_segments and names.has_dot_segment(ref.name):
        raise errors.invalid_key(ref.name, " contains dot path segment")
    stored = await core.backend.store(ref, staged)
    core.faults.hit("upload.stored")
    metadata = metadata_of(stored, staged.mime_type, staged.cache_control)
    if x_robots_tag:
        metadata["xRobotsTag"] = x_robots_tag
    row = await finish(
        core, call, ref, owner, metadata, user_metadata=user_metadata, upsert=upsert
    )
    return row, metadata


async def finish(
    core: Core,
    call: Call,
    ref: ObjectRef,
    owner: Owner,
    metadata: Mapping[str, Any],
    *,
    user_metadata: Any,
    upsert: bool,
    lock_timeout: str = "5000ms",
) -> asyncpg.Record:
    """Write the row of stored bytes as service_role; remove the bytes it replaces."""
    row = await core.connections.row(
        FINISH,
        *call.database_settings(),
        ref.bucket,
        ref.name,
        owner.owner,
        owner.owner_id,
        orjson.dumps(metadata).decode(),
        _json_text(user_metadata),
        upsert,
        ref.version,
        lock_timeout,
    )
    if row["conflict"]:
        raise errors.key_exists(ref.name)
    core.intents.forget(ref.version)
    core.faults.hit("upload.recorded")
    if row["old_version"] is not None:
        old = ObjectRef(ref.bucket, ref.name, row["old_version"])
        await core.intents.removed([old])
        core.faults.hit("upload.replaced")
    return row


def metadata_of(
    stored: StoredBytes, mime_type: str, cache_control: str
) -> dict[str, Any]:
    """Return the metadata column of stored bytes."""
    return {
        "eTag": stored.etag,
        "size": stored.size,
        "mimetype": mime_type,
        "cacheControl": cache_control,
        "lastModified": iso(stored.modified or datetime.now(UTC)),
        "contentLength": stored.size,
        "httpStatusCode": 200,
    }


def decode_user_metadata(header: str) -> Any:
    """Return the JSON in an x-metadata header; what cannot be read is ignored."""
    if not header:
        return None
    try:
        padded = header + "=" * (-len(header) % 4)
        text = base64.b64decode(padded.translate(URL_SAFE), validate=False)
        return orjson.loads(text)
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        return None


URL_SAFE: Final = str.maketrans("-_", "+/")


async def _read_form(call: Call) -> Incoming:
    """Read form fields up to the first file; later fields are not seen."""
    request = call.request
    fields: dict[str, str] = {}
    try:
        reader = aiohttp.MultipartReader(request.headers, request.content)
        while (part := await reader.next()) is not None:
            if not isinstance(part, aiohttp.BodyPartReader):
                continue
            part_type = part.headers.get("Content-Type", "")
            if part.filename is not None or part_type == "application/octet-stream":
                return _form_file(part, part_type, fields)
            data = await part.read()
            if len(data) > FORM_FIELD_LIMIT:
                raise errors.entity_too_large("user_metadata")
            fields[part.name or ""] = data.decode("utf-8", "replace")
    except (ValueError, AssertionError, *BODY_ERRORS) as exc:
        raise errors.no_content(str(exc) or "No content provided") from exc
    raise errors.no_content()


def _form_file(
    part: aiohttp.BodyPartReader, part_type: str, fields: Mapping[str, str]
) -> Incoming:
    text = fields.get("metadata", fields.get("userMetadata"))
    user_metadata = None
    if text is not None:
        if len(text.encode()) > USER_METADATA_LIMIT:
            raise errors.entity_too_large("user_metadata")
        try:
            user_metadata = orjson.loads(text)
        except orjson.JSONDecodeError:
            user_metadata = None
    max_age = fields.get("cacheControl")
    return Incoming(
        chunks=_part_chunks(part),
        mime_type=fields.get("contentType") or part_type or "application/octet-stream",
        cache_control=f"max-age={max_age}" if max_age else "no-cache",
        declared_size=None,
        is_form=True,
        user_metadata=user_metadata,
    )


async def _part_chunks(part: aiohttp.BodyPartReader) -> AsyncIterator[bytes]:
    try:
        while chunk := await part.read_chunk(64 * 1024):
            yield bytes(chunk)
        if not part.at_eof():
            raise errors.no_content("Unexpected end of form")
    except (ValueError, AssertionError, *BODY_ERRORS) as exc:
        reason = "Request stream closed before upload could complete"
        raise errors.no_content(reason) from exc


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, list):
        # The real service's driver sends a JSON array as a PostgreSQL one.
        raise errors.invalid_parameter("metadata", "invalid input syntax for type json")
    text = orjson.dumps(value).decode()
    if "\\u0000" in text:
        raise errors.invalid_parameter(
            "metadata", "unsupported Unicode escape sequence"
        )
    return text
