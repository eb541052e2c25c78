"""Listing objects: v1 (folders and names relative to a prefix) and v2 (cursors).

Source: storage-api 3.6.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
from aiohttp import web

from harness.servers.storage import errors
from harness.servers.storage.calls import Call, json_response, read_json
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core, iso, raw_json
from harness.servers.storage.schema import Field, validate

__all__ = ["Cursor", "list_objects", "list_objects_v2"]

ORDER: Final = Field("string", choices=("asc", "desc"))
V1: Final = {
    "prefix": Field("string", required=True),
    "limit": Field("integer", minimum=1),
    "offset": Field("integer", minimum=0),
    "search": Field("string"),
    "sortBy": Field(
        "object",
        fields={
            "column": Field(
                "string",
                choices=("name", "updated_at", "created_at", "last_accessed_at"),
            ),
            "order": ORDER,
        },
    ),
}
V2: Final = {
    "prefix": Field("string"),
    "limit": Field("integer", minimum=1),
    "cursor": Field("string"),
    "with_delimiter": Field("boolean"),
    "sortBy": Field(
        "object",
        fields={
            "column": Field("string", choices=("name", "updated_at", "created_at")),
            "order": ORDER,
        },
    ),
}
V2_LIMIT: Final = 1000
V1_LIMIT: Final = 1500
MAX_INT4: Final = 2**31 - 1
LIST_FOLDER: Final = f"select {calling('list_folder', 7)}"
SEARCH: Final = "select * from storage.search($1, $2, $3, $4, $5, $6, $7, $8)"
SEARCH_V2: Final = "select * from storage.search_v2($1, $2, $3, $4, $5, $6, $7, $8)"


async def list_objects(core: Core, call: Call, bucket: str) -> web.Response:
    """POST /object/list/:bucket."""
    asked = validate(await read_json(call), V1)
    prefix = asked["prefix"]
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    search = asked.get("search", "")
    limit = min(asked.get("limit", 100), V1_LIMIT)
    offset = min(asked.get("offset", 0), MAX_INT4 - V1_LIMIT)
    levels = prefix.count("/") + 1
    sort = asked.get("sortBy", {})
    column, order = sort.get("column", "name"), sort.get("order", "asc")
    settings = call.database_settings()
    if column == "name":
        sought = prefix + search
        numbers = (levels, sought.count("/") + 1, limit, offset)
        ascending = "true" if order == "asc" else "false"
        entries = await core.connections.text(
            LIST_FOLDER, *settings, bucket, sought, *map(str, numbers), ascending
        )
        return json_response(entries)
    args = (prefix, bucket, limit, levels, offset, search, column, order)
    async with core.connections.as_caller(settings) as connection:
        rows = await connection.fetch(SEARCH, *args)
    return json_response([_entry(row) for row in rows])


async def list_objects_v2(core: Core, call: Call, bucket: str) -> web.Response:
    """POST /object/list-v2/:bucket."""
    asked = validate(await read_json(call), V2)
    limit = min(asked.get("limit", V2_LIMIT), V2_LIMIT)
    prefix = asked.get("prefix", "")
    cursor = Cursor.first(asked.get("sortBy", {}))
    if text := asked.get("cursor"):
        cursor = Cursor.decode(text)
    with_delimiter = asked.get("with_delimiter", False)
    async with core.connections.as_caller(call.database_settings()) as connection:
        if with_delimiter:
            rows = await connection.fetch(
                SEARCH_V2,
                prefix,
                bucket,
                limit + 1,
                prefix.count("/") + 1,
                cursor.last,
                cursor.order,
                cursor.column,
                cursor.after,
            )
        else:
            rows = await _flat(connection, bucket, prefix, limit + 1, cursor)
    return json_response(_page(rows, limit, cursor, with_delimiter=with_delimiter))


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing goes on: after the entry ``last`` in an order."""

    last: str = ""
    order: str = "asc"
    column: str = "name"
    after: str = ""

    @classmethod
    def first(cls, sort: dict[str, str]) -> Cursor:
        """Return the beginning of a listing in the order of ``sortBy``."""
        return cls(order=sort.get("order", "asc"), column=sort.get("column", "name"))

    def encode(self) -> str:
        """Return the text form."""
        lines = [f"l:{self.last}", f"o:{self.order}"]
        if self.column != "name":
            lines += [f"c:{self.column}", f"a:{self.after}"]
        return base64.b64encode("\n".join(lines).encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read the text form; refuse anything else."""
        names = {"l": "last", "o": "order", "c": "column", "a": "after"}
        try:
            lines = base64.b64decode(text, validate=True).decode().split("\n")
            pairs = [line.split(":", 1) for line in lines]
            cursor = cls(**{names[name]: value for name, value in pairs})
            if cursor.after:
                datetime.fromisoformat(cursor.after)
        except (binascii.Error, ValueError, KeyError, TypeError) as exc:
            raise errors.invalid_parameter("cursor") from exc
        if (
            not cursor.last
            or "\0" in cursor.last
            or cursor.order not in ("asc", "desc")
            or cursor.column not in ("name", "updated_at", "created_at")
        ):
            raise errors.invalid_parameter("cursor")
        return cursor


async def _flat(
    connection: Any, bucket: str, prefix: str, limit: int, cursor: Cursor
) -> Sequence[asyncpg.Record]:
    """Return objects below a prefix in an order, without folders."""
    beyond = ">" if cursor.order == "asc" else "<"
    if cursor.column == "name":
        key, after = 'o.name collate "C"', "$4"
        order = f"{key} {cursor.order}"
    else:
        stamp = f"date_trunc('milliseconds', o.{cursor.column})"
        key = f'({stamp}, o.name collate "C")'
        after = "($5::text::timestamptz, $4)"
        order = f'{stamp} {cursor.order}, o.name collate "C" {cursor.order}'
    condition = f"and {key} {beyond} {after}" if cursor.last else ""
    args: list[Any] = [bucket, prefix, limit]
    if cursor.last:
        args.append(cursor.last)
        if cursor.column != "name":
            args.append(cursor.after or "epoch")
    rows: Sequence[asyncpg.Record] = await connection.fetch(
        "select o.id, o.name, o.metadata, o.updated_at, o.created_at, "
        "o.last_accessed_at from storage.objects o where o.bucket_id = $1 "
        'and o.name collate "C" >= $2 and o.name collate "C" < $2 || chr(1114111) '
        f"{condition} order by {order} limit $3",
        *args,
    )
    return rows


def _page(
    rows: Sequence[asyncpg.Record], limit: int, cursor: Cursor, *, with_delimiter: bool
) -> dict[str, Any]:
    shown = rows[:limit]
    folders: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for row in shown:
        entry = _entry(row)
        if with_delimiter:
            entry["key"] = row["key"]
        if row["id"] is None:
            entry["name"] = _folder_name(row["name"])
            folders.append(entry)
        else:
            objects.append(entry)
    page: dict[str, Any] = {"hasNext": len(rows) > limit}
    if page["hasNext"]:
        last = shown[-1]
        name = last["name"] if last["id"] else _folder_name(last["name"])
        after = "" if cursor.column == "name" else iso(last[cursor.column]) or ""
        page["nextCursor"] = Cursor(name, cursor.order, cursor.column, after).encode()
        page["nextCursorKey"] = last["key"] if with_delimiter else name
    page["folders"], page["objects"] = folders, objects
    return page


def _entry(row: asyncpg.Record) -> dict[str, Any]:
    """Return one line of a listing; of a folder all but the name is null."""
    return {
        "name": row["name"],
        "id": str(row["id"]) if row["id"] else None,
        "updated_at": iso(row["updated_at"]),
        "created_at": iso(row["created_at"]),
        "last_accessed_at": iso(row["last_accessed_at"]),
        "metadata": raw_json(row["metadata"]),
    }


def _folder_name(name: str) -> str:
    # Rows name a folder without its delimiter, also one whose last segment is empty.
    return f"{name}/"
