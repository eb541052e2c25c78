"""GET, HEAD and POST on a function: ``/rpc/name``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web
from psycopg import pq

from harness.db.pipeline import Statement
from harness.protocols.postgrest_errors import (
    max_affected_exceeded,
    max_affected_needs_set,
    method_not_allowed_on_rpc,
    not_singular,
)
from harness.protocols.postgrest_media import FORM, SINGULAR, MediaType
from harness.protocols.postgrest_payload import Payload, call_payload
from harness.servers.rest.actions import (
    RESPONSE_SETTINGS,
    Action,
    count_of,
    is_plan,
)
from harness.servers.rest.call_sql import SCALAR, call_sql
from harness.servers.rest.filter_sql import Params
from harness.servers.rest.media import NOTHING, body_sql, negotiate, plan_prefix
from harness.servers.rest.plan import ReadNode, plan_read
from harness.servers.rest.read_sql import ReadWriter
from harness.servers.rest.reading import limit_rows, read_total, total_sql
from harness.servers.rest.request import whole_range
from harness.servers.rest.routines import find_routine
from harness.servers.rest.schema import Column, QualifiedName, Routine, Table
from harness.servers.rest.transaction import Check

__all__ = ["call_function", "check_method", "routine_of"]

SOURCE = "pgrst_source"
CALLABLE = ("GET", "HEAD", "POST", "OPTIONS")
PREFERENCES = ("count", "tx", "handling", "timezone", "max-affected")
# Settings of a function that must be in force before it starts.
HOISTED = ("statement_timeout", "plan_filter.statement_cost_limit")
ISOLATION = "default_transaction_isolation"


@dataclass(slots=True)
class _Call:
    """A call being put together."""

    action: Action
    routine: Routine
    payload: Payload | None
    pairs: Sequence[tuple[str, str]]
    media: MediaType


async def call_function(action: Action, body: bytes) -> web.Response:
    """Call a function and answer with what it returns."""
    request, settings = action.request, action.settings
    payload, pairs = _arguments(action, body)
    routine = routine_of(action, payload, pairs)
    root = _root(action, routine)
    custom = action.cache.media_types.get(routine.name)
    media = negotiate(request, plan_enabled=settings.db_plan_enabled, custom=custom)
    await action.check_preferences()
    call = _Call(action, routine, payload, pairs, media)
    rows = whole_range(request, action.query.ranges.get(()))
    root.rows = rows
    limit_rows(root, settings.db_max_rows)
    (result,) = await action.run(
        [_statement(call, root)],
        read_only=request.reading or routine.volatility != "volatile",
        check=_check(call),
        settings={n: routine.settings[n] for n in HOISTED if n in routine.settings},
        isolation=routine.settings.get(ISOLATION),
    )
    if is_plan(media):
        return action.respond_plan(media, result)
    if routine.returns_void:
        headers = action.headers(None, PREFERENCES)
        told = result.get_value(0, 2), result.get_value(0, 3)
        return action.respond(204, headers, b"", *told)
    total = read_total(action, result, ())
    response = action.respond_rows(media, result, rows, total, PREFERENCES)
    if media.name == custom and routine.return_type.name == "bytea":
        response.body = _bytes(result.get_value(0, 1))
    return response


def _bytes(text: bytes | None) -> bytes:
    """Return what the hexadecimal form of a bytea stands for."""
    return b"" if text is None else bytes.fromhex(text[2:].decode())


def check_method(method: str) -> None:
    """Refuse what no function is called by, whatever else is wrong."""
    if method not in CALLABLE:
        raise method_not_allowed_on_rpc(method)


def routine_of(
    action: Action, payload: Payload | None, pairs: Sequence[tuple[str, str]]
) -> Routine:
    """Return the function that the request's name and arguments mean."""
    request = action.request
    posted = request.method == "POST"
    names = payload.keys if payload is not None else [name for name, _ in pairs]
    return find_routine(
        action.cache,
        QualifiedName(request.schema, request.resource),
        list(names),
        body_type=request.content_type if posted else None,
    )


def _arguments(
    action: Action, body: bytes
) -> tuple[Payload | None, Sequence[tuple[str, str]]]:
    request = action.request
    if request.method != "POST":
        return None, action.query.arguments
    payload = call_payload(body, request.content_type, action.query.columns)
    if request.content_type == FORM:
        return None, payload.value
    return payload, ()


def _root(action: Action, routine: Routine) -> ReadNode:
    table = action.cache.tables.get(routine.returns) if routine.returns else None
    if table is None:
        columns = routine.columns
        if not routine.composite:
            columns = {SCALAR: Column(SCALAR, "text", routine.return_type.name)}
        table = Table(routine.name, columns)
    return plan_read(
        action.cache,
        table,
        action.query,
        aggregates=action.settings.db_aggregates_enabled,
    )


def _statement(call: _Call, root: ReadNode) -> Statement:
    action, routine = call.action, call.routine
    params = Params()
    source = call_sql(params, routine, call.payload, call.pairs)
    writer = ReadWriter(action.cache, params)
    rows = writer.rows(root, SOURCE)
    bodiless = action.request.bodiless and not is_plan(call.media)
    nothing = bodiless or routine.returns_void
    body = NOTHING if nothing else body_sql(call.media, routine)
    total = total_sql(action, writer, root, SOURCE)
    count = "count(*)" if routine.returns_set else "1"
    sql = (
        f"WITH {SOURCE} AS MATERIALIZED ({source}) "
        f"SELECT {count}, {body}, {RESPONSE_SETTINGS}, {total} FROM ({rows}) AS r"
    )
    return Statement(plan_prefix(call.media) + sql, params.values)


def _check(call: _Call) -> Check | None:
    preferences = call.action.request.preferences
    limit = preferences.max_affected if preferences.strict else None
    singular = call.media.name == SINGULAR and call.routine.returns_set
    if limit is not None and not call.routine.returns_set:
        raise max_affected_needs_set()
    if is_plan(call.media) or (limit is None and not singular):
        return None

    def check(results: Sequence[pq.abc.PGresult]) -> None:
        found = count_of(results[0])
        if singular and found != 1:
            raise not_singular(found)
        if limit is not None and found > limit:
            raise max_affected_exceeded(found)

    return check
