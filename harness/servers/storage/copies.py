"""Copying and moving objects, within a bucket or between two.

Source: storage-api 3.3 and 3.5.  The destination's size and type rules are checked,
which the real service does not do; the ``compat`` setting leaves that out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import asyncpg
import orjson
from aiohttp import web

from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef
from harness.servers.storage.calls import Call, json_response, read_json
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core, iso, object_json, parse_json
from harness.servers.storage.schema import Field, validate
from harness.servers.storage.uploads import (
    Owner,
    decode_user_metadata,
    finish,
    size_limit,
)

__all__ = ["CopyRequest", "copy_object", "copy_one", "move_object"]

COPY: Final = {
    "bucketId": Field("string", required=True),
    "sourceKey": Field("string", required=True),
    "destinationBucket": Field("string"),
    "destinationKey": Field("string", required=True),
    "copyMetadata": Field("boolean", nullable=True),
    "metadata": Field(
        "object",
        fields={"cacheControl": Field("string"), "mimetype": Field("string")},
    ),
}
MOVE: Final = {
    "bucketId": Field("string", required=True, min_length=1),
    "sourceKey": Field("string", required=True),
    "destinationBucket": Field("string"),
    "destinationKey": Field("string", required=True),
}
BEGIN_COPY: Final = (
    f"select state, message, (source).* from {calling('begin_copy', 11)}"
)
BEGIN_MOVE: Final = (
    "select visible, moved, state, message, file_size_limit, allowed_mime_types, "
    "(source).version, (source).metadata "
    f"from {calling('begin_move', 7)}"
)
FINISH_MOVE: Final = f"select moved from {calling('finish_move', 9)}"


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What to copy where.

    Without ``keep_metadata`` the object's metadata is the source's with ``metadata``
    laid over it, and its user metadata is ``user_metadata``.
    """

    source: tuple[str, str]
    target: ObjectRef
    upsert: bool
    keep_metadata: bool = True
    metadata: dict[str, Any] | None = None
    user_metadata: Any = None


async def copy_object(core: Core, call: Call) -> web.Response:
    """POST /object/copy."""
    asked = validate(await read_json(call), COPY)
    bucket, key = asked["bucketId"], asked["destinationKey"]
    target_bucket = asked.get("destinationBucket") or bucket
    keep = asked.get("copyMetadata")
    request = CopyRequest(
        source=(bucket, asked["sourceKey"]),
        target=ObjectRef(target_bucket, key, str(uuid4())),
        upsert=call.header("x-upsert") == "true",
        keep_metadata=keep is None or keep,
        metadata=asked.get("metadata"),
        user_metadata=decode_user_metadata(call.header("x-metadata")),
    )
    row, _ = await copy_one(core, call, request)
    shown = object_json(row)
    return json_response({"Key": f"{target_bucket}/{key}", "Id": shown["id"], **shown})


async def copy_one(
    core: Core, call: Call, request: CopyRequest
) -> tuple[asyncpg.Record, dict[str, Any]]:
    """Copy one object; return the new row and its metadata."""
    target = request.target
    names.check_key(target.name)
    if core.backend.refuses_dot_segments and names.has_dot_segment(target.name):
        raise errors.invalid_key(target.name, " contains dot path segment")
    core.intents.begin(target.version)
    try:
        source = await _begin_copy(core, call, request)
    except BaseException:
        core.intents.forget(target.version)
        raise
    core.faults.hit("copy.permitted")
    try:
        origin = ObjectRef(*request.source, source["version"] or "")
        changed = {} if request.keep_metadata else (request.metadata or {})
        metadata = {**parse_json(source["metadata"]), **changed}
        if target.bucket != origin.bucket or "mimetype" in changed:
            await _check_rules_of(core, target, metadata)
        stored = await core.backend.copy(origin, target)
        core.faults.hit("copy.stored")
        metadata["lastModified"] = iso(stored.modified)
        if stored.etag:
            metadata["eTag"] = stored.etag
        user_metadata = request.user_metadata
        if request.keep_metadata:
            text = source["user_metadata"]
            user_metadata = None if text is None else orjson.loads(text)
        row = await finish(
            core,
            call,
            target,
            Owner.of(call),
            metadata,
            user_metadata=user_metadata,
            upsert=request.upsert,
            lock_timeout="3000ms",
        )
    except BaseException as exc:
        await core.intents.abandon(target, exc)
        raise
    core.faults.hit("copy.recorded")
    return row, metadata


