"""Runs statements as a persona and takes everything back, errors included.

One PL/pgSQL function does the work inside the database: it becomes the persona, runs
the commands in a subtransaction, looks at the result with the eyes of a superuser, and
undoes it all.  A probe therefore never changes a world, and costs one round trip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import orjson

from harness.db.address import Connection
from harness.db.catalog import Name, quote_identifier
from harness.db.sessions import claim_settings
from harness.policies.personas import Persona
from harness.policies.values import literal

__all__ = [
    "WITHOUT_TRIGGERS",
    "WITH_TRIGGERS",
    "Answer",
    "Attempt",
    "Prober",
    "answer_of",
    "install_probes",
]

DEFAULT_STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 1_000
STATEMENT_TIMEOUT = "57014"
WORTH_PREPARING = 8
# Triggers and foreign keys off, for what a probe prepares as superuser.
WITHOUT_TRIGGERS = "set local session_replication_role = replica"
WITH_TRIGGERS = "set local session_replication_role = origin"

PROBES = """
create schema if not exists harness_probe;

create or replace function harness_probe.attempt(p jsonb) returns jsonb
language plpgsql as $$
declare
  setting record;
  command text;
  counts bigint[] := '{}';
  affected bigint;
  fetched jsonb;
  seen jsonb;
  state text;
  told text;
  context text;
begin
  begin
    if p ? 'observe' then
      perform harness_probe.mark();
    end if;
    perform set_config('search_path', p -> 'settings' ->> 'search_path', true);
    if p ? 'setup' then
      for command in select jsonb_array_elements_text(p -> 'setup') loop
        execute command;
      end loop;
    end if;
    for setting in select key, value from jsonb_each_text(p -> 'settings')
                    where key <> 'role' loop
      perform set_config(setting.key, setting.value, true);
    end loop;
    perform set_config('role', p -> 'settings' ->> 'role', true);
    for command in select jsonb_array_elements_text(p -> 'commands') loop
      execute command;
      get diagnostics affected = row_count;
      counts := counts || affected;
    end loop;
    if p ? 'fetch' then
      execute p ->> 'fetch' into fetched;
    end if;
    perform set_config('role', 'none', true);
    if p ? 'observe' then
      execute p ->> 'observe' into seen;
    end if;
    raise sqlstate 'HP000';
  exception
    when sqlstate 'HP000' then
      null;
    when others then
      get stacked diagnostics state = returned_sqlstate, told = message_text,
        context = pg_exception_context;
  end;
  return jsonb_build_object('counts', counts, 'fetched', fetched,
    'seen', seen, 'sqlstate', state, 'message', told, 'context', context);
end $$;

create or replace function harness_probe.attempt_all(p jsonb) returns jsonb
language plpgsql as $$
declare
  item jsonb;
  answers jsonb[] := '{}';
begin
  for item in select jsonb_array_elements(p) loop
    answers := answers || harness_probe.attempt(item);
  end loop;
  return to_jsonb(answers);
end $$;

create or replace function harness_probe.attempt_each(p jsonb) returns jsonb
language plpgsql as $$
declare
  setting record;
  command text;
  affected bigint;
  state text;
  told text;
  context text;
  answers jsonb[] := '{}';
begin
  for setting in select key, value from jsonb_each_text(p -> 'settings')
                  where key <> 'role' loop
    perform set_config(setting.key, setting.value, true);
  end loop;
  if p ? 'prepare' then
    execute 'prepare harness_statement as ' || (p ->> 'prepare');
  end if;
  perform set_config('role', p -> 'settings' ->> 'role', true);
  for command in select jsonb_array_elements_text(p -> 'commands') loop
    state := null;
    begin
      execute command;
      get diagnostics affected = row_count;
      raise sqlstate 'HP000';
    exception
      when sqlstate 'HP000' then
        null;
      when others then
        state := sqlstate;
        told := sqlerrm;
        if state <> '42501' then
          get stacked diagnostics context = pg_exception_context;
        end if;
    end;
    answers := answers || case when state is null
      then jsonb_build_object('counts', jsonb_build_array(affected))
      else jsonb_build_object('sqlstate', state, 'message', told, 'context', context)
    end;
  end loop;
  perform set_config('role', 'none', true);
  if p ? 'prepare' then
    execute 'deallocate harness_statement';
  end if;
  return to_jsonb(answers);
end $$;

create or replace function harness_probe.store(p jsonb) returns jsonb
language plpgsql as $$
declare
  item jsonb;
  state text;
  told text;
  failures jsonb := '[]';
begin
  -- A deferred key would fail all rows at the end instead of one.
  set constraints all immediate;
  for item in select jsonb_array_elements(p) loop
    begin
      perform set_config('search_path', 'public, extensions', true),
              set_config('request.jwt.claims', item ->> 'claims', true),
              set_config('request.jwt.claim.sub', item ->> 'sub', true);
      execute item ->> 'sql';
    exception when others then
      get stacked diagnostics state = returned_sqlstate, told = message_text;
      failures := failures || jsonb_build_array(jsonb_build_object(
        'row', item -> 'row', 'sqlstate', state, 'message', told));
    end;
  end loop;
  perform set_config('request.jwt.claims', '', true),
          set_config('request.jwt.claim.sub', '', true);
  return failures;
