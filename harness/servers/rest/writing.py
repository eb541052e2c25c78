"""POST, PATCH, PUT and DELETE on a table or view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web
from psycopg import pq

from harness.db.pipeline import Statement
from harness.protocols.postgrest import EVERYTHING
from harness.protocols.postgrest_errors import (
    filters_not_primary_key,
    max_affected_exceeded,
    not_singular,
    put_key_mismatch,
    put_with_limit,
)
from harness.protocols.postgrest_filters import Filter, Logic
from harness.protocols.postgrest_media import SINGULAR, MediaType
from harness.protocols.postgrest_payload import write_payload
from harness.protocols.postgrest_select import ALL_COLUMNS
from harness.servers.rest.actions import (
    RESPONSE_SETTINGS,
    Action,
    count_of,
    is_plan,
)
from harness.servers.rest.filter_sql import Params
from harness.servers.rest.media import NOTHING, body_sql, negotiate, plan_prefix
from harness.servers.rest.plan import ReadNode, find_table, needed_columns, plan_read
from harness.servers.rest.read_sql import ReadWriter
from harness.servers.rest.responses import content_range, location
from harness.servers.rest.schema import QualifiedName, Table, quote_identifier
from harness.servers.rest.transaction import Check
from harness.servers.rest.write_sql import (
    INSERTED_SETTING,
    Conflict,
    delete_sql,
    insert_sql,
    update_sql,
)

__all__ = ["write_table"]

SOURCE = "pgrst_source"
INSERT_PREFERENCES = (
    "resolution",
    "return",
    "count",
    "tx",
    "missing",
    "handling",
    "timezone",
)
CHANGE_PREFERENCES = (
    "return",
    "count",
    "tx",
    "missing",
    "handling",
    "timezone",
    "max-affected",
)


@dataclass(slots=True)
class _Write:
    """A write being put together."""

    action: Action
    table: Table
    root: ReadNode
    media: MediaType
    body: bytes
    params: Params

    @property
    def method(self) -> str:
        return self.action.request.method

    @property
    def represented(self) -> bool:
        """Whether the written rows are the answer."""
        return self.action.request.preferences.representation == "representation"

    @property
    def located(self) -> bool:
        """Whether a single inserted row's key is to be told."""
        headers_only = self.action.request.preferences.representation == "headers-only"
        return headers_only and self.method == "POST" and bool(self.table.primary_key)

    @property
    def conditions(self) -> list[Filter | Logic]:
        """The conditions that choose the rows to change."""
        query = self.action.query
        filters = [condition for path, condition in query.filters if not path]
        trees = [tree for path, tree in query.logic if not path]
        return [*filters, *trees]

    @property
    def upserting(self) -> bool:
        """Whether the count of inserted rows decides the status."""
        resolution = self.action.request.preferences.resolution
        merging = self.method == "POST" and resolution == "merge-duplicates"
        return self.method == "PUT" or merging


async def write_table(action: Action, body: bytes) -> web.Response:
    """Carry out an insert, update, upsert or delete and answer."""
    request, settings = action.request, action.settings
    table = find_table(action.cache, QualifiedName(request.schema, request.resource))
    root = plan_read(
        action.cache,
        table,
        action.query,
        filter_root=False,
        aggregates=settings.db_aggregates_enabled,
    )
    media = negotiate(request, plan_enabled=settings.db_plan_enabled)
    write = _Write(action, table, root, media, body, Params())
    statement = _statement(write)
    await action.check_preferences()
    check = _check(write) if _decides(write) else None
    (result,) = await action.run([statement], read_only=False, check=check)
    if is_plan(media):
        return action.respond_plan(media, result)
    return _answer(write, result)


def _statement(write: _Write) -> Statement:
    change = _change(write)
    body = NOTHING
    read_from = f"{SOURCE} AS r"
    if write.represented:
        rows = ReadWriter(write.action.cache, write.params).rows(write.root, SOURCE)
        read_from, body = f"({rows}) AS r", body_sql(write.media)
    key = "NULL"
    if write.located:
        columns = ", ".join(
            f"r.{quote_identifier(name)}::text" for name in write.table.primary_key
        )
        key = f"min(jsonb_build_array({columns})::text)"
    inserted = "NULL"
    if write.upserting:
        inserted = f"nullif(current_setting('{INSERTED_SETTING}', true), '')"
    sql = (
        f"WITH {SOURCE} AS ({change}) "
        f"SELECT count(*), {body}, {RESPONSE_SETTINGS}, {key}, {inserted} "
        f"FROM {read_from}"
    )
    return Statement(plan_prefix(write.media) + sql, write.params.values)


