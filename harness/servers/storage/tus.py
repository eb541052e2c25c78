"""Resumable uploads over HTTP: the tus routes, plain and signed.

Source: storage-api 3.8.  Refusals are plain text with their real status.  The caller's
permission is tested again at every PATCH and DELETE; the last byte finishes the upload
as a standard one is finished.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from aiohttp import web

from harness.protocols import tus as protocol
from harness.protocols.http_ranges import http_date
from harness.protocols.tus import TusError, UploadId
from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef
from harness.servers.storage.calls import Call
from harness.servers.storage.core import Core
from harness.servers.storage.resumable import Announced, Upload
from harness.servers.storage.staging import body_chunks
from harness.servers.storage.tokens import SERVICE
from harness.servers.storage.uploads import (
    Incoming,
    Owner,
    Permitted,
    continue_if_expected,
    permit,
    store_staged,
)

__all__ = ["options", "resume", "resume_signed", "start_signed_upload", "start_upload"]

MAX_AGE: Final = re.compile(r"-?\d+", re.ASCII)
METHODS: Final = "POST, HEAD, PATCH, OPTIONS, DELETE"
PREFLIGHT_MAX_AGE_S: Final = 86400


@dataclass(frozen=True, slots=True)
class Session:
    """One tus request: who owns what comes, whether it replaces."""

    core: Core
    call: Call
    owner: Owner
    upsert: bool
    signed: bool

    def url(self, upload_id: UploadId) -> str:
        """Return the URL of an upload as this client reaches it."""
        request = self.call.request
        sent = request.headers
        scheme = sent.get("X-Forwarded-Proto") or "http"
        host = request.host
        if named := sent.get("X-Forwarded-Host"):
            port = sent.get("X-Forwarded-Port", "")
            host = named if not port or ":" in named else f"{named}:{port}"
        base = request.raw_path.partition("?")[0].partition("/upload/resumable")[0]
        sign = "/sign" if self.signed else ""
        tail = f"/upload/resumable{sign}/{upload_id.encode()}"
        return f"{scheme}://{host}{base}{tail}"


async def options(core: Core, call: Call, segment: str = "") -> web.Response:
    """OPTIONS, of an upload or of all: what this server can do."""
    return _answer(
        204,
        {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": protocol.ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
            "Tus-Extension": protocol.EXTENSIONS,
            "Tus-Version": protocol.VERSION,
            "Tus-Max-Size": str(core.settings.upload_file_size_limit),
            **_origin(call),
        },
    )


async def start_upload(core: Core, call: Call) -> web.Response:
    """POST /upload/resumable."""
    return await _told(call, lambda: _start(_own_session(core, call)))


async def start_signed_upload(core: Core, call: Call) -> web.Response:
    """POST /upload/resumable/sign, with an x-signature."""

    async def start() -> web.Response:
        creation = _checked_creation(call)
        return await _start(_signed_session(core, call, _target(creation)))

    return await _told(call, start)


async def resume(core: Core, call: Call, segment: str) -> web.Response:
    """HEAD, PATCH or DELETE /upload/resumable/:id."""
    return await _told(call, lambda: _resume(_own_session(core, call), segment))


async def resume_signed(core: Core, call: Call, segment: str) -> web.Response:
    """HEAD, PATCH or DELETE /upload/resumable/sign/:id."""

    async def go_on() -> web.Response:
        upload_id = UploadId.decode(segment)
        return await _resume(_signed_session(core, call, upload_id), segment)

    return await _told(call, go_on)


def _own_session(core: Core, call: Call) -> Session:
    upsert = call.header("x-upsert") == "true"
    return Session(core, call, Owner.of(call), upsert, signed=False)


def _signed_session(core: Core, call: Call, target: UploadId) -> Session:
    token = call.header("x-signature")
    if not token:
        raise errors.invalid_signature("Missing x-signature header")
    url = f"{target.bucket}/{target.key}"
    claims = core.signed_urls.check(token, url, "upload", now=call.now)
    call.caller = SERVICE
    owner_id = str(claims["owner"]) if claims.get("owner") else None
    uid = UUID(owner_id) if owner_id and names.is_uuid(owner_id) else None
    return Session(core, call, Owner(uid, owner_id), bool(claims.get("upsert")), True)


def _checked_creation(call: Call) -> protocol.Creation:
    headers = call.request.headers
    protocol.check_headers(call.method, headers)
    return protocol.parse_creation(headers)


def _target(creation: protocol.Creation) -> UploadId:
    metadata = creation.metadata
    bucket, key = metadata.get("bucketName", ""), metadata.get("objectName", "")
    names.check_key(key)
    if not bucket or "\0" in bucket:
        raise errors.no_such_bucket(bucket)
    return UploadId(bucket, key, str(uuid4()))


async def _start(session: Session) -> web.Response:
    core, call = session.core, session.call
    creation = _checked_creation(call)
    target = _target(creation)
    if core.backend.refuses_dot_segments and names.has_dot_segment(target.key):
        raise errors.invalid_key(target.key, " contains dot path segment")
    permitted = await _permit(session, target, creation.metadata, creation.size)
    if creation.size is not None and creation.size > permitted.limit:
        raise TusError(413, "Maximum size exceeded")
    mime_type = creation.metadata.get("contentType") or "application/octet-stream"
    names.check_mime_type(mime_type, permitted.allowed_mime_types, key=target.key)
    announced = Announced(
        bucket=target.bucket,
        key=target.key,
        version=target.version,
        size=creation.size,
        raw_metadata=creation.raw_metadata,
        created_at=call.now,
        owner_id=session.owner.owner_id,
    )
    headers = {"Location": session.url(target)}
    async with core.resumable.hold(target.version):
        upload = core.resumable.create(announced)
        core.faults.hit("tus.created")
        if creation.carries_body:
            await _receive(session, upload, permitted)
            headers["Upload-Offset"] = str(upload.offset)
        if upload.is_complete:
            await _finish(session, upload)
        else:
            headers["Upload-Expires"] = _expiry(core, announced)
    return _answer(201, headers)


async def _resume(session: Session, segment: str) -> web.Response:
    core, call = session.core, session.call
    protocol.check_headers(call.method, call.request.headers)
    upload_id = UploadId.decode(segment)
    if call.method == "HEAD":
        return await _head(core, upload_id)
    async with core.resumable.hold(upload_id.version):
        if call.method == "DELETE":
            return await _terminate(session, upload_id)
        return await _patch(session, upload_id)


async def _head(core: Core, upload_id: UploadId) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    try:
        upload = core.resumable.find(upload_id)
    except TusError:
        size = await _finished_size(core, upload_id)
        sizes = {"Upload-Offset": str(size), "Upload-Length": str(size)}
        return _answer(200, headers | sizes)
    announced = upload.announced
    _check_expiry(core, announced)
    headers["Upload-Offset"] = str(upload.offset)
    if announced.size is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(announced.size)
    headers["Upload-Metadata"] = announced.raw_metadata
    headers["Upload-Expires"] = _expiry(core, announced)
    return _answer(200, headers)


async def _finished_size(core: Core, upload_id: UploadId) -> int:
    """Return the size of an upload that has become an object."""
    rows = await core.connections.rows(
        "select (metadata ->> 'size')::bigint as size from storage.objects "
        "where bucket_id = $1 and name = $2 and version = $3",
        upload_id.bucket,
        upload_id.key,
        upload_id.version,
    )
    if not rows:
        raise protocol.not_found()
    return int(rows[0]["size"] or 0)


async def _patch(session: Session, upload_id: UploadId) -> web.Response:
    core, call = session.core, session.call
    patch = protocol.parse_patch(call.request.headers)
    upload = await _open(session, upload_id)
    announced = upload.announced
    metadata = protocol.parse_metadata(announced.raw_metadata)
    size = announced.size if announced.size is not None else patch.size
    permitted = await _permit(session, upload_id, metadata, size)
    if patch.offset != upload.offset:
        raise TusError(409, "Upload-Offset conflict")
    if patch.size is not None:
        _declare_size(upload, patch.size, permitted)
    await _receive(session, upload, permitted)
    core.faults.hit("tus.patched")
    headers = {"Upload-Offset": str(upload.offset)}
    if upload.is_complete:
        await _finish(session, upload)
        headers["tus-complete"] = "1"
    else:
        headers["Upload-Expires"] = _expiry(core, announced)
    return _answer(204, headers)


def _declare_size(upload: Upload, size: int, permitted: Permitted) -> None:
    if upload.announced.size is not None or size < upload.offset:
        raise TusError(400, "Upload-Length or Upload-Defer-Length header required")
    if size > permitted.limit:
        raise TusError(413, "Maximum size exceeded")
    upload.declare_size(size)


async def _terminate(session: Session, upload_id: UploadId) -> web.Response:
    core = session.core
    try:
        upload = await _open(session, upload_id)
    except TusError as exc:
        if exc.status == 404:
            await _finished_size(core, upload_id)
            await _permit(session, upload_id, {}, None)
            raise TusError(400, "Cannot terminate an already completed upload") from exc
        raise
    metadata = protocol.parse_metadata(upload.announced.raw_metadata)
    await _permit(session, upload_id, metadata, upload.announced.size)
    core.resumable.forget(upload)
    return _answer(204, {})


async def _open(session: Session, upload_id: UploadId) -> Upload:
    """Return an upload that this caller may go on with."""
    core = session.core
    upload = core.resumable.find(upload_id)
    announced = upload.announced
    _check_expiry(core, announced)
    stranger = announced.owner_id != session.owner.owner_id
    trusted = session.call.caller.role == "service_role" or core.settings.compat
    if stranger and not trusted:
        # A policy may let two users write one folder; an upload still has one author.
        raise errors.access_denied(errors.RLS_MESSAGE)
    return upload


def _check_expiry(core: Core, announced: Announced) -> None:
    age_s = core.project.clock.now().timestamp() - announced.created_at
    if age_s * 1000 > core.settings.tus_url_expiry_ms:
        raise TusError(410, "The file for this url no longer exists")


async def _permit(
    session: Session, target: UploadId, metadata: Mapping[str, str], size: int | None
) -> Permitted:
    """Test the caller's permission; the limit is that of resumable uploads."""
    core = session.core
    incoming = Incoming(
        chunks=body_chunks(session.call.request),
        mime_type=metadata.get("contentType") or "application/octet-stream",
        cache_control="",
        declared_size=size,
        is_form=True,
        user_metadata=_user_metadata(metadata),
    )
    ref = ObjectRef(target.bucket, target.key, target.version)
    return await permit(
        core,
        session.call,
        ref,
        incoming,
        session.owner,
        upsert=session.upsert,
        noted=False,
        standard=False,
    )