end $$;

create or replace function harness_probe.truths(
  p_table text, p_lists text[], p_personas jsonb) returns jsonb
language plpgsql as $$
declare
  persona jsonb;
  list text;
  vectors jsonb;
  answers jsonb[];
  all_answers jsonb[] := '{}';
begin
  perform set_config('search_path', 'public, extensions', true);
  for persona in select jsonb_array_elements(p_personas) loop
    perform set_config('request.jwt.claims', persona ->> 'claims', true),
            set_config('request.jwt.claim.sub', persona ->> 'sub', true);
    answers := '{}';
    foreach list in array p_lists loop
      begin
        execute format('select coalesce(jsonb_agg(v), ''[]'') from'
          ' (select distinct jsonb_build_array(%s) as v from %s) s', list, p_table)
          into vectors;
        answers := answers || jsonb_build_object('vectors', vectors);
      exception when others then
        answers := answers || jsonb_build_object('raised', sqlerrm);
      end;
    end loop;
    all_answers := all_answers || to_jsonb(answers);
  end loop;
  return to_jsonb(all_answers);
end $$;

-- Statements of a transaction's own statistics: the server reports them at most once a
-- second, so that they still hold what earlier probes did.
create or replace function harness_probe.written() returns jsonb
language sql as $$
  -- Not from pg_stat_xact_all_tables, which joins the indexes of every table.
  select coalesce(jsonb_object_agg(t.oid, t.written), '{}')
    from (select c.oid, pg_stat_get_xact_tuples_inserted(c.oid)
                 + pg_stat_get_xact_tuples_updated(c.oid)
                 + pg_stat_get_xact_tuples_deleted(c.oid) as written
            from pg_class c
           -- PostgreSQL's own tables have the oids below.
           where c.relkind = 'r' and c.oid >= 16384 and c.relpersistence <> 't') t
   where t.written > 0
$$;

create or replace function harness_probe.mark() returns void
language sql as $$
  select set_config('harness.written', harness_probe.written()::text, true)
$$;

create or replace function harness_probe.changed() returns jsonb
language plpgsql as $$
declare
  touched record;
  rows jsonb;
  found jsonb := '{}';
  before jsonb := current_setting('harness.written')::jsonb;
