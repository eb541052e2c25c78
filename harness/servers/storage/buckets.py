"""Buckets: create, list, get, update, empty, delete.

Source: storage-api 3.2 and 3.3.  All of it runs as the caller; emptying is for
service_role.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from aiohttp import web

from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef
from harness.servers.storage.calls import Call, json_response, read_json
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core, iso
from harness.servers.storage.schema import Field, validate

__all__ = [
    "create_bucket",
    "delete_bucket",
    "empty_bucket",
    "get_bucket",
    "insert_bucket",
    "list_buckets",
    "remove_bucket",
    "update_bucket",
]

LIMITS: Final = {
    "public": Field("boolean"),
    "file_size_limit": Field("string", nullable=True, or_kind="integer"),
    "allowed_mime_types": Field("array", nullable=True, items=Field("string")),
}
CREATE: Final = {
    "name": Field("string", required=True),
    "id": Field("string"),
    "type": Field("string", choices=("STANDARD", "ANALYTICS")),
    **LIMITS,
}
LIST: Final = {
    "limit": Field("integer", minimum=1),
    "offset": Field("integer", minimum=0),
    "sortColumn": Field("string", choices=("id", "name", "created_at", "updated_at")),
    "sortOrder": Field("string", choices=("asc", "desc")),
    "search": Field("string"),
}
COLUMNS: Final = (
    "id, name, owner, public, type::text as type, file_size_limit, allowed_mime_types, "
    "created_at, updated_at"
)
EMPTY_BATCH: Final = 500
PYTHON_CLIENT: Final = re.compile(r"(?:supabase-py|storage3)/v?(\d+)\.(\d+)\.(\d+)")


async def create_bucket(core: Core, call: Call) -> web.Response:
    """POST /bucket."""
    asked = validate(await read_json(call), CREATE)
    name, bucket = asked["name"], asked.get("id") or asked["name"]
    names.check_bucket_name(bucket)
    if asked.get("type") == "ANALYTICS":
        await _create_analytics_bucket(core, call, name)
        return json_response({"name": name})
    limits = _limits(core, asked)
    await insert_bucket(core, call, bucket, name, limits)
    return json_response({"name": name})


async def insert_bucket(
    core: Core, call: Call, bucket: str, name: str, limits: Mapping[str, Any]
) -> None:
    """Insert a bucket as the caller."""
    try:
        async with core.connections.as_caller(call.database_settings()) as connection:
            await connection.execute(
                "insert into storage.buckets (id, name, owner, owner_id, public, "
                "file_size_limit, allowed_mime_types) values ($1,$2,$3,$4,$5,$6,$7)",
                bucket,
                name,
                call.owner,
                call.owner_id,
                limits.get("public", False),
                limits.get("file_size_limit"),
                limits.get("allowed_mime_types"),
            )
    except errors.StorageError as exc:
        if exc.code == "ResourceAlreadyExists":
            raise errors.bucket_exists(bucket) from exc
        raise


async def _create_analytics_bucket(core: Core, call: Call, name: str) -> None:
    async with core.connections.as_caller(call.database_settings()) as connection:
        await connection.execute(
            "insert into storage.buckets_analytics (name) values ($1)", name
        )


async def list_buckets(core: Core, call: Call) -> web.Response:
    """GET /bucket."""
    asked = validate(call.query, LIST, "querystring")
    conditions, args = "true", []
    if search := asked.get("search"):
        pattern = re.sub(r"([\\%_])", r"\\\1", search)
        conditions, args = "name ilike $1", [f"%{pattern}%"]
    order = ""
    if column := asked.get("sortColumn"):
        order = f" order by {column} {asked.get('sortOrder', 'asc')}"
    limit = f" limit {asked['limit']}" if "limit" in asked else ""
    offset = f" offset {asked['offset']}" if "offset" in asked else ""
    async with core.connections.as_caller(call.database_settings()) as connection:
        rows = await connection.fetch(
            f"select {COLUMNS} from storage.buckets where {conditions}"
            f"{order}{limit}{offset}",
            *args,
        )
    with_type = not _is_old_python_client(call)
    return json_response([_bucket_json(row, with_type=with_type) for row in rows])


async def get_bucket(core: Core, call: Call, bucket: str) -> web.Response:
    """GET and HEAD /bucket/:id."""
    async with core.connections.as_caller(call.database_settings()) as connection:
        row = await connection.fetchrow(
            f"select {COLUMNS} from storage.buckets where id = $1", bucket
        )
    if row is None:
        raise errors.no_such_bucket(bucket)
    return json_response(_bucket_json(row, with_type=False))


async def update_bucket(core: Core, call: Call, bucket: str) -> web.Response:
    """PUT /bucket/:id."""
    asked = validate(await read_json(call), LIMITS)
    if not asked:
        raise errors.invalid_request("body must match a schema in anyOf", error="Error")
    limits = _limits(core, asked)
    sets = ", ".join(f"{name} = ${i}" for i, name in enumerate(limits, start=2))
    async with core.connections.as_caller(call.database_settings()) as connection:
        done = await connection.execute(
            f"update storage.buckets set {sets} where id = $1", bucket, *limits.values()
        )
    if done == "UPDATE 0":
        raise errors.no_such_bucket(bucket)
    return json_response({"message": "Successfully updated"})


async def delete_bucket(core: Core, call: Call, bucket: str) -> web.Response:
    """DELETE /bucket/:id."""
    await read_json(call, empty_allowed=True)
    await remove_bucket(core, call, bucket)
    return json_response({"message": "Successfully deleted"})


async def remove_bucket(core: Core, call: Call, bucket: str) -> None:
    """Delete an empty bucket as the caller."""
    async with core.connections.connection() as connection, connection.transaction():
        found = await connection.fetchval(
            "select true from storage.buckets where id = $1 for update", bucket
        )
        if not found:
            raise errors.no_such_bucket(bucket)
        used = await connection.fetchval(
            "select true from storage.objects where bucket_id = $1 limit 1", bucket
        )
        if used:
            raise errors.bucket_not_empty(bucket)
        await connection.fetchval(
            f"select {calling('as_caller', 0)}", *call.database_settings()
        )
        done = await connection.execute(
            "delete from storage.buckets where id = $1", bucket
        )
        if done == "DELETE 0":
            raise errors.no_such_bucket(bucket)


async def empty_bucket(core: Core, call: Call, bucket: str) -> web.Response:
    """POST /bucket/:id/empty: done when it answers, which the real one only queues."""
    if call.caller.role != "service_role":
        raise errors.role_denied()
    await read_json(call, empty_allowed=True)
    most = core.settings.empty_bucket_max
    found, count = await core.connections.row(
        "select exists (select from storage.buckets where id = $1), "
        "(select count(*) from (select from storage.objects where bucket_id = $1 "
        "limit $2) as counted)",
        bucket,
        most + 1,
    )
    if not found:
        raise errors.no_such_bucket(bucket)
    if count > most:
        raise errors.invalid_request(
            f"The bucket has more than {most} objects and cannot be emptied",
            status=409,
            resource=bucket,
        )
    await _delete_older_objects(core, call, bucket)
    return json_response(
        {"message": "Empty bucket has been queued. Completion may take up to an hour."}
    )


async def _delete_older_objects(core: Core, call: Call, bucket: str) -> None:
    """Delete what was there when the call began, a batch at a time."""
    before = await core.connections.row("select clock_timestamp() as now")
    while True:
        rows = await core.connections.rows(
            "select name from storage.objects where bucket_id = $1 "
            "and created_at < $2 limit $3",
            bucket,
            before["now"],
            EMPTY_BATCH,
        )
        if not rows:
            return
        gone = await core.connections.rows(
            f"select name, version from {calling('delete_objects', 2)}",
            *call.database_settings(),
            bucket,
            [row["name"] for row in rows],
        )
        await core.intents.removed(
            ObjectRef(bucket, row["name"], row["version"])
            for row in gone
            if row["version"]
        )
        if not gone:
            return


def _limits(core: Core, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for as column values."""
    values: dict[str, Any] = {}
    if "public" in asked:
        values["public"] = asked["public"]
    if "file_size_limit" in asked:
        values["file_size_limit"] = names.parse_size_limit(
            asked["file_size_limit"], ceiling=core.settings.upload_file_size_limit
        )
    if "allowed_mime_types" in asked:
        kinds = asked["allowed_mime_types"]
        values["allowed_mime_types"] = (
            None if kinds is None else names.check_mime_types(kinds)
        )
    return values


def _bucket_json(row: asyncpg.Record, *, with_type: bool) -> dict[str, Any]:
    shown = {
        "id": row["id"],
        "name": row["name"],
        "owner": str(row["owner"] or ""),
        "public": row["public"],
        "type": row["type"],
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
    }
    if not with_type:
        del shown["type"]
    return shown


def _is_old_python_client(call: Call) -> bool:
    """Whether the client is a Python one that cannot read bucket types."""
    for header, oldest in (("x-client-info", (2, 18, 0)), ("User-Agent", (0, 12, 1))):
        if match := PYTHON_CLIENT.search(call.header(header)):
            return tuple(map(int, match.groups())) < oldest
    return False
