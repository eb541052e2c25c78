"""S3 calls about buckets: list, create, head, delete, location, versioning.

Source: storage-api 3.9.
"""

from __future__ import annotations

from aiohttp import web

from harness.servers.storage import buckets, errors, names
from harness.servers.storage.calls import Call
from harness.servers.storage.core import Core
from harness.servers.storage.s3_answers import document, s3_time
from harness.servers.storage.s3_auth import S3Caller

__all__ = [
    "create_bucket",
    "delete_bucket",
    "get_location",
    "get_versioning",
    "head_bucket",
    "list_buckets",
    "require_any_bucket",
]


async def list_buckets(core: Core, call: Call, signed: S3Caller) -> web.Response:
    """GET /: ListBuckets."""
    async with core.connections.as_caller(call.database_settings()) as connection:
        rows = await connection.fetch("select name, created_at from storage.buckets")
    shown = [
        {"Name": row["name"], "CreationDate": s3_time(row["created_at"])}
        for row in rows
    ]
    return document("ListAllMyBucketsResult", {"Buckets": {"Bucket": shown}})


async def create_bucket(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """PUT /:bucket: CreateBucket; ``x-amz-acl: public-read`` makes it public."""
    names.check_bucket_name(bucket)
    is_public = call.header("x-amz-acl") == "public-read"
    limits = {"public": is_public}
    await buckets.insert_bucket(core, call, bucket, bucket, limits)
    return web.Response(headers={"Location": f"/{bucket}"})


async def head_bucket(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """HEAD /:bucket: HeadBucket."""
    await require_bucket(core, call, bucket)
    region = core.project.keys.s3.region
    return web.Response(headers={"x-amz-bucket-region": region})


async def delete_bucket(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """DELETE /:bucket: DeleteBucket."""
    await buckets.remove_bucket(core, call, bucket)
    return web.Response(status=204)


async def get_location(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """GET /:bucket?location: GetBucketLocation."""
    await require_bucket(core, call, bucket)
    region = core.project.keys.s3.region
    return document("LocationConstraint", {"": region})


async def get_versioning(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """GET /:bucket?versioning: GetBucketVersioning."""
    await require_bucket(core, call, bucket)
    state = {"Status": "Suspended", "MfaDelete": "Disabled"}
    return document("VersioningConfiguration", state)


async def require_bucket(core: Core, call: Call, bucket: str) -> None:
    """Refuse a bucket that the caller does not see."""
    async with core.connections.as_caller(call.database_settings()) as connection:
        found = await connection.fetchval(
            "select true from storage.buckets where id = $1", bucket
        )
    if not found:
        raise errors.no_such_bucket(bucket)


async def require_any_bucket(core: Core, bucket: str) -> None:
    """Refuse a bucket that does not exist; whether the caller sees it is no matter."""
    row = await core.connections.row(
        "select exists (select from storage.buckets where id = $1)", bucket
    )
    if not row[0]:
        raise errors.no_such_bucket(bucket)