begin
  for touched in
    select n.nspname as schemaname, c.relname
      from jsonb_each(harness_probe.written()) w
      join pg_class c on c.oid = w.key::oid
      join pg_namespace n on n.oid = c.relnamespace
     where w.value is distinct from before -> w.key
  loop
    execute format(
      'select coalesce(jsonb_agg(jsonb_build_object('
      '''at'', t.tableoid::oid || t.ctid::text, ''row'', to_jsonb(t.*))), ''[]'')'
      ' from %I.%I t',
      touched.schemaname, touched.relname) into rows;
    found := found || jsonb_build_object(
      touched.schemaname || '.' || touched.relname, rows);
  end loop;
  return found;
end $$;
"""


async def install_probes(connection: Connection) -> None:
    """Create the probe functions in a scratch database."""
    await connection.execute(PROBES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Commands to run as ``persona`` and what to look at afterwards.

    ``setup`` runs first, as superuser; ``fetch`` is a last query of the persona whose
    single value comes back; ``observe`` runs as superuser before everything is undone.
    """

    persona: Persona
    commands: tuple[str, ...] = ()
    fetch: str = ""
    observe: str = ""
    setup: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """Return the argument of ``harness_probe.attempt``."""
        settings = {
            **persona_settings(self.persona),
            "search_path": "public, extensions",
            "plpgsql.check_asserts": "on",
            **self.settings,
        }
        payload: dict[str, Any] = {"settings": settings, "commands": self.commands}
        if self.setup:
            payload["setup"] = self.setup
        if self.fetch:
            payload["fetch"] = self.fetch
        if self.observe:
            payload["observe"] = self.observe
        return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What happened: rows affected by each command, values seen, or an error."""

    counts: tuple[int, ...] = ()
    fetched: Any = None
    seen: Any = None
    sqlstate: str = ""
    message: str = ""
    context: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing raised."""
        return not self.sqlstate

    @property
    def denied(self) -> bool:
        """Whether a policy or a missing grant refused it."""
        return self.sqlstate == "42501"

    @property
    def admitted(self) -> bool:
        """Whether it passed the policies, even if a constraint then refused it."""
        return self.ok or self.sqlstate.startswith("23")

    @property
    def raised_on_purpose(self) -> bool:
        """Whether a RAISE in a function's body refused it."""
        return self.context.partition("\n")[0].endswith("at RAISE")

    @property
    def timed_out(self) -> bool:
        """Whether it ran into the statement timeout."""
        return self.sqlstate == STATEMENT_TIMEOUT


class Prober:
    """Asks a scratch database; counts ``decisions`` as they are executed."""

    def __init__(
        self,
        connection: Connection,
        *,
        statement_timeout_ms: int = DEFAULT_STATEMENT_TIMEOUT_MS,
    ) -> None:
        self.connection = connection
        self.decisions = 0
        self._statement_timeout_ms = statement_timeout_ms

    async def prepare(self) -> None:
        """Set the limits that keep a probe from hanging."""
        await self.connection.execute(
            f"set statement_timeout = {self._statement_timeout_ms};"
            f"set lock_timeout = {LOCK_TIMEOUT_MS};"
            "set idle_in_transaction_session_timeout = 0;"
            "set client_min_messages = error;"
            "set jit = off"
        )

    async def attempt(self, attempt: Attempt) -> Answer:
        """Run one attempt."""
        self.decisions += 1
        query = "select harness_probe.attempt($1::text::jsonb)"
        payload = orjson.dumps(attempt.payload()).decode()
        try:
            found = await self.connection.fetchval(query, payload)
            return answer_of(orjson.loads(found))
        except asyncpg.PostgresError as exc:
            # What PL/pgSQL cannot catch: a timeout, or a fault of its own.
            return Answer(sqlstate=exc.sqlstate or "XX000", message=str(exc))

    async def attempt_all(self, attempts: Sequence[Attempt]) -> list[Answer]:
        """Run many attempts in one round trip; each is undone before the next."""
        if not attempts:
            return []
        query = "select harness_probe.attempt_all($1::text::jsonb)"
        payload = orjson.dumps([attempt.payload() for attempt in attempts]).decode()
        try:
            found = await self.connection.fetchval(query, payload)
        except asyncpg.PostgresError:
            # One of them could not be contained: run them one by one.
            return [await self.attempt(attempt) for attempt in attempts]
        self.decisions += len(attempts)
        return [answer_of(answer) for answer in orjson.loads(found)]

    async def attempt_each(
        self,
        persona: Persona,
        commands: Sequence[str],
        settings: Mapping[str, str] | None = None,
    ) -> list[Answer]:
        """Run many statements of one persona, each undone before the next.

        Cheaper than :meth:`attempt_all`.
        """
        if not commands:
            return []
        attempt = Attempt(persona=persona, settings=settings or {})
        payload = {**attempt.payload(), "commands": list(commands)}
        found = await self._each(payload)
        if found is None:
            # One of them could not be contained: run them one by one.
            return [
                await self.attempt(replace(attempt, commands=(command,)))
                for command in commands
            ]
        return found

    async def attempt_rows(
        self, persona: Persona, table: Name, rows: Sequence[Mapping[str, str | None]]
    ) -> list[Answer]:
        """Try to INSERT each row, undone before the next, planned once a shape."""
        answers: dict[int, Answer] = {}
        shapes: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(rows):
            shapes.setdefault(tuple(row), []).append(index)
        for shape, members in shapes.items():
            chosen = [rows[index] for index in members]
            found = await self._shaped(persona, table, shape, chosen)
            answers |= dict(zip(members, found, strict=True))
        return [answers[index] for index in range(len(rows))]

    async def _shaped(
        self,
        persona: Persona,
        table: Name,
        shape: tuple[str, ...],
        rows: Sequence[Mapping[str, str | None]],
    ) -> list[Answer]:
        columns = ", ".join(quote_identifier(name) for name in shape)
        head = f"insert into {table.sql} ({columns})"
        lists = [", ".join(literal(row[name]) for name in shape) for row in rows]
        statements = [f"{head} values ({values})" for values in lists]
        if len(rows) < WORTH_PREPARING or not shape:
            return await self.attempt_each(persona, statements)
        numbered = ", ".join(f"${n}" for n in range(1, len(shape) + 1))
        payload = {
            **Attempt(persona=persona).payload(),
            "prepare": f"{head} values ({numbered})",
            "commands": [f"execute harness_statement({values})" for values in lists],
        }
        found = await self._each(payload)
        return found or await self.attempt_each(persona, statements)

    async def _each(self, payload: Mapping[str, Any]) -> list[Answer] | None:
        """Run ``harness_probe.attempt_each``; None if it could not contain a fault."""
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            found = await self.connection.fetchval(
                "select harness_probe.attempt_each($1::text::jsonb)",
                orjson.dumps(payload).decode(),
            )
        except asyncpg.PostgresError:
            found = None
        finally:
            await transaction.rollback()
        if found is None:
            # A prepared statement outlives the transaction that failed.
            await self.connection.execute("deallocate all")
            return None
        self.decisions += len(payload["commands"])
        return [answer_of(answer) for answer in orjson.loads(found)]


def persona_settings(persona: Persona) -> dict[str, str]:
    """Return the settings that make a transaction speak for ``persona``."""
    return claim_settings(persona.role, persona.claims)


def answer_of(found: Mapping[str, Any]) -> Answer:
    """Return what ``harness_probe.attempt`` told as an answer."""
    return Answer(
        counts=tuple(found.get("counts") or ()),
        fetched=found.get("fetched"),
        seen=found.get("seen"),
        sqlstate=found.get("sqlstate") or "",
        message=found.get("message") or "",
        context=found.get("context") or "",
    )
