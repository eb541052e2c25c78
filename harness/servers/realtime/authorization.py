"""What a private channel may read and write, decided by policies on realtime.messages.

Reading is shown by probe rows: they are inserted as the service, selected as the
subscriber, and rolled back.  Writing is shown by inserting as the subscriber, each
extension in a subtransaction of its own, rolled back as well.  Requests that arrive
together share a transaction: one statement judges them all, each by itself.

A token may name the roles that ``authenticator`` is a member of, as at the other
services; our own login, a superuser, could become any.

Policies see ``realtime.topic()``, ``extension`` and the claims; event and payload are
NULL, ``private`` has its default.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asyncpg

from harness.servers.realtime.database import Database, DatabaseUnavailableError
from harness.servers.realtime.tokens import Identity, RefusedError

__all__ = ["Access", "Authorizer"]

MAX_BATCH = 200
FAILED = "failed"
POLICY_FAILED = "Realtime was unable to connect to the project database"
CANCELED = "Query was cancelled, please try again"
MISSING_PARTITION = "Realtime was unable to find the partition of today's messages"
log = logging.getLogger(__name__)

# One probe row per extension and request; a request that fails counts as refused.
READ_SQL = """
create or replace function pg_temp.realtime_read(
    _roles text[], _topics text[], _claims text[], _subs text[], _headers text[],
    _presence boolean[]
) returns table (who int, extension text)
language plpgsql as $$
declare
    _ids uuid[];
    _now constant timestamp := timezone('utc', now());
    _ignored text;
begin
    for k in 1 .. cardinality(_roles) loop
        begin
            if not pg_has_role('authenticator', _roles[k], 'MEMBER') then
                raise insufficient_privilege using message =
                    format('permission denied to set role "%s"', _roles[k]);
            end if;
            _ids := array[gen_random_uuid(), gen_random_uuid()];
            insert into realtime.messages
                (id, topic, extension, inserted_at, updated_at)
            select _ids[p.i], _topics[k], p.extension, _now, _now
            from (values (1, 'broadcast'), (2, 'presence')) as p (i, extension)
            where p.i = 1 or _presence[k];
            _ignored := set_config('realtime.topic', _topics[k], true);
            _ignored := set_config('request.jwt.claims', _claims[k], true);
            _ignored := set_config('request.jwt.claim.sub', _subs[k], true);
            _ignored := set_config('request.jwt.claim.role', _roles[k], true);
            _ignored := set_config('request.headers', _headers[k], true);
            _ignored := set_config('role', _roles[k], true);
            who := k;
            for extension in
                select m.extension from realtime.messages m where m.id = any(_ids)
            loop
                return next;
            end loop;
            _ignored := set_config('role', 'none', true);
        exception when others then
            -- The subtransaction took the probe rows and the role with it.
            who := k;
            extension := sqlstate || ' ' || sqlerrm;
            return next;
        end;
    end loop;
end
$$
"""
WRITE_SQL = """
create or replace function pg_temp.realtime_write(
    _roles text[], _topics text[], _claims text[], _subs text[], _headers text[],
    _presence boolean[]
) returns table (who int, extension text)
language plpgsql as $$
declare
    _ignored text;
begin
    for k in 1 .. cardinality(_roles) loop
        foreach extension in array array['broadcast', 'presence'] loop
            continue when extension = 'presence' and not _presence[k];
            begin
                if not pg_has_role('authenticator', _roles[k], 'MEMBER') then
                    raise insufficient_privilege using message =
                        format('permission denied to set role "%s"', _roles[k]);
                end if;
                _ignored := set_config('realtime.topic', _topics[k], true);
                _ignored := set_config('request.jwt.claims', _claims[k], true);
                _ignored := set_config('request.jwt.claim.sub', _subs[k], true);
                _ignored := set_config('request.jwt.claim.role', _roles[k], true);
                _ignored := set_config('request.headers', _headers[k], true);
                _ignored := set_config('role', _roles[k], true);
                insert into realtime.messages (topic, extension)
                values (_topics[k], extension);
                _ignored := set_config('role', 'none', true);
                who := k;
                return next;
            exception
                when insufficient_privilege then
                    null;
                when others then
                    who := k;
                    extension := sqlstate || ' ' || sqlerrm;
                    return next;
                    exit;
            end;
        end loop;
    end loop;
