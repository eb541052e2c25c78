"""S3 multipart calls: create, upload part, copy part, list parts, complete, abort.

Source: storage-api 3.9.  The caller's permission is tested at every step.
"""

from __future__ import annotations

import itertools
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from harness.errors import RemoteProtocolError
from harness.protocols import s3_xml
from harness.protocols.http_ranges import parse_range
from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef, Staged
from harness.servers.storage.calls import Call, read_body
from harness.servers.storage.core import Core
from harness.servers.storage.multipart import Part, PendingUpload
from harness.servers.storage.reads import find_object
from harness.servers.storage.s3_answers import document, s3_time
from harness.servers.storage.s3_auth import S3Caller
from harness.servers.storage.s3_objects import (
    only_if_absent,
    parse_copy_source,
    user_metadata_of,
)
from harness.servers.storage.staging import body_chunks
from harness.servers.storage.uploads import (
    Incoming,
    Owner,
    Permitted,
    continue_if_expected,
    permit,
    store_staged,
)

__all__ = [
    "abort_upload",
    "complete_upload",
    "create_upload",
    "list_parts",
    "upload_part",
    "upload_part_copy",
]

COMPLETE_BODY_LIMIT: Final = 4 * 1024 * 1024
MAX_PARTS: Final = 10_000
MAX_LISTED_PARTS: Final = 1000