async def _receive(session: Session, upload: Upload, permitted: Permitted) -> None:
    request = session.call.request
    size = upload.announced.size
    limit = permitted.limit if size is None else size
    length = request.content_length
    if length is not None and upload.offset + length > limit:
        raise TusError(413, "upload's size exceeded")
    await continue_if_expected(request)
    upload.interrupt = lambda: request.content.set_exception(
        ConnectionResetError("another request goes on with this upload")
    )
    if session.core.resumable.is_wanted(upload.announced.version):
        # It came before there was anything to interrupt.
        upload.interrupt()
    try:
        await upload.append(body_chunks(request), limit)
    except OSError as exc:
        session.core.resumable.reload(upload)
        raise errors.disk_error(exc) from exc
    finally:
        upload.interrupt = None


async def _finish(session: Session, upload: Upload) -> None:
    """Make the complete upload an object."""
    core, call, announced = session.core, session.call, upload.announced
    metadata = protocol.parse_metadata(announced.raw_metadata)
    max_age = metadata.get("cacheControl", "")
    ref = ObjectRef(announced.bucket, announced.key, announced.version)
    staged = await upload.staged(
        metadata.get("contentType") or "application/octet-stream",
        f"max-age={max_age}" if MAX_AGE.fullmatch(max_age) else "no-cache",
    )
    core.intents.begin(ref.version)
    try:
        await core.intents.note(ref)
        core.faults.hit("tus.noted")
        await store_staged(
            core,
            call,
            ref,
            staged,
            session.owner,
            user_metadata=_user_metadata(metadata),
            upsert=session.upsert,
        )
    except BaseException as exc:
        staged.discard()
        core.resumable.reload(upload)
        await core.intents.abandon(ref, exc)
        raise
    core.resumable.forget(upload)