end
$$
"""


@dataclass(frozen=True, slots=True)
class Access:
    """Which kinds of message are allowed."""

    broadcast: bool
    presence: bool


@dataclass(slots=True)
class _Request:
    identity: Identity
    topic: str
    headers_json: str
    presence: bool
    answer: asyncio.Future[Access]


class Authorizer:
    """Judges requests in batches: those that come while one is judged go together."""

    def __init__(
        self,
        database: Database,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        timeout_s: float,
    ) -> None:
        self._database = database
        self._timeout_s = timeout_s
        self._spawn = spawn
        self._waiting: dict[str, list[_Request]] = {"read": [], "write": []}
        self._running: set[str] = set()

    async def read(
        self, identity: Identity, topic: str, headers_json: str, *, presence: bool
    ) -> Access:
        """Return what ``identity`` may hear on ``topic``.

        Raises :class:`RefusedError` when the database cannot say.
        """
        return await self._ask("read", identity, topic, headers_json, presence)

    async def write(
        self, identity: Identity, topic: str, headers_json: str, *, presence: bool
    ) -> Access:
        """Return what ``identity`` may send to ``topic``."""
        return await self._ask("write", identity, topic, headers_json, presence)

    async def _ask(
        self,
        kind: str,
        identity: Identity,
        topic: str,
        headers_json: str,
        presence: bool,
    ) -> Access:
        if "\0" in topic:
            # PostgreSQL has no such text: nothing can allow it.
            return Access(broadcast=False, presence=False)
        answer: asyncio.Future[Access] = asyncio.get_running_loop().create_future()
        request = _Request(identity, topic, headers_json, presence, answer)
        self._waiting[kind].append(request)
        if kind not in self._running:
            self._running.add(kind)
            self._spawn(self._judge_all(kind))
        return await answer

    async def _judge_all(self, kind: str) -> None:
        try:
            while batch := self._waiting[kind][:MAX_BATCH]:
                del self._waiting[kind][:MAX_BATCH]
                await self._judge(kind, batch)
        finally:
            self._running.discard(kind)

    async def _judge(self, kind: str, batch: list[_Request]) -> None:
        try:
            async with self._database.connection() as connection:
                answers = await _probe(connection, kind, batch, self._timeout_s)
        except (DatabaseUnavailableError, asyncpg.PostgresError, TimeoutError) as exc:
            log.warning("private channel not judged: %s", exc)
            for request in batch:
                _fail(request, _refusal(exc))
            return
        except asyncio.CancelledError:
            for request in batch:
                request.answer.cancel()
            raise
        for request, found in zip(batch, answers, strict=True):
            _settle(request, found)


async def _probe(
    connection: asyncpg.Connection[asyncpg.Record],
    kind: str,
    batch: list[_Request],
    timeout_s: float,
) -> list[set[str]]:
    try:
        rows = await _probe_rows(connection, kind, batch, timeout_s)
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
        # The functions go with their session: this one has none yet.
        await connection.execute(READ_SQL)
        await connection.execute(WRITE_SQL)
        rows = await _probe_rows(connection, kind, batch, timeout_s)
    answers: list[set[str]] = [set() for _ in batch]
    for who, extension in rows:
        answers[who - 1].add(extension)
    return answers


async def _probe_rows(
    connection: asyncpg.Connection[asyncpg.Record],
    kind: str,
    batch: list[_Request],
    timeout_s: float,
) -> list[asyncpg.Record]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        rows: list[asyncpg.Record] = await connection.fetch(
            f"select who, extension from pg_temp.realtime_{kind}"
            "($1, $2, $3, $4, $5, $6)",
            [request.identity.role for request in batch],
            [request.topic for request in batch],
            [request.identity.claims_json for request in batch],
            [request.identity.sub for request in batch],
            [request.headers_json for request in batch],
            [request.presence for request in batch],
            timeout=timeout_s,
        )
    finally:
        await transaction.rollback()
    return rows


def _settle(request: _Request, found: set[str]) -> None:
    failures = found - {"broadcast", "presence"}
    if not failures:
        if not request.answer.done():
            access = Access("broadcast" in found, "presence" in found)
            request.answer.set_result(access)
        return
    sqlstate, _, text = min(failures).partition(" ")
    log.warning("policy on realtime.messages failed: %s", text)
    if sqlstate == "23514":
        _fail(request, RefusedError("MissingPartition", MISSING_PARTITION))
    elif not request.answer.done():
        # A policy that fails allows nothing, as on the hosted service.
        request.answer.set_result(Access(broadcast=False, presence=False))


def _fail(request: _Request, refusal: RefusedError) -> None:
    if not request.answer.done():
        request.answer.set_exception(refusal)


def _refusal(error: Exception) -> RefusedError:
    if isinstance(error, asyncpg.QueryCanceledError | TimeoutError):
        return RefusedError("QueryCanceled", CANCELED)
    if isinstance(error, DatabaseUnavailableError):
        return error.refusal
    return RefusedError("", POLICY_FAILED)
