"""The schema of a running database, as SQL for one of our own clusters.

Read with ``pg_dump`` and the catalog only: no row of a table is read, but for the rows
of ``storage.buckets``, which are configuration.  The platform's own schemas come from
``sql/platform``; of the source's only what a project adds to them is taken: policies on
their tables and triggers that call functions of the project.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from harness.db.address import Connection
from harness.db.schema_files import Schema, SchemaFile
from harness.db.statements import split_statements
from harness.errors import StackError, UsageError

__all__ = ["copy_schema"]

LABEL = "source database"
PLATFORM_SCHEMAS = (
    "auth", "storage", "_storage", "realtime", "_realtime", "extensions", "vault",
    "graphql", "graphql_public", "pgbouncer", "pgsodium", "pgsodium_masks",
    "supabase_functions",
    "supabase_migrations", "net", "cron", "_analytics", "pgmq",
)  # fmt: skip
PSQL_LINE = re.compile(r"^\\(un)?restrict .*$", re.MULTILINE)
# What the platform has already, or what is not the project's to bring.
ALREADY_THERE = re.compile(
    r"\s*(create schema (public|\"?extensions\"?)|comment on (schema public|extension)"
    r"|create publication \"?supabase_|alter publication \"?supabase_\w+\"? owner"
    # Settings of newer pg_dump that older servers do not know.
    r"|set transaction_timeout"
    r"|create event trigger|alter event trigger|alter schema public owner"
    r"|create extension if not exists \"?(pg_graphql|supabase_vault|pg_net|pgsodium"
    r"|pg_stat_statements|pg_cron|pgjwt|plpgsql)\b)",
    re.IGNORECASE,
)
ROLES = """\
select rolname as name, rolinherit as inherits, rolbypassrls as bypasses,
  array(select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid
        where m.member = r.oid and g.rolname !~ '^pg_') as member_of
from pg_roles r where rolname !~ '^pg_' order by rolname"""
POLICIES = """\
select format('create policy %I on %I.%I as %s for %s to %s%s%s',
  p.policyname, p.schemaname, p.tablename, p.permissive, p.cmd,
  (select string_agg(case r when 'public' then r else quote_ident(r) end, ', ')
   from unnest(p.roles) r),
  ' using (' || p.qual || ')', ' with check (' || p.with_check || ')') as sql
from pg_policies p where p.schemaname = any($1::text[]) order by 1"""
TRIGGERS = """\
select pg_get_triggerdef(t.oid) as sql
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_proc f on f.oid = t.tgfoid
where not t.tgisinternal
  and c.relnamespace::regnamespace::text = any($1::text[])
  and not f.pronamespace::regnamespace::text = any($1::text[])
order by 1"""
BUCKETS = """\
select format('insert into storage.buckets (id, name, public, file_size_limit,'
  ' allowed_mime_types) values (%L, %L, %L, %L, %L) on conflict (id) do nothing',
  id, name, public, file_size_limit, allowed_mime_types) as sql
from storage.buckets order by id"""


async def copy_schema(url: str, *, pg_dump: Path) -> tuple[Schema, ...]:
    """Return what a fresh database with the platform needs to have ``url``'s schema.

    Raises :class:`UsageError` if the database cannot be reached and
    :class:`StackError` where ``pg_dump`` fails.
    """
    try:
        source = await asyncpg.connect(url, statement_cache_size=0)
    except (OSError, ValueError, asyncpg.PostgresError) as exc:
        raise UsageError(f"the database cannot be reached: {exc}") from exc
    try:
        roles = [_role_sql(row) for row in await source.fetch(ROLES)]
        additions = [sql async for sql in _additions(source)]
    finally:
        await source.close()
    dumped = _without_platform(await _dump(url, pg_dump))
    return tuple(
        Schema((SchemaFile(LABEL, "", name, text),), "supabase_admin", recorded=False)
        for name, text in (
            ("roles", ";\n".join(roles)),
            ("schema", dumped),
            ("additions", ";\n".join(additions)),
        )
        if text.strip()
    )


def _role_sql(role: asyncpg.Record) -> str:
    """Return SQL that makes a role of the source where ours has none of that name."""
    name = _literal(role["name"])
    inherit = "inherit" if role["inherits"] else "noinherit"
    bypass = " bypassrls" if role["bypasses"] else ""
    body = f"execute format('create role %I {inherit}{bypass}', {name});"
    for group in role["member_of"]:
        body += (
            f" if exists (select from pg_roles where rolname = {_literal(group)}) then"
            f" execute format('grant %I to %I', {_literal(group)}, {name}); end if;"
        )
    return (
        f"do $$ begin if not exists (select from pg_roles where rolname = {name}) then"
        f" {body} end if; end $$"
    )


async def _additions(source: Connection) -> AsyncIterator[str]:
    platform = list(PLATFORM_SCHEMAS)
    for query in (POLICIES, TRIGGERS):
        for row in await source.fetch(query, platform):
            yield row["sql"]
    if await source.fetchval("select to_regclass('storage.buckets') is not null"):
        for row in await source.fetch(BUCKETS):
            yield row["sql"]


async def _dump(url: str, pg_dump: Path) -> str:
    excluded = [f"--exclude-schema={name}" for name in PLATFORM_SCHEMAS]
    process = await asyncio.create_subprocess_exec(
        str(pg_dump), "--schema-only", "--no-password", "--no-tablespaces",
        *excluded, f"--dbname={url}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    if process.returncode:
        raise StackError(
            "pg_dump could not read the schema",
            service="pg_dump",
            log_tail=err.decode(errors="replace"),
            hint="it must be as new as the server: see 'harness doctor'",
        )
    return out.decode()


def _without_platform(dump: str) -> str:
    text = PSQL_LINE.sub("", dump)
    statements = split_statements(text, file=LABEL)
    return ";\n".join(s.text for s in statements if not ALREADY_THERE.match(s.text))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
