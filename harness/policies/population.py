"""Stores a world in a scratch database and reads back what is really there.

Rows are inserted with triggers on and their author's claims set, as the application
would; a row that a trigger or a missing reference refuses is tried again after the
others, then with triggers off.  What still cannot be stored is reported, and every row
that is there afterwards, planned or made by a trigger, is assigned to its clan.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from harness.db.address import Connection
from harness.db.catalog import Catalog, Name, Relation, quote_identifier
from harness.policies.ownership import Ownership
from harness.policies.personas import User
from harness.policies.storage_paths import OBJECTS
from harness.policies.values import literal
from harness.policies.worlds import USERS, Row, World

__all__ = [
    "Population",
    "Refusal",
    "StoredRow",
    "analyze",
    "as_text",
    "insert_statement",
    "patiently",
    "read_rows",
    "read_seeds",
    "read_table",
    "row_insert",
    "row_key",
    "store_world",
    "tables_without_rows",
    "user_insert",
]

DUPLICATE = "23505"
MAX_SEEDS = 200
PATIENCE_MS = 30_000
CANCELLED, TOO_SLOW = "57014", "a trigger ran into the statement timeout"


@dataclass(frozen=True)
class StoredRow:
    """A row as stored: ``at`` is its ctid, ``clan`` None if it links two clans."""

    table: Name
    at: str
    values: Mapping[str, Any]
    clan: str | None
    users: frozenset[str] = frozenset()

    def text(self, column: str) -> str | None:
        """Return a value as SQL text (None for NULL)."""
        return as_text(self.values.get(column))


@dataclass(frozen=True)
class Refusal:
    """A planned row that the database refused."""

    row: Row
    sqlstate: str
    message: str


@dataclass(frozen=True)
class Population:
    """What a world became: rows by table, and what was refused."""

    world: World
    tables: Mapping[Name, tuple[StoredRow, ...]]
    refusals: tuple[Refusal, ...] = ()
    forced: tuple[Refusal, ...] = ()
    seeds: frozenset[tuple[Name, tuple[str | None, ...]]] = frozenset()

    def of(self, table: Name) -> tuple[StoredRow, ...]:
        """Return the rows of ``table``."""
        return self.tables.get(table, ())

    def owned_by(self, table: Name, clan: str) -> tuple[StoredRow, ...]:
        """Return the rows of ``table`` that belong to ``clan``."""
        return tuple(row for row in self.of(table) if row.clan == clan)

    def why_empty(self, table: Name) -> str:
        """Return why no row of ``table`` could be stored."""
        for refusal in self.refusals:
            if refusal.row.table == table:
                return f"no row could be stored: {refusal.message} [{refusal.sqlstate}]"
        return self.world.unplanned.get(table, "no rows")


class _Document(list[Any]):
    """A list that stands in a JSON column, and is no array."""


def as_text(value: Any) -> str | None:
    """Return a JSON value of ``to_jsonb`` as text that PostgreSQL reads."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Document):
        return json.dumps(value)
    if isinstance(value, list) and not any(isinstance(v, (dict, list)) for v in value):
        inner = ",".join("NULL" if v is None else json.dumps(str(v)) for v in value)
        return f"{{{inner}}}"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)


def insert_statement(
    table: Name,
    values: Mapping[str, str | None],
    *,
    identity: bool = False,
) -> str:
    """Return the INSERT of one row."""
    if not values:
        return f"insert into {table.sql} default values"
    columns = ", ".join(quote_identifier(name) for name in values)
    literals = ", ".join(literal(value) for value in values.values())
    overriding = " overriding system value" if identity else ""
    return f"insert into {table.sql} ({columns}){overriding} values ({literals})"


@asynccontextmanager
async def patiently(connection: Connection) -> AsyncIterator[None]:
    """Lift the limits that hold for probes: this work is ours."""
    names = ("statement_timeout", "lock_timeout")
    limits = [
        await connection.fetchval("select current_setting($1)", name) for name in names
    ]
    for name in names:
        await connection.execute(f"set {name} = {PATIENCE_MS}")
    try:
        yield
    finally:
        for name, limit in zip(names, limits, strict=True):
            await connection.execute(f"set {name} = '{limit}'")


async def analyze(connection: Connection, catalog: Catalog) -> None:
    """Let the planner know the world's tables.

    Those alone: the tables that all databases of a server share are analysed by one
    session at a time.
    """
    tables = ", ".join(table.name.sql for table in catalog.tables)
    if tables:
        async with patiently(connection):
            await connection.execute(f"analyze {tables}")


