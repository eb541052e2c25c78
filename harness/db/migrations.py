"""Apply schema files to a database: one transaction a file, errors with their place.

Follows the Supabase CLI: files run as role ``postgres`` with fresh settings, each in
one transaction that also enters it in ``supabase_migrations.schema_migrations``.
Around a statement that PostgreSQL refuses in a transaction (``CREATE INDEX
CONCURRENTLY``) the file falls into several transactions.  Platform files run as
``supabase_admin`` and are not recorded.

Applying is repeated execution, not bookkeeping: our own schemas are written so that a
second application changes nothing.  Projects of the CLI choose by history instead
(:mod:`harness.db.supabase_project`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from harness.db.address import Connection
from harness.db.extensions import create_extension, is_shimmed
from harness.db.schema_files import Schema, SchemaFile
from harness.db.statements import (
    Statement,
    as_alter_role,
    limit_to_database,
    retarget_database,
    split_statements,
)
from harness.errors import MigrationError, StackError

__all__ = [
    "MigrationSession",
    "applied_versions",
    "apply_schema",
    "ensure_history",
    "migration_session",
]

# The default database's name in the documentation, whatever ours is called.
DOCUMENTED_DATABASE = "postgres"
PROJECT_ROLE = "postgres"
SEARCH_PATH = '"$user", public, extensions'
PLATFORM_ROLES = frozenset(
    {
        "anon",
        "authenticated",
        "authenticator",
        "dashboard_user",
        "pgbouncer",
        "postgres",
        "service_role",
        "supabase_admin",
        "supabase_auth_admin",
        "supabase_functions_admin",
        "supabase_read_only_user",
        "supabase_realtime_admin",
        "supabase_replication_admin",
        "supabase_storage_admin",
    }
)
LOCK_KEY = 7305870112
INLINE_LINE = re.compile(
    r"^PL/pgSQL function inline_code_block line (\d+)", re.MULTILINE
)
DOLLAR_QUOTE = re.compile(r"\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$")

HISTORY = (
    "create schema if not exists supabase_migrations",
    "create table if not exists supabase_migrations.schema_migrations"
    " (version text not null primary key)",
    "alter table supabase_migrations.schema_migrations"
    " add column if not exists statements text[]",
    "alter table supabase_migrations.schema_migrations"
    " add column if not exists name text",
)
RECORD = """\
insert into supabase_migrations.schema_migrations (version, name, statements)
values ($1, $2, $3)
on conflict (version) do update set
  name = excluded.name, statements = excluded.statements"""


async def apply_schema(connection: Connection, schema: Schema) -> None:
    """Apply every file of ``schema``; raises :class:`MigrationError`.

    ``connection`` is a superuser's, or (on a server that is not ours) that of role
    ``postgres`` itself.  All files are parsed first, so a syntax error in the last one
    changes nothing.
    """
    parsed = [(f, split_statements(f.text, file=f.label)) for f in schema.files]
    async with migration_session(connection, schema.role) as session:
        if schema.recorded and any(file.version for file in schema.files):
            await ensure_history(connection)
        for file, statements in parsed:
            await session.apply(file, statements, recorded=schema.recorded)


@asynccontextmanager
async def migration_session(
    connection: Connection, role: str
) -> AsyncIterator[MigrationSession]:
    """Lock the database against other migrations and become ``role``."""
    superuser = await connection.fetchval(
        "select rolsuper from pg_catalog.pg_roles where rolname = session_user"
    )
    session = MigrationSession(connection, role if superuser else None)
    await connection.execute("select pg_advisory_lock($1)", LOCK_KEY)
    try:
        yield session
    finally:
        if not connection.is_closed():
            await session.leave()
            await connection.execute("select pg_advisory_unlock($1)", LOCK_KEY)


async def ensure_history(connection: Connection) -> None:
    """Create the table of applied versions as role ``postgres``, if there is none."""
    async with connection.transaction():
        await connection.execute("set local role postgres")
        for statement in HISTORY:
            await connection.execute(statement)


async def applied_versions(connection: Connection) -> tuple[str, ...]:
    """Return the recorded versions in order, none if nothing was ever recorded."""
    if not await connection.fetchval(
        "select to_regclass('supabase_migrations.schema_migrations') is not null"
    ):
        return ()
    rows = await connection.fetch(
        "select version from supabase_migrations.schema_migrations order by version"
    )
    return tuple(row["version"] for row in rows)


class MigrationSession:
    """One connection that applies files as ``role`` (``None``: as whom it logged in).

    Made by :func:`migration_session`.
    """

    def __init__(self, connection: Connection, role: str | None) -> None:
        self._connection = connection
        self._role = role
        self._roles_made: set[str] = set()

    async def apply(
        self, file: SchemaFile, statements: Sequence[Statement], *, recorded: bool
    ) -> None:
        """Run one file in a transaction of its own."""
        await self._enter()
        await self._connection.execute("begin")
        try:
            for statement in statements:
                if statement.kind == "outside_transaction":
                    await self._run_outside(file, statement)
                else:
                    await self._run(file, statement)
            if recorded and file.version:
                await self._record(file, statements)
            if statements:
                await self._commit(file, statements[-1])
        except BaseException:
            if not self._connection.is_closed():
                await self._connection.execute("rollback")
            raise

    async def leave(self) -> None:
        """Give the connection back as it came."""
        if self._connection.is_in_transaction():
            await self._connection.execute("rollback")
        await self._connection.execute("reset session authorization; reset all")

    async def _enter(self) -> None:
        """Forget what the last file set, then become the role."""
        await self.leave()
        await self._become()
        await self._connection.execute(f"set search_path = {SEARCH_PATH}")

    async def _become(self) -> None:
        if self._role is not None:
            await self._connection.execute(f"set session authorization {self._role}")

    async def _run(self, file: SchemaFile, statement: Statement) -> None:
        try:
            await self._dispatch(file, statement)
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as exc:
            if isinstance(exc, asyncpg.PostgresError) and not _is_loss(exc):
                raise _placed(exc, file, statement) from exc
            raise StackError(
                f"the database was lost at {file.label}:{statement.line}: {exc}",
                service="postgres",
            ) from exc

    async def _run_outside(self, file: SchemaFile, statement: Statement) -> None:
        await self._commit(file, statement)
        await self._run(file, statement)
        await self._connection.execute("begin")

    async def _dispatch(self, file: SchemaFile, statement: Statement) -> None:
        match statement.kind:
            case "create_extension":
                async with self._as_superuser():
                    done = await create_extension(
                        self._connection, statement, file=file.label
                    )
                if not done:
                    await self._connection.execute(statement.text)
            case "about_extension":
                async with self._as_superuser():
                    if not await is_shimmed(self._connection, statement.subject):
                        await self._connection.execute(statement.text)
            case "alter_database" if statement.subject == DOCUMENTED_DATABASE:
                dbname = await self._connection.fetchval("select current_database()")
                await self._connection.execute(retarget_database(statement, dbname))
            case "alter_role_set" if self._isolates:
                dbname = await self._connection.fetchval("select current_database()")
                await self._connection.execute(limit_to_database(statement, dbname))
            case "create_role" if self._isolates:
                await self._create_role(statement)
            case "transaction":
                await self._control(statement)
            case _:
                await self._connection.execute(statement.text)

    @property
    def _isolates(self) -> bool:
        """Whether files must be kept from reaching other databases of the server.

        Roles belong to the server, projects to databases of it.
        """
        return self._role == PROJECT_ROLE

    async def _create_role(self, statement: Statement) -> None:
        """Create a role, or take over the one that another project's clone created."""
        name = statement.subject
        leftover = name not in self._roles_made and await self._connection.fetchval(
            "select exists (select from pg_catalog.pg_roles where rolname = $1)", name
        )
        if leftover and name not in PLATFORM_ROLES:
            await self._connection.execute(as_alter_role(statement))
        else:
            await self._connection.execute(statement.text)
        self._roles_made.add(name)

    async def _control(self, statement: Statement) -> None:
        """Obey a file's own transaction control inside the file's transaction."""
        if statement.subject in ("begin", "start"):
            return
        await self._connection.execute(statement.text)
        if not self._connection.is_in_transaction():
            await self._connection.execute("begin")

    async def _record(self, file: SchemaFile, statements: Sequence[Statement]) -> None:
        texts = [statement.source for statement in statements]
        try:
            await self._connection.execute(RECORD, file.version, file.name, texts)
        except asyncpg.PostgresError as exc:
            raise MigrationError(
                f"version {file.version} could not be recorded: {exc.message}",
                file=file.label,
                line=1,
                sqlstate=exc.sqlstate or "",
                hint="does the file leave a role, a timeout or a lock behind?",
            ) from exc

    async def _commit(self, file: SchemaFile, statement: Statement) -> None:
        try:
            await self._connection.execute("commit")
        except asyncpg.PostgresError as exc:
            # A deferred constraint: no statement but the latest can be named.
            raise _placed(exc, file, statement) from exc

    @asynccontextmanager
    async def _as_superuser(self) -> AsyncIterator[None]:
        """Act as the connection's login; a failure leaves that to the rollback."""
        if self._role is None:
            yield
            return
        await self._connection.execute("reset session authorization")
        yield
        await self._become()