def _user_metadata(metadata: Mapping[str, str]) -> Any:
    text = metadata.get("metadata")
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _expiry(core: Core, announced: Announced) -> str:
    lifetime_s = core.settings.tus_url_expiry_ms / 1000
    return http_date(datetime.fromtimestamp(announced.created_at + lifetime_s, UTC))


def _origin(call: Call) -> dict[str, str]:
    """Return the CORS header; a gateway in front writes its own over it."""
    return {"Access-Control-Allow-Origin": call.header("Origin") or "*"}


async def _told(call: Call, act: Callable[[], Awaitable[web.Response]]) -> web.Response:
    """Answer refusals in plain text with their real status."""
    try:
        response = await act()
    except TusError as exc:
        response = _refused(call, exc.status, str(exc))
    except errors.StorageError as exc:
        response = _refused(call, exc.status, exc.message)
    response.headers.update(_origin(call))
    return response


def _refused(call: Call, status: int, text: str) -> web.Response:
    if call.method == "HEAD":
        return _answer(status, {})
    return _answer(status, {"Content-Type": "text/plain; charset=utf-8"}, text)


def _answer(
    status: int, headers: Mapping[str, str], text: str | None = None
) -> web.Response:
    return web.Response(
        status=status,
        headers={
            "Tus-Resumable": protocol.VERSION,
            "Access-Control-Expose-Headers": protocol.EXPOSED_HEADERS,
            **headers,
        },
        body=None if text is None else text.encode(),
    )
