"""Which S3 call a request is: by method, level of the path, query and headers.

Source: storage-api 3.9.  A sub-resource that is not served falls through to the plain
call of its method and level, as in the real service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from harness.servers.storage import errors
from harness.servers.storage import s3_buckets as buckets
from harness.servers.storage import s3_listing as listing
from harness.servers.storage import s3_multipart as multipart
from harness.servers.storage import s3_objects as objects
from harness.servers.storage.calls import Call, decode_path
from harness.servers.storage.core import Core
from harness.servers.storage.s3_answers import refusal
from harness.servers.storage.s3_auth import authorize

__all__ = ["handle_s3"]

Handler = Callable[..., Awaitable[web.StreamResponse]]
Entry = tuple[tuple[str, ...], str, Handler, str]

# (query keys that must be there, header that must be there, handler, operation)
BUCKET_CALLS: Final[dict[str, tuple[Entry, ...]]] = {
    "GET": (
        (("location",), "", buckets.get_location, "bucket.get_location"),
        (("versioning",), "", buckets.get_versioning, "bucket.get_versioning"),
        (("uploads",), "", listing.list_uploads, "upload.list_multipart"),
        (("list-type",), "", listing.list_objects_v2, "object.list"),
        ((), "", listing.list_objects, "object.list"),
    ),
    "PUT": (((), "", buckets.create_bucket, "bucket.create"),),
    "HEAD": (((), "", buckets.head_bucket, "bucket.get"),),
    "DELETE": (((), "", buckets.delete_bucket, "bucket.delete"),),
    "POST": ((("delete",), "", objects.delete_objects, "object.delete_many"),),
}
COPY_SOURCE: Final = "x-amz-copy-source"
PART: Final = ("partNumber", "uploadId")
OBJECT_CALLS: Final[dict[str, tuple[Entry, ...]]] = {
    "GET": (
        (("uploadId",), "", multipart.list_parts, "upload.list_parts"),
        (("tagging",), "", objects.get_tagging, "object.get_tagging"),
        ((), "", objects.get_object, "object.get"),
    ),
    "PUT": (
        (PART, COPY_SOURCE, multipart.upload_part_copy, "upload.part_copy"),
        (PART, "", multipart.upload_part, "upload.part"),
        ((), COPY_SOURCE, objects.copy_object, "object.copy"),
        ((), "", objects.put_object, "upload"),
    ),
    "HEAD": (((), "", objects.head_object, "object.info"),),
    "DELETE": (
        (("uploadId",), "", multipart.abort_upload, "upload.abort_multipart"),
        ((), "", objects.delete_object, "object.delete"),
    ),
    "POST": (
        (("uploadId",), "", multipart.complete_upload, "upload.complete_multipart"),
        (("uploads",), "", multipart.create_upload, "upload.create_multipart"),
    ),
}


async def handle_s3(core: Core, call: Call) -> web.StreamResponse:
    """Answer a request below /s3; refusals are XML with their real status."""
    path = call.path.removeprefix("/s3").removeprefix("/")
    bucket, _, key = path.partition("/")
    resource = path
    try:
        bucket, key = decode_path(bucket), decode_path(key)
        resource = "/".join(part for part in (bucket, key) if part)
        return await _answer(core, call, bucket, key)
    except errors.StorageError as exc:
        return refusal(exc, resource, head=call.method == "HEAD")


async def _answer(core: Core, call: Call, bucket: str, key: str) -> web.StreamResponse:
    if "\0" in bucket or "\0" in key:
        raise errors.invalid_key(key.replace("\0", ""))
    if _is_form(call) and bucket and not key:
        call.operation = "storage.s3.upload"
        return await objects.post_object(core, call, bucket)
    if not bucket:
        signed = authorize(core, call)
        call.operation = "storage.s3.bucket.list"
        if call.method != "GET":
            raise errors.route_not_found(call.method, call.path)
        return await buckets.list_buckets(core, call, signed)
    table = OBJECT_CALLS if key else BUCKET_CALLS
    handler, operation = _choose(table.get(call.method, ()), call)
    signed = authorize(core, call)
    call.operation = f"storage.s3.{operation}"
    if key:
        return await handler(core, call, signed, bucket, key)
    return await handler(core, call, signed, bucket)


def _choose(entries: tuple[Entry, ...], call: Call) -> tuple[Handler, str]:
    query = call.query
    for keys, header, handler, operation in entries:
        if all(key in query for key in keys) and (
            not header or header in call.request.headers
        ):
            return handler, operation
    raise errors.route_not_found(call.method, call.path)


def _is_form(call: Call) -> bool:
    content_type = call.header("Content-Type")
    return call.method == "POST" and content_type.startswith("multipart/form-data")