def _is_loss(exc: asyncpg.PostgresError) -> bool:
    """Tell whether the session ended: class 08, shutdown and termination of 57P."""
    return (exc.sqlstate or "").startswith(("08", "57P"))


def _placed(
    exc: asyncpg.PostgresError, file: SchemaFile, statement: Statement
) -> MigrationError:
    """Return the server's error with the place that it is about."""
    within = _line_within(exc, statement)
    place = "" if within is None else f" (line {statement.line + within})"
    error = MigrationError(
        f"{exc.message}{place}",
        file=file.label,
        line=statement.line,
        statement=statement.text,
        sqlstate=exc.sqlstate or "",
        hint=exc.hint,
    )
    if exc.detail:
        error.add_note(exc.detail)
    return error


def _line_within(exc: asyncpg.PostgresError, statement: Statement) -> int | None:
    """Return how many lines into the statement the error is, ``None`` for its first.

    The server gives a character position, or for an anonymous block the line of the
    block's body.
    """
    lines = 0
    if exc.position:
        lines = statement.text.count("\n", 0, int(exc.position) - 1)
    elif exc.context and (inline := INLINE_LINE.search(exc.context)):
        opening = DOLLAR_QUOTE.search(statement.text)
        body = opening.end() if opening else 0
        lines = statement.text.count("\n", 0, body) + int(inline[1]) - 1
    return lines or None