async def store_world(
    connection: Connection,
    catalog: Catalog,
    ownership: Ownership,
    world: World,
    seeds: Mapping[Name, Sequence[Mapping[str, str | None]]] | None = None,
) -> Population:
    """Insert a world and return what is stored.

    ``seeds`` are the rows that were there before, as :func:`read_seeds` returned them.
    """
    pending = list(world.rows)
    refusals: Sequence[Refusal] = ()
    while pending:
        refusals = await _insert(connection, catalog, world, pending)
        retried = [r.row for r in refusals if r.sqlstate != DUPLICATE]
        if len(retried) == len(pending):
            break
        pending = retried
    await _adopt(connection, catalog, refusals)
    forced = [r for r in refusals if r.sqlstate != DUPLICATE]
    left: Sequence[Refusal] = ()
    if forced:
        left = await _force(connection, catalog, world, forced)
    await analyze(connection, catalog)
    async with patiently(connection):
        tables = await read_rows(connection, catalog, ownership, world)
    seeded = frozenset(
        (table, row_key(catalog.relations[table], row))
        for table, rows in (seeds or {}).items()
        for row in rows
    )
    return Population(world, tables, tuple(left), tuple(forced), seeded)


def row_key(
    relation: Relation, values: Mapping[str, str | None]
) -> tuple[str | None, ...]:
    """Return what tells a row of a table from the others: its key, else all of it."""
    names = relation.primary_key or tuple(c.name for c in relation.columns)
    return tuple(values.get(name) for name in names)


async def _insert(
    connection: Connection, catalog: Catalog, world: World, rows: Iterable[Row]
) -> list[Refusal]:
    listed = list(rows)
    by_number = {row.number: row for row in listed}
    items = [_item(catalog, world, row) for row in listed]
    try:
        async with patiently(connection):
            found = await _store(connection, items)
    except asyncpg.QueryCanceledError:
        found = await _store_slowly(connection, items, by_number)
    return [Refusal(by_number[f["row"]], f["sqlstate"], f["message"]) for f in found]


