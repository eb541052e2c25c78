"""Template databases named by the hash of the schema they hold, and their clones.

The first to ask for a schema builds its template under a lock that every client of the
server shares; afterwards a clone is a file copy.  A template is complete when it is
marked ``is_template``; one that a crash left half-built is dropped and built again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Self

import asyncpg

from harness.db.address import Connection, DatabaseAddress
from harness.db.initdb import SUPERUSER
from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema, digest

__all__ = ["TemplateStore", "clone_name", "drop_database"]

TEMPLATE_PREFIX = "harness_template_"
OWNER = "postgres"
# One builder at a time: builds are rare and lock shared catalogs anyway.
BUILD_LOCK = 7305870113


class TemplateStore:
    """Templates and clones of one server; ``async with TemplateStore(address)``.

    ``server`` is the address of the maintenance database, ``login`` a superuser.
    Not for concurrent use by several tasks: it holds one connection.
    """

    def __init__(self, server: DatabaseAddress, *, login: str = SUPERUSER) -> None:
        self._server = server
        self._login = login
        self._connection: Connection | None = None
        self._settings: dict[str, tuple[str, ...]] = {}

    async def open(self) -> None:
        """Connect to the maintenance database."""
        self._connection = await asyncpg.connect(
            **self._server.connect_args(self._login), statement_cache_size=0
        )

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def address(self, dbname: str) -> DatabaseAddress:
        """Return where a database of this server is."""
        server = self._server
        return DatabaseAddress(server.host, server.port, dbname, server.password)

    async def template(self, schemas: Sequence[Schema]) -> str:
        """Return the name of the template that holds ``schemas``, built if need be.

        Raises :class:`~harness.errors.MigrationError` if a file cannot be applied.
        """
        name = TEMPLATE_PREFIX + digest(schemas)
        if not await self._is_complete(name):
            await self._maintenance.execute("select pg_advisory_lock($1)", BUILD_LOCK)
            try:
                if not await self._is_complete(name):
                    await self._build(name, schemas)
            finally:
                await self._maintenance.execute(
                    "select pg_advisory_unlock($1)", BUILD_LOCK
                )
        return name

    async def clone(self, template: str, name: str | None = None) -> str:
        """Make a database from a template; returns its name."""
        name = name or clone_name()
        await self._maintenance.execute(
            f"create database {_quoted(name)} template {_quoted(template)}"
            f" strategy file_copy owner {OWNER}"
        )
        # Settings of a database stand outside of it and are not copied with it.
        for setting in await self._settings_of(template):
            await self._maintenance.execute(setting.format(database=_quoted(name)))
        return name

    async def drop(self, name: str) -> None:
        """Drop a database with its sessions and replication slots."""
        await drop_database(self._maintenance, name)

    async def rename(self, name: str, new_name: str) -> None:
        """Rename a database that nobody is connected to."""
        await self._maintenance.execute(
            f"alter database {_quoted(name)} rename to {_quoted(new_name)}"
        )

    async def databases(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the databases that begin with ``prefix``."""
        rows = await self._maintenance.fetch(
            "select datname from pg_catalog.pg_database"
            " where starts_with(datname, $1) order by datname",
            prefix,
        )
        return tuple(row["datname"] for row in rows)

    async def try_lock(self, key: int) -> bool:
        """Take a lock that all clients of the server share; it ends with the store."""
        query = "select pg_try_advisory_lock($1)"
        return bool(await self._maintenance.fetchval(query, key))

    async def unlock(self, key: int) -> None:
        """Give such a lock back."""
        await self._maintenance.execute("select pg_advisory_unlock($1)", key)

    def sibling(self) -> TemplateStore:
        """Return another store, not open, for the same server."""
        return TemplateStore(self._server, login=self._login)

    @property
    def _maintenance(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the template store is not open")
        return self._connection

    async def _is_complete(self, name: str) -> bool:
        query = (
            "select from pg_catalog.pg_database where datname = $1 and datistemplate"
        )
        return await self._maintenance.fetchrow(query, name) is not None

    async def _build(self, name: str, schemas: Sequence[Schema]) -> None:
        await self.drop(name)
        base, rest = schemas[:1], schemas[1:]
        try:
            if rest:
                # The platform comes first for everybody: apply it once.
                await self.clone(await self.template(base), name)
            else:
                await self._maintenance.execute(f"create database {_quoted(name)}")
            await self._fill(name, rest or base)
        except BaseException:
            await self.drop(name)
            raise
        await self._maintenance.execute(
            f"alter database {_quoted(name)} is_template true"
        )

    async def _give_to_owner(self, name: str) -> None:
        query = "select from pg_catalog.pg_roles where rolname = $1"
        if await self._maintenance.fetchrow(query, OWNER) is not None:
            await self._maintenance.execute(
                f"alter database {_quoted(name)} owner to {OWNER}"
            )

    async def _fill(self, name: str, schemas: Sequence[Schema]) -> None:
        connection = await asyncpg.connect(
            **self.address(name).connect_args(self._login), statement_cache_size=0
        )
        try:
            for schema in schemas:
                await apply_schema(connection, schema)
                # The first schema of a new server makes the role.
                await self._give_to_owner(name)
        finally:
            await connection.close()

    async def _settings_of(self, template: str) -> tuple[str, ...]:
        if template not in self._settings:
            self._settings[template] = await _database_settings(
                self._maintenance, template
            )
        return self._settings[template]


def clone_name() -> str:
    """Return a new name for a clone."""
    return f"harness_{secrets.token_hex(6)}"


async def drop_database(connection: Connection, name: str) -> None:
    """Drop a database if it exists, with its sessions and replication slots."""
    query = "select from pg_catalog.pg_database where datname = $1"
    if await connection.fetchrow(query, name) is None:
        return
    quoted = _quoted(name)
    await connection.execute(f"alter database {quoted} is_template false")
    # No new sessions: a client that reconnects at once would win the race for ever.
    await connection.execute(f"alter database {quoted} allow_connections false")
    await connection.execute(
        """
        select pg_catalog.pg_terminate_backend(s.active_pid, 5000)
        from pg_catalog.pg_replication_slots s
        where s.database = $1 and s.active_pid is not null
        """,
        name,
    )
    await connection.execute(
        """
        select pg_catalog.pg_drop_replication_slot(s.slot_name)
        from pg_catalog.pg_replication_slots s
        where s.database = $1
        """,
        name,
    )
    await connection.execute(f"drop database if exists {quoted} with (force)")


async def _database_settings(connection: Connection, name: str) -> tuple[str, ...]:
    """Return statements that repeat a database's settings for ``{database}``."""
    rows = await connection.fetch(
        """
        select unnest(s.setconfig) as setting,
          case when s.setrole <> 0 then quote_ident(pg_get_userbyid(s.setrole)) end
            as role
        from pg_catalog.pg_db_role_setting s
        join pg_catalog.pg_database d on d.oid = s.setdatabase
        where d.datname = $1
        """,
        name,
    )
    return tuple(_setting_statement(row["role"], row["setting"]) for row in rows)


def _setting_statement(role: str | None, setting: str) -> str:
    clause = _setting_clause(setting).replace("{", "{{").replace("}", "}}")
    if role is None:
        return f"alter database {{database}} set {clause}"
    role = role.replace("{", "{{").replace("}", "}}")
    return f"alter role {role} in database {{database}} set {clause}"


def _setting_clause(setting: str) -> str:
    key, _, value = setting.partition("=")
    if key in LIST_SETTINGS:
        # Stored as the list itself, identifiers already quoted where needed.
        return f"{key} = {value or chr(39) * 2}"
    return f"{_quoted_parts(key)} = '{value.replace(chr(39), chr(39) * 2)}'"


LIST_SETTINGS = frozenset(
    {"search_path", "session_preload_libraries", "local_preload_libraries"}
)


def _quoted_parts(key: str) -> str:
    return ".".join(map(_quoted, key.split(".")))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
