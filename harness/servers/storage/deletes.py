"""Deleting one object, or many by their exact names.

Source: storage-api 3.5.  The row goes first, together with a note of its bytes; the
bytes follow.  So a crash leaves bytes that are noted, never a row without bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
from aiohttp import web

from harness.servers.storage import errors
from harness.servers.storage.backend import ObjectRef
from harness.servers.storage.calls import Call, json_response, read_json
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core, object_json
from harness.servers.storage.schema import Field, validate

__all__ = ["delete_object", "delete_objects", "remove_object", "remove_objects"]

MANY: Final = {
    "prefixes": Field("array", required=True, min_items=1, items=Field("string")),
}
BATCH: Final = 500
HARD_LIMIT: Final = 1000
ONE: Final = f"select * from {calling('delete_object', 2)}"
SEVERAL: Final = f"select * from {calling('delete_objects', 2)}"


async def delete_object(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """DELETE /object/:bucket/*."""
    await read_json(call)
    await remove_object(core, call, bucket, key)
    return json_response({"message": "Successfully deleted"})


async def remove_object(core: Core, call: Call, bucket: str, key: str) -> None:
    """Delete one object as the caller; its existence is checked as service_role."""
    if "\0" in key:
        raise errors.no_such_key(key)
    row = await core.connections.row(ONE, *call.database_settings(), bucket, key)
    if not row["existed"]:
        raise errors.no_such_key(key)
    if not row["removed"]:
        raise errors.access_denied()
    core.faults.hit("delete.recorded")
    if row["old_version"]:
        await core.intents.removed([ObjectRef(bucket, key, row["old_version"])])
        core.faults.hit("delete.removed")


async def delete_objects(core: Core, call: Call, bucket: str) -> web.Response:
    """DELETE /object/:bucket: what is hidden or missing is silently absent."""
    asked = validate(await read_json(call), MANY)
    keys: list[str] = asked["prefixes"]
    if core.settings.request_hard_limits_enabled and len(keys) > HARD_LIMIT:
        raise errors.invalid_request(
            f"body/prefixes must NOT have more than {HARD_LIMIT} items", error="Error"
        )
    rows = await remove_objects(core, call, bucket, keys)
    return json_response([object_json(row) for row in rows])


async def remove_objects(
    core: Core, call: Call, bucket: str, keys: Sequence[str]
) -> list[asyncpg.Record]:
    """Delete what the caller may see and delete; return the rows that went."""
    gone: list[asyncpg.Record] = []
    for start in range(0, len(keys), BATCH):
        rows = await core.connections.rows(
            SEVERAL, *call.database_settings(), bucket, keys[start : start + BATCH]
        )
        core.faults.hit("delete.recorded")
        await core.intents.removed(
            ObjectRef(bucket, row["name"], row["version"])
            for row in rows
            if row["version"]
        )
        gone.extend(rows)
    return gone