def _change(write: _Write) -> str:
    query, request = write.action.query, write.action.request
    returning = _returning(write)
    if write.method == "DELETE":
        return delete_sql(write.params, write.table, write.conditions, returning)
    columns = None if write.method == "PUT" else query.columns
    payload = write_payload(write.body, request.content_type, columns)
    defaults = request.preferences.missing == "default"
    if write.method == "PATCH":
        return update_sql(
            write.params,
            write.table,
            payload,
            write.conditions,
            returning,
            use_defaults=defaults,
        )
    filters: list[Filter] = []
    conflict = _conflict(write)
    if write.method == "PUT":
        filters = _put_filters(write)
        defaults = False
        conflict = Conflict(write.table.primary_key, merge=True)
    return insert_sql(
        write.params,
        write.table,
        payload,
        returning,
        conflict=conflict,
        use_defaults=defaults,
        key_filters=filters,
    )


def _returning(write: _Write) -> Sequence[str]:
    if write.represented:
        names = needed_columns(write.root)
    elif write.located:
        names = []
    else:
        return ()
    if write.located and ALL_COLUMNS not in names:
        names = list(dict.fromkeys([*names, *write.table.primary_key]))
    return names


def _conflict(write: _Write) -> Conflict | None:
    resolution = write.action.request.preferences.resolution
    if resolution is None:
        return None
    columns = write.action.query.on_conflict or write.table.primary_key
    return Conflict(columns, merge=resolution == "merge-duplicates")


def _put_filters(write: _Write) -> list[Filter]:
    query = write.action.query
    if query.ranges.get((), EVERYTHING) != EVERYTHING:
        raise put_with_limit()
    filters = [f for path, f in query.filters if not path]
    plain = all(
        f.operation.operator == "eq"
        and not f.operation.negated
        and f.operation.quantifier is None
        and not f.field.path
        for f in filters
    )
    key = set(write.table.primary_key)
    if query.logic or not key or not plain or {f.field.name for f in filters} != key:
        raise filters_not_primary_key()
    return filters


def _decides(write: _Write) -> bool:
    if is_plan(write.media):
        return False
    preferences = write.action.request.preferences
    return (
        write.method == "PUT"
        or write.media.name == SINGULAR
        or (preferences.strict and preferences.max_affected is not None)
    )


def _check(write: _Write) -> Check:
    preferences = write.action.request.preferences

    def check(results: Sequence[pq.abc.PGresult]) -> None:
        found = count_of(results[0])
        if write.method == "PUT" and found != 1:
            raise put_key_mismatch()
        if write.media.name == SINGULAR and found != 1:
            raise not_singular(found)
        limit = preferences.max_affected
        if preferences.strict and limit is not None and found > limit:
            raise max_affected_exceeded(found)

    return check


def _answer(write: _Write, result: pq.abc.PGresult) -> web.Response:
    action, method = write.action, write.method
    found = count_of(result)
    total = found if action.request.preferences.count is not None else None
    names: tuple[str, ...]
    names = INSERT_PREFERENCES if method == "POST" else CHANGE_PREFERENCES
    if method == "POST" and not (write.table.primary_key or action.query.on_conflict):
        names = names[1:]
    headers = action.headers(write.media if write.represented else None, names)
    if method == "PATCH":
        headers["Content-Range"] = content_range(0, found - 1, total)
    elif method != "PUT":
        headers["Content-Range"] = content_range(1, 0, total)
    if write.located and found == 1:
        values = orjson.loads(result.get_value(0, 4) or b"[]")
        key = dict(zip(write.table.primary_key, values, strict=True))
        headers["Location"] = location(write.table.name.name, key)
    return action.respond(
        _status(write, result),
        headers,
        (result.get_value(0, 1) or b"") if write.represented else b"",
        result.get_value(0, 2),
        result.get_value(0, 3),
    )


def _status(write: _Write, result: pq.abc.PGresult) -> int:
    inserted = int(result.get_value(0, 5) or b"0")
    if write.method == "POST":
        return 200 if write.upserting and inserted <= 0 else 201
    if not write.represented:
        return 204
    return 201 if write.method == "PUT" and inserted > 0 else 200