async def create_upload(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """POST /:bucket/*?uploads: CreateMultipartUpload."""
    names.check_key(key)
    if core.backend.refuses_dot_segments and names.has_dot_segment(key):
        raise errors.invalid_key(key, " contains dot path segment")
    mime_type = call.header("Content-Type") or "application/octet-stream"
    user_metadata = user_metadata_of(call.request.headers) or None
    permitted = await _permit(core, call, bucket, key, mime_type, user_metadata)
    names.check_mime_type(mime_type, permitted.allowed_mime_types, key=key)
    metadata = {
        "mimetype": mime_type,
        "cacheControl": call.header("Cache-Control", "no-cache"),
    }
    upload_id = await core.multipart.create(
        bucket, key, str(uuid4()), call.owner_id, metadata, user_metadata
    )
    core.faults.hit("multipart.created")
    return document(
        "InitiateMultipartUploadResult",
        {"Bucket": bucket, "Key": key, "UploadId": upload_id},
    )


async def upload_part(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """PUT /:bucket/*?partNumber&uploadId: UploadPart."""
    number, pending = await _part_of(core, call, bucket, key)
    size = signed.declared_size(call)
    if size is None:
        raise errors.missing_content_length()
    permitted = await _permit_pending(core, call, pending)
    if size > permitted.limit:
        raise errors.entity_too_large()
    await continue_if_expected(call.request)
    sha256 = "" if core.settings.compat else signed.payload_sha256
    staged = await core.stager.receive(signed.body(call), size, sha256=sha256)
    if staged.size != size:
        staged.discard()
        raise errors.no_content("The part is shorter than its Content-Length")
    await _keep_part(core, call, pending, number, staged, permitted.limit)
    return web.Response(headers={"ETag": staged.etag})


async def upload_part_copy(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """PUT with x-amz-copy-source: UploadPartCopy, of a range or of all."""
    number, pending = await _part_of(core, call, bucket, key)
    permitted = await _permit_pending(core, call, pending)
    source = await find_object(core, call, *parse_copy_source(call), "strict")
    opened = await core.backend.open(source.ref, source.etag)
    try:
        start, end = 0, opened.stored.size
        if asked := call.header("x-amz-copy-source-range"):
            try:
                start, end = parse_range(asked, opened.stored.size)
            except RemoteProtocolError as exc:
                raise errors.invalid_range() from exc
        staged = await core.stager.receive(opened.chunks(start, end), permitted.limit)
    finally:
        opened.close()
    await _keep_part(core, call, pending, number, staged, permitted.limit)
    modified = s3_time(source.row["updated_at"])
    return document("CopyPartResult", {"ETag": staged.etag, "LastModified": modified})


async def list_parts(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """GET /:bucket/*?uploadId: ListParts."""
    query = call.query
    pending = await core.multipart.find(query["uploadId"], bucket, key)
    await _permit_pending(core, call, pending)
    limit = min(_number(query.get("max-parts"), MAX_LISTED_PARTS), MAX_LISTED_PARTS)
    after = _number(query.get("part-number-marker"), 0)
    rows = [
        row
        for row in await core.multipart.parts(pending.upload_id)
        if row["part_number"] > after
    ]
    shown, more = rows[:limit], len(rows) > limit
    return document(
        "ListPartsResult",
        {
            "Bucket": bucket,
            "Key": key,
            "UploadId": pending.upload_id,
            "PartNumberMarker": after,
            "NextPartNumberMarker": shown[-1]["part_number"] if more else None,
            "MaxParts": limit,
            "IsTruncated": more,
            "StorageClass": "STANDARD",
            "Part": [
                {
                    "PartNumber": row["part_number"],
                    "LastModified": s3_time(row["created_at"]),
                    "ETag": f'"{row["etag"]}"',
                    "Size": row["size"],
                }
                for row in shown
            ],
        },
    )


async def complete_upload(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """POST /:bucket/*?uploadId: CompleteMultipartUpload."""
    body = await read_body(call.request, COMPLETE_BODY_LIMIT)
    try:
        asked = s3_xml.parse_complete(body)
    except RemoteProtocolError as exc:
        raise errors.StorageError("MalformedXML", str(exc), 400) from exc
    upload_id = call.query["uploadId"]
    async with core.multipart.finishing(upload_id):
        pending = await core.multipart.find(upload_id, bucket, key)
        permitted = await _permit_pending(core, call, pending)
        parts = await _chosen_parts(core, pending, asked)
        if sum(part.size for part in parts) > permitted.limit:
            raise errors.entity_too_large()
        staged = await core.multipart.join(pending, parts)
        core.faults.hit("multipart.joined")
        with only_if_absent(core, call) as upsert:
            metadata = await _finish(core, call, pending, staged, upsert=upsert)
        core.faults.hit("multipart.completed")
        await core.multipart.remove(pending)
    return document(
        "CompleteMultipartUploadResult",
        {
            "Location": f"{core.project.public_url}/storage/v1/s3/{bucket}/{key}",
            "Bucket": bucket,
            "Key": key,
            "ETag": metadata["eTag"],
        },
    )


async def abort_upload(
    core: Core, call: Call, signed: S3Caller, bucket: str, key: str
) -> web.Response:
    """DELETE /:bucket/*?uploadId: AbortMultipartUpload; the real one answers 200."""
    upload_id = call.query["uploadId"]
    async with core.multipart.finishing(upload_id):
        pending = await core.multipart.find(upload_id, bucket, key)
        await _permit_pending(core, call, pending)
        await core.multipart.remove(pending)
    return web.Response()


async def _finish(
    core: Core, call: Call, pending: PendingUpload, staged: Staged, *, upsert: bool
) -> dict[str, Any]:
    staged.mime_type = pending.metadata.get("mimetype", staged.mime_type)
    staged.cache_control = pending.metadata.get("cacheControl", staged.cache_control)
    ref = ObjectRef(pending.bucket, pending.key, pending.version)
    core.intents.begin(ref.version)
    try:
        await core.intents.note(ref)
        _, metadata = await store_staged(
            core,
            call,
            ref,
            staged,
            Owner.of(call),
            user_metadata=pending.user_metadata or {},
            upsert=upsert,
        )
    except BaseException as exc:
        staged.discard()
        await core.intents.abandon(ref, exc)
        raise
    return metadata


async def _chosen_parts(
    core: Core, pending: PendingUpload, asked: list[tuple[int, str]]
) -> list[Part]:
    """Return the parts to join: those asked for, or all when none are."""
    rows = await core.multipart.parts(pending.upload_id)
    stored = {
        row["part_number"]: Part(
            str(row["id"]), row["part_number"], row["size"], row["etag"]
        )
        for row in rows
    }
    if not asked:
        if not stored:
            raise errors.missing_part(1, pending.upload_id)
        return list(stored.values())
    numbers = [number for number, _ in asked]
    if any(second <= first for first, second in itertools.pairwise(numbers)):
        raise errors.StorageError(
            "InvalidPartOrder",
            "The list of parts was not in ascending order",
            400,
        )
    chosen: list[Part] = []
    for number, etag in asked:
        part = stored.get(number)
        if part is None:
            raise errors.missing_part(number, pending.upload_id)
        if etag.strip('"') != part.etag:
            raise errors.invalid_checksum(f"Invalid ETag for part {number}")
        chosen.append(part)
    return chosen


async def _keep_part(
    core: Core,
    call: Call,
    pending: PendingUpload,
    number: int,
    staged: Staged,
    limit: int,
) -> None:
    size, etag = staged.size, staged.md5_hex
    try:
        part_id = await core.multipart.keep(pending, staged)
    except BaseException:
        staged.discard()
        raise
    core.faults.hit("multipart.part_stored")
    part = Part(part_id, number, size, etag)
    try:
        await core.multipart.record(pending, part, call.owner_id, limit)
    except BaseException:
        core.multipart.discard(pending, [part_id])
        raise
    core.faults.hit("multipart.part_recorded")


async def _part_of(
    core: Core, call: Call, bucket: str, key: str
) -> tuple[int, PendingUpload]:
    query = call.query
    number = _number(query.get("partNumber"), 0)
    if not 1 <= number <= MAX_PARTS:
        raise errors.invalid_parameter("partNumber")
    return number, await core.multipart.find(query["uploadId"], bucket, key)


async def _permit_pending(core: Core, call: Call, pending: PendingUpload) -> Permitted:
    mime_type = pending.metadata.get("mimetype", "application/octet-stream")
    return await _permit(
        core, call, pending.bucket, pending.key, mime_type, pending.user_metadata
    )


async def _permit(
    core: Core, call: Call, bucket: str, key: str, mime_type: str, user_metadata: Any
) -> Permitted:
    incoming = Incoming(
        chunks=body_chunks(call.request),
        mime_type=mime_type,
        cache_control="",
        declared_size=None,
        is_form=True,
        user_metadata=user_metadata,
    )
    return await permit(
        core,
        call,
        ObjectRef(bucket, key, ""),
        incoming,
        Owner.of(call),
        upsert=True,
        noted=False,
        standard=False,
    )


def _number(text: str | None, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise errors.invalid_parameter("number", f"Invalid number: {text[:20]}")
    return int(text)