async def _begin_copy(core: Core, call: Call, request: CopyRequest) -> asyncpg.Record:
    target = request.target
    row = await core.connections.row(
        BEGIN_COPY,
        *call.database_settings(),
        *request.source,
        target.bucket,
        target.name,
        call.owner,
        call.owner_id,
        _json_or_null(request.metadata),
        _json_or_null(request.user_metadata),
        request.keep_metadata,
        request.upsert,
        target.version,
    )
    if row["id"] is None:
        raise errors.no_such_key(request.source[1])
    if row["state"] is not None:
        raise errors.from_sqlstate(row["state"], row["message"], target.name)
    return row


async def _check_rules_of(
    core: Core, target: ObjectRef, metadata: dict[str, Any]
) -> None:
    bucket = await core.connections.row(
        "select file_size_limit, allowed_mime_types from storage.buckets where id = $1",
        target.bucket,
    )
    _check_rules(core, target, metadata, bucket)


def _check_rules(
    core: Core, target: ObjectRef, metadata: dict[str, Any], bucket: asyncpg.Record
) -> None:
    """Refuse an object that ``bucket`` would not take as an upload."""
    if core.settings.compat:
        return
    mime_type = str(metadata.get("mimetype") or "application/octet-stream")
    names.check_mime_type(mime_type, bucket["allowed_mime_types"], key=target.name)
    limit = size_limit(core, target.name, bucket["file_size_limit"], standard=False)
    if int(metadata.get("size") or 0) > limit:
        raise errors.entity_too_large()


async def move_object(core: Core, call: Call) -> web.Response:
    """POST /object/move."""
    asked = validate(await read_json(call), MOVE)
    source = (asked["bucketId"], asked["sourceKey"])
    bucket = asked.get("destinationBucket") or asked["bucketId"]
    target = ObjectRef(bucket, asked["destinationKey"], str(uuid4()))
    names.check_key(target.name)
    if core.backend.refuses_dot_segments and names.has_dot_segment(target.name):
        raise errors.invalid_key(target.name, " contains dot path segment")
    core.intents.begin(target.version)
    try:
        row = await _begin_move(core, call, source, target)
    except BaseException:
        core.intents.forget(target.version)
        raise
    core.faults.hit("move.permitted")
    try:
        await _finish_move(core, call, ObjectRef(*source, row["version"]), target, row)
    except BaseException as exc:
        await core.intents.abandon(target, exc)
        raise
    return json_response({"message": "Successfully moved"})


async def _begin_move(
    core: Core, call: Call, source: tuple[str, str], target: ObjectRef
) -> asyncpg.Record:
    row = await core.connections.row(
        BEGIN_MOVE,
        *call.database_settings(),
        *source,
        target.bucket,
        target.name,
        call.owner,
        call.owner_id,
        target.version,
    )
    if row["state"] is not None:
        raise errors.from_sqlstate(row["state"], row["message"], target.name)
    if not row["visible"]:
        raise errors.no_such_key(source[1])
    if not row["moved"]:
        raise errors.no_such_key(source[1])
    return row


async def _finish_move(
    core: Core, call: Call, source: ObjectRef, target: ObjectRef, row: asyncpg.Record
) -> None:
    if source[:2] == target[:2]:
        # Onto itself: nothing to do, but the version was noted.
        await core.intents.removed([target])
        return
    metadata = parse_json(row["metadata"])
    if target.bucket != source.bucket:
        _check_rules(core, target, metadata, row)
    stored = await core.backend.copy(source, target)
    core.faults.hit("move.stored")
    metadata["lastModified"] = iso(stored.modified)
    if stored.etag:
        metadata["eTag"] = stored.etag
    done = await core.connections.row(
        FINISH_MOVE,
        *call.database_settings(),
        *source,
        target.bucket,
        target.name,
        call.owner,
        call.owner_id,
        orjson.dumps(metadata).decode(),
        target.version,
    )
    if not done["moved"]:
        # Somebody moved, replaced or deleted the source in the meantime.
        raise errors.no_such_key(source.name)
    core.intents.forget(target.version)
    core.faults.hit("move.recorded")
    await core.intents.removed([source])
    core.faults.hit("move.removed")


def _json_or_null(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
