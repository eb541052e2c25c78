"""One request's transaction: its settings, its role, its statements.

Everything a request sets is local to its transaction: the role of the token, the
``request.*`` settings that policies read, the search path, the role's own settings.
They go out in one batch with the statement itself.  A write whose outcome decides
whether it stands (``max-affected``, one object wanted) is committed in a second batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import orjson
from psycopg import pq

from harness.db.pipeline import (
    ConnectionLostError,
    Pipeline,
    PipelinePool,
    Statement,
    StatementError,
)
from harness.db.shared_reads import SharedReads
from harness.servers.caller import Caller
from harness.servers.project import headers_json

__all__ = ["Context", "Transactions"]

BEGIN = "BEGIN"
COMMIT = Statement("COMMIT")
ROLLBACK = Statement("ROLLBACK")
ISOLATION_LEVELS = ("read committed", "repeatable read", "serializable")

Check = Callable[[Sequence[pq.abc.PGresult]], None]


class Context(NamedTuple):
    """What the database is told of a request.

    ``settings`` are further settings (of the role, the called function, the time
    zone), by name.
    """

    caller: Caller
    method: str
    path: str
    headers: bytes
    cookie: str
    search_path: str
    read_only: bool
    settings: Mapping[str, str]
    pre_request: str | None = None
    isolation: str | None = None


class Transactions:
    """Runs the statements of requests on a pool."""

    def __init__(self, pool: PipelinePool) -> None:
        self._pool = pool
        self._reads = SharedReads(pool)

    async def run(
        self,
        context: Context,
        statements: Sequence[Statement],
        *,
        check: Check | None = None,
        keep: bool = True,
    ) -> list[pq.abc.PGresult]:
        """Run ``statements`` as the caller and return their results.

        ``check`` sees the last result before the commit and raises to undo everything;
        without ``keep`` everything is undone anyway.
        """
        batch = [_settings_statement(context)]
        if context.pre_request is not None:
            batch.append(Statement(f"SELECT {context.pre_request}()"))
        before = len(batch)
        batch.extend(statements)
        scope = context.caller.role
        if context.read_only:
            return (await self._read(context, batch, scope, check, keep))[before:]
        pipeline = await self._pool.acquire()
        try:
            return (await _run(pipeline, context, batch, scope, check, keep))[before:]
        finally:
            self._pool.release(pipeline)

    async def _read(
        self,
        context: Context,
        batch: Sequence[Statement],
        scope: str,
        check: Check | None,
        keep: bool,
    ) -> list[pq.abc.PGresult]:
        """Run a batch that changes nothing; a connection found dead is replaced."""
        if _is_implicit(context, check, keep):
            return await self._reads.run(batch, scope=scope)
        try:
            async with self._pool.connection() as pipeline:
                return await _run(pipeline, context, batch, scope, check, keep)
        except ConnectionLostError as exc:
            if not exc.reused:
                raise
        self._pool.drop_idle()
        async with self._pool.connection() as pipeline:
            return await _run(pipeline, context, batch, scope, check, keep)


async def _run(
    pipeline: Pipeline,
    context: Context,
    batch: Sequence[Statement],
    scope: str,
    check: Check | None,
    keep: bool,
) -> list[pq.abc.PGresult]:
    """Run a batch in a transaction: an implicit one, unless its outcome decides."""
    if _is_implicit(context, check, keep):
        return await pipeline.run(batch, scope=scope)
    batch = [_begin(context), *batch]
    return (await _decided(pipeline, batch, scope, check, keep))[1:]


async def _decided(
    pipeline: Pipeline,
    batch: Sequence[Statement],
    scope: str,
    check: Check | None,
    keep: bool,
) -> list[pq.abc.PGresult]:
    """Run a batch that begins a transaction, and end it as the outcome says."""
    if check is None and keep:
        return (await _attempt(pipeline, [*batch, COMMIT], scope))[:-1]
    results = await _attempt(pipeline, batch, scope)
    try:
        if check is not None:
            check(results[-1:])
    except BaseException:
        await pipeline.run([ROLLBACK])
        raise
    await _attempt(pipeline, [COMMIT if keep else ROLLBACK], "")
    return results


async def _attempt(
    pipeline: Pipeline, batch: Sequence[Statement], scope: str
) -> list[pq.abc.PGresult]:
    try:
        return await pipeline.run(batch, scope=scope)
    except StatementError:
        if pipeline.in_transaction:
            await pipeline.run([ROLLBACK])
        raise


def _is_implicit(context: Context, check: Check | None, keep: bool) -> bool:
    """Tell whether the batch's own transaction, which commits at its end, will do."""
    return check is None and keep and context.isolation is None


def _begin(context: Context) -> Statement:
    level = context.isolation
    # Only PostgreSQL's own words go into the statement.
    if level is not None and level in ISOLATION_LEVELS:
        return Statement(f"{BEGIN} ISOLATION LEVEL {level.upper()}")
    return Statement(BEGIN)


def _settings_statement(context: Context) -> Statement:
    caller = context.caller
    values = [context.search_path.encode()]
    for name, value in context.settings.items():
        values += (name.encode(), value.encode())
    values += (
        caller.role.encode(),
        _claims(caller),
        context.method.encode(),
        _text(context.path),
        context.headers,
        headers_json(_cookies(context.cookie)) if context.cookie else b"{}",
    )
    return Statement(_settings_sql(len(context.settings), context.read_only), values)


_SETTINGS_SQL: dict[tuple[int, bool], str] = {}


def _settings_sql(extra: int, read_only: bool) -> str:
    sql = _SETTINGS_SQL.get((extra, read_only))
    if sql is None:
        named = ["'search_path'"]
        # The login may be granted settings that the role may not touch: role last.
        named += [""] * extra
        named += ["'role'", "'request.jwt.claims'", "'request.method'"]
        named += ["'request.path'", "'request.headers'", "'request.cookies'"]
        calls: list[str] = []
        number = 0
        for name in named:
            if not name:
                number += 1
                name = f"${number}"
            number += 1
            calls.append(f"set_config({name}, ${number}, true)")
        if read_only:
            calls.append("set_config('transaction_read_only', 'on', true)")
        sql = _SETTINGS_SQL[extra, read_only] = f"SELECT {', '.join(calls)}"
    return sql


def _claims(caller: Caller) -> bytes:
    if caller.claims.get("role") is not None:
        return caller.claims_json.encode()
    # Policies find the role in the claims, whether the token named one or not.
    return orjson.dumps({**caller.claims, "role": caller.role})


def _text(value: str) -> bytes:
    # Headers and paths may hold bytes that are no UTF-8, which a setting cannot.
    return value.encode("utf-8", "replace").replace(b"\0", b"")


def _cookies(header: str) -> dict[str, str]:
    pairs = (item.strip().partition("=") for item in header.split(";"))
    return {name: value for name, _, value in pairs if name}
