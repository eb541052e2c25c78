"""S3 listings: objects (v1 and v2) and multipart uploads.

Source: storage-api 3.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
from aiohttp import web

from harness.servers.storage import errors
from harness.servers.storage.calls import Call
from harness.servers.storage.core import Core, parse_json
from harness.servers.storage.s3_answers import (
    decode_token,
    document,
    encode_token,
    s3_time,
    url_encoded,
)
from harness.servers.storage.s3_auth import S3Caller
from harness.servers.storage.s3_buckets import require_any_bucket

__all__ = ["list_objects", "list_objects_v2", "list_uploads"]

MAX_KEYS: Final = 1000
FLAT: Final = (
    "select name, id, metadata, updated_at from storage.objects where bucket_id = $1 "
    'and name collate "C" >= $2 and name collate "C" < $2 || chr(1114111) '
    'and name collate "C" > $4 order by name collate "C" limit $3'
)
FOLDED: Final = (
    "select name, id, metadata, updated_at "
    "from storage.list_objects_with_delimiter($1, $2, $5, $3, $4)"
)


async def list_objects_v2(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """GET /:bucket?list-type=2: ListObjectsV2."""
    await require_any_bucket(core, bucket)
    query = call.query
    token = query.get("continuation-token")
    after = query.get("start-after", "")
    if token:
        after = decode_token(token, "continuation-token")
    limit = _max_keys(query.get("max-keys", ""))
    entries, more = await _entries(core, call, bucket, query, after, limit)
    encoding = query.get("encoding-type")
    content = _listing(bucket, query, entries, more, limit, encoding)
    content["KeyCount"] = len(entries)
    if token:
        content["ContinuationToken"] = token
    if query.get("start-after"):
        content["StartAfter"] = url_encoded(query["start-after"], encoding)
    if more:
        content["NextContinuationToken"] = encode_token(entries[-1][0])
    return document("ListBucketResult", content)


async def list_objects(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """GET /:bucket: ListObjects (v1)."""
    await require_any_bucket(core, bucket)
    query = call.query
    limit = _max_keys(query.get("max-keys", ""))
    after = query.get("marker", "")
    entries, more = await _entries(core, call, bucket, query, after, limit)
    encoding = query.get("encoding-type")
    content = _listing(bucket, query, entries, more, limit, encoding)
    last = url_encoded(entries[-1][0], encoding) if more else None
    content["Marker"] = last if more else url_encoded(after, encoding)
    content["NextMarker"] = last
    return document("ListBucketResult", content)


async def _entries(
    core: Core,
    call: Call,
    bucket: str,
    query: Mapping[str, str],
    after: str,
    limit: int,
) -> tuple[list[tuple[str, asyncpg.Record]], bool]:
    """Return (key or folded prefix, row) in order, and whether there are more."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    for name, value in (("prefix", prefix), ("delimiter", delimiter), ("key", after)):
        if "\0" in value:
            raise errors.invalid_parameter(name)
    args: list[Any] = [bucket, prefix, limit + 1]
    async with core.connections.as_caller(call.database_settings()) as connection:
        if delimiter:
            # A key is marked as one, lest it be taken for a folder of its name:
            # the key that is the prefix itself ends as a folder does.
            inside = after.removeprefix(prefix) if after.startswith(prefix) else after
            start = after
            if after and not inside.endswith(delimiter):
                start = f"{after}\x01"
            rows = await connection.fetch(FOLDED, *args, start, delimiter)
        else:
            rows = await connection.fetch(FLAT, *args, after)
    entries = [
        (row["name"] if row["id"] else f"{row['name']}{delimiter}", row)
        for row in rows[:limit]
    ]
    return entries, len(rows) > limit


def _listing(
    bucket: str,
    query: Mapping[str, str],
    entries: Sequence[tuple[str, asyncpg.Record]],
    more: bool,
    limit: int,
    encoding: str | None,
) -> dict[str, Any]:
    contents, prefixes = [], []
    for key, row in entries:
        shown = url_encoded(key, encoding)
        if row["id"] is None:
            prefixes.append({"Prefix": shown})
            continue
        metadata = parse_json(row["metadata"])
        contents.append(
            {
                "Key": shown,
                "LastModified": s3_time(row["updated_at"]),
                "ETag": metadata.get("eTag"),
                "Size": metadata.get("size", 0),
                "StorageClass": "STANDARD",
            }
        )
    return {
        "Name": bucket,
        "Prefix": url_encoded(query.get("prefix", ""), encoding),
        "Delimiter": url_encoded(query.get("delimiter", ""), encoding) or None,
        "EncodingType": encoding,
        "MaxKeys": limit,
        "IsTruncated": more,
        "Contents": contents,
        "CommonPrefixes": prefixes,
    }


async def list_uploads(
    core: Core, call: Call, signed: S3Caller, bucket: str
) -> web.Response:
    """GET /:bucket?uploads: ListMultipartUploads."""
    await require_any_bucket(core, bucket)
    query = call.query
    limit = _max_keys(query.get("max-uploads", ""))
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, id_marker = query.get("key-marker", ""), query.get("upload-id-marker")
    # A session sees what policies on the table show it, as a rule nothing: keys and ids
    # of others' uploads are not for everybody who knows the bucket.
    async with core.connections.as_caller(
        call.database_settings(), service=core.settings.compat
    ) as connection:
        rows = await connection.fetch(
            "select * from storage.list_multipart_uploads_with_delimiter"
            "($1, $2, $3, $4, $5, $6)",
            bucket,
            prefix,
            delimiter or "\x01",
            limit + 1,
            decode_token(key_marker, "key-marker") if key_marker else "",
            decode_token(id_marker, "upload-id-marker") if id_marker else "",
        )
    shown, more = rows[:limit], len(rows) > limit
    encoding = query.get("encoding-type")
    uploads, prefixes = [], []
    for row in shown:
        key = url_encoded(row["key"], encoding)
        if delimiter and row["key"].endswith(delimiter):
            prefixes.append({"Prefix": key})
            continue
        uploads.append(
            {
                "Key": key,
                "UploadId": row["id"],
                "Initiated": s3_time(row["created_at"]),
                "StorageClass": "STANDARD",
            }
        )
    return document(
        "ListMultipartUploadsResult",
        {
            "Bucket": bucket,
            "KeyMarker": key_marker,
            "UploadIdMarker": id_marker or "",
            "NextKeyMarker": encode_token(shown[-1]["key"]) if more else None,
            "NextUploadIdMarker": encode_token(shown[-1]["id"]) if more else None,
            "Prefix": url_encoded(prefix, encoding),
            "Delimiter": url_encoded(delimiter, encoding) or None,
            "EncodingType": encoding,
            "MaxUploads": limit,
            "IsTruncated": more,
            "Upload": uploads,
            "CommonPrefixes": prefixes,
        },
    )


def _max_keys(text: str) -> int:
    """Return how many entries are asked for: 0 and nothing mean all that is allowed."""
    if not text:
        return MAX_KEYS
    if not (text.isascii() and text.isdigit()):
        raise errors.invalid_parameter("max-keys")
    return min(int(text), MAX_KEYS) or MAX_KEYS