async def _store(
    connection: Connection, items: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = await connection.fetchval(
        "select harness_probe.store($1::text::jsonb)", orjson.dumps(items).decode()
    )
    return list(orjson.loads(found))


async def _store_slowly(
    connection: Connection,
    items: Sequence[Mapping[str, Any]],
    by_number: Mapping[int, Row],
) -> list[dict[str, Any]]:
    """Store row by row under the probes' limit; a table that is too slow is left."""
    failures: list[dict[str, Any]] = []
    slow: set[Name] = set()
    for item in items:
        table = by_number[item["row"]].table
        cancelled = {"row": item["row"], "sqlstate": CANCELLED, "message": TOO_SLOW}
        if table in slow:
            failures.append(cancelled)
            continue
        try:
            failures += await _store(connection, [item])
        except asyncpg.QueryCanceledError:
            slow.add(table)
            failures.append(cancelled)
    return failures


def _item(catalog: Catalog, world: World, row: Row) -> dict[str, Any]:
    # Nobody is signed in yet when the Auth server stores a user.
    author = "" if row.table == USERS else row.author
    user = world.cast.by_id(author)
    claims = {"role": "authenticated", "sub": author} if user else {}
    return {
        "row": row.number,
        "sql": row_insert(catalog, row),
        "claims": json.dumps(claims) if claims else "",
        "sub": author,
    }


def row_insert(catalog: Catalog, row: Row) -> str:
    """Return the INSERT of a planned row."""
    relation = catalog.relations.get(row.table)
    identity = relation is not None and any(c.identity for c in relation.columns)
    return insert_statement(row.table, row.values, identity=identity)


async def _adopt(
    connection: Connection, catalog: Catalog, refusals: Iterable[Refusal]
) -> None:
    """Give rows that a trigger made first the values that the plan has for them."""
    for refusal in refusals:
        relation = catalog.relations.get(refusal.row.table)
        if refusal.sqlstate != DUPLICATE or relation is None:
            continue
        key = relation.primary_key
        values = refusal.row.values
        if not key or any(values.get(column) is None for column in key):
            continue
        changes = ", ".join(
            f"{quote_identifier(name)} = {literal(value)}"
            for name, value in values.items()
            if name not in key and not relation.column(name).identity
        )
        if changes:
            where = " and ".join(
                f"{quote_identifier(c)} = {literal(values[c])}" for c in key
            )
            sql = f"update {refusal.row.table.sql} set {changes} where {where}"
            item = {"row": refusal.row.number, "sql": sql, "claims": "", "sub": ""}
            await connection.fetchval(
                "select harness_probe.store($1::text::jsonb)",
                orjson.dumps([item]).decode(),
            )


async def _force(
    connection: Connection,
    catalog: Catalog,
    world: World,
    refusals: Sequence[Refusal],
) -> list[Refusal]:
    """Insert with triggers and foreign keys off; return what is refused even so."""
    async with connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        rows = [refusal.row for refusal in refusals]
        return await _insert(connection, catalog, world, rows)


async def read_seeds(
    connection: Connection, catalog: Catalog
) -> Mapping[Name, list[Mapping[str, str | None]]]:
    """Return the rows that the schema itself brought, as text."""
    seeds: dict[Name, list[Mapping[str, str | None]]] = {}
    for relation in catalog.tables:
        if relation.name.schema in ("realtime", "storage"):
            continue
        found = await connection.fetch(
            f"select to_jsonb(t.*) as row from {relation.name.sql} t limit {MAX_SEEDS}"
        )
        rows = [_values(relation, row["row"]) for row in found]
        seeds[relation.name] = [
            {name: as_text(value) for name, value in row.items()} for row in rows
        ]
    return seeds


async def read_table(
    connection: Connection, relation: Relation
) -> list[tuple[str, dict[str, Any]]]:
    """Read the rows of a table, each with where it is."""
    found = await connection.fetch(
        "select t.tableoid::oid || t.ctid::text as at, to_jsonb(t.*) as row"
        f" from {relation.name.sql} t"
    )
    return [(row["at"], _values(relation, row["row"])) for row in found]


def _values(relation: Relation, row: str) -> dict[str, Any]:
    values: dict[str, Any] = orjson.loads(row)
    for column in relation.columns:
        value = values.get(column.name)
        if column.base_type in ("json", "jsonb") and isinstance(value, list):
            values[column.name] = _Document(value)
    return values


async def read_rows(
    connection: Connection, catalog: Catalog, ownership: Ownership, world: World
) -> Mapping[Name, tuple[StoredRow, ...]]:
    """Read all rows of all tables, each assigned to the clan it belongs to."""
    reader = _ClanReader(catalog, ownership, world)
    rooted = reader.rooted
    raw = {r.name: await read_table(connection, r) for r in catalog.tables}
    reader.raw = raw
    return {
        relation.name: tuple(
            StoredRow(
                relation.name,
                at,
                values,
                reader.clan(relation, values) if relation.name in rooted else "",
                reader.users_of(relation, values),
            )
            for at, values in raw[relation.name]
        )
        for relation in catalog.tables
    }


@dataclass
class _ClanReader:
    """Works out a row's clan from the users, tenants and parents it names."""

    catalog: Catalog
    ownership: Ownership
    world: World
    raw: Mapping[Name, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the cast and the plan."""
        self.clan_of_user = {user.id: user.clan for user in self.world.cast.users}
        self.clan_of_key: dict[tuple[Name, tuple[Any, ...]], str] = {}
        self.clan_of_tenant: dict[str, str] = {}
        self.rooted: frozenset[Name] = frozenset()
        for row in self.world.rows:
            relation = self.catalog.relations.get(row.table)
            if relation is None or not row.clan:
                continue
            key = tuple(row.values.get(c) for c in relation.primary_key)
            self.clan_of_key[row.table, key] = row.clan
            for column in self.ownership.of(row.table).tenants:
                if value := row.values.get(column):
                    self.clan_of_tenant[value] = row.clan
        self.rooted = frozenset(
            {row.table for row in self.world.rows if row.clan} | {OBJECTS}
        ) | frozenset(self._owned())

    def _owned(self) -> Iterable[Name]:
        for table in self.ownership.tables.values():
            if table.users or table.tenants:
                yield table.table

    def users_of(self, relation: Relation, values: Mapping[str, Any]) -> frozenset[str]:
        """Return the ids of the users that the row names."""
        named = self.ownership.of(relation.name).user_names
        found = {str(values[c]) for c in named if values.get(c) is not None}
        return frozenset(found & self.clan_of_user.keys())

    def clan(
        self, relation: Relation, values: Mapping[str, Any], depth: int = 0
    ) -> str | None:
        """Return the row's clan: '' for nobody's, None when it links two clans."""
        key = tuple(as_text(values.get(c)) for c in relation.primary_key)
        planned = self.clan_of_key.get((relation.name, key)) if key else None
        if planned is not None:
            return planned
        named = {self.clan_of_user[u] for u in self.users_of(relation, values)}
        owned = self.ownership.of(relation.name)
        for column in owned.tenants:
            tenant = self.clan_of_tenant.get(as_text(values.get(column)) or "")
            if tenant is not None:
                named.add(tenant)
        if relation.name == OBJECTS:
            folder = str(values.get("name") or "").split("/")
            named |= {self.clan_of_user[p] for p in folder if p in self.clan_of_user}
        if not named and depth < 4:
            named |= set(self._parent_clans(relation, values, depth))
        if not named:
            return ""
        return named.pop() if len(named) == 1 else None

    def _parent_clans(
        self, relation: Relation, values: Mapping[str, Any], depth: int
    ) -> Iterable[str]:
        for parent in self.ownership.of(relation.name).parents:
            target = self.catalog.relations[parent.target]
            if target.name == relation.name:
                continue
            wanted = [values.get(column) for column in parent.columns]
            for _, candidate in self.raw.get(parent.target, ()):
                if wanted == [candidate.get(c) for c in parent.target_columns]:
                    clan = self.clan(target, candidate, depth + 1)
                    if clan:
                        yield clan


def user_insert(user: User) -> str:
    """Return the INSERT of a user, as a script would write it."""
    values = {"id": user.id, "email": user.email or None}
    if user.anonymous:
        values["is_anonymous"] = "true"
    return insert_statement(USERS, values)


def tables_without_rows(population: Population, catalog: Catalog) -> list[Name]:
    """Return the tables that hold nothing although they should."""
    return [
        relation.name
        for relation in catalog.tables
        if not population.of(relation.name)
        and relation.name.schema not in ("storage", "realtime")
    ]
