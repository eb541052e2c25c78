"""Reads a :class:`~harness.db.catalog.Catalog` from ``pg_catalog``.

Needs a connection that may see everything (``supabase_admin``); changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, cast

import asyncpg

from harness.db import catalog_queries as queries
from harness.db.catalog import (
    API_ROLES,
    Bucket,
    Catalog,
    Check,
    Column,
    ForeignKey,
    Function,
    Name,
    Parameter,
    Policy,
    PolicyCommand,
    Privileges,
    Publication,
    Relation,
    RelationKind,
    Trigger,
    UniqueKey,
    View,
)

__all__ = ["PLATFORM_SCHEMAS", "read_catalog"]

PLATFORM_SCHEMAS = (
    "_analytics",
    "_realtime",
    "_storage",
    "_supavisor",
    "auth",
    "cron",
    "extensions",
    "graphql",
    "graphql_public",
    "harness_probe",
    "information_schema",
    "net",
    "pgbouncer",
    "pgmq",
    "pgsodium",
    "pgsodium_masks",
    "realtime",
    "storage",
    "supabase_functions",
    "supabase_migrations",
    "vault",
)
PLATFORM_TABLES = ("storage.objects", "storage.buckets", "realtime.messages")
COMMANDS: Mapping[str, PolicyCommand] = {
    "*": "ALL",
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
}
KINDS: Mapping[str, RelationKind] = {
    "r": "table",
    "p": "partitioned",
    "v": "view",
    "m": "matview",
    "f": "foreign",
}
TIMINGS: Mapping[str, Literal["before", "after", "instead"]] = {
    "before": "before",
    "after": "after",
    "instead": "instead",
}

Part = TypeVar("Part")


async def read_catalog(connection: asyncpg.Connection[asyncpg.Record]) -> Catalog:
    """Return the catalogue of the database that ``connection`` is open on."""
    scope = (list(PLATFORM_SCHEMAS), list(PLATFORM_TABLES))
    relations = await connection.fetch(queries.RELATIONS, *scope)
    oids = [row["oid"] for row in relations]
    parts = {
        "columns": await _grouped(connection, queries.COLUMNS, _column, oids),
        "checks": await _grouped(connection, queries.CHECKS, _check, oids),
        "keys": await _grouped(connection, queries.FOREIGN_KEYS, _foreign_key, oids),
        "uniques": await _grouped(connection, queries.UNIQUE_KEYS, _unique_key, oids),
        "policies": await _grouped(connection, queries.POLICIES, _policy, oids),
        "triggers": await _grouped(connection, queries.TRIGGERS, _trigger, oids),
    }
    privileges = _privileges(
        await connection.fetch(queries.PRIVILEGES, oids, list(API_ROLES))
    )
    built = [_relation(row, parts, privileges) for row in relations]
    schemas = await connection.fetch(queries.SCHEMA_USAGE, list(API_ROLES))
    temporary = await connection.fetch(queries.TEMPORARY, list(API_ROLES))
    return Catalog(
        relations={relation.name: relation for relation in built},
        views=await _views(connection, oids),
        functions=await _functions(connection),
        publications=await _publications(connection),
        buckets=await _buckets(connection),
        reachable_schemas={row["schema"]: frozenset(row["roles"]) for row in schemas},
        temporary_tables=frozenset(row["role"] for row in temporary),
    )


async def _grouped(
    connection: asyncpg.Connection[asyncpg.Record],
    query: str,
    build: Callable[[asyncpg.Record], Part],
    oids: list[int],
) -> Mapping[int, tuple[Part, ...]]:
    groups: dict[int, list[Part]] = defaultdict(list)
    for row in await connection.fetch(query, oids):
        groups[row["relation"]].append(build(row))
    return {oid: tuple(found) for oid, found in groups.items()}


def _relation(
    row: asyncpg.Record,
    parts: Mapping[str, Mapping[int, tuple[Any, ...]]],
    privileges: Mapping[int, Mapping[str, Privileges]],
) -> Relation:
    oid = row["oid"]
    parent = Name(*row["parent"]) if row["parent"] else None
    return Relation(
        name=Name(row["schema"], row["name"]),
        kind=KINDS[row["kind"]],
        owner=row["owner"],
        rls=row["rls"],
        force_rls=row["force_rls"],
        columns=parts["columns"].get(oid, ()),
        checks=parts["checks"].get(oid, ()),
        foreign_keys=parts["keys"].get(oid, ()),
        unique_keys=parts["uniques"].get(oid, ()),
        policies=parts["policies"].get(oid, ()),
        triggers=parts["triggers"].get(oid, ()),
        privileges=privileges.get(oid, {}),
        default_grants=frozenset(row["default_grants"]),
        partition_of=parent,
        partition_bound=row["bound"],
        replica_identity=row["replica_identity"],
        comment=row["comment"],
    )


def _column(row: asyncpg.Record) -> Column:
    return Column(
        name=row["name"],
        type=row["type"],
        base_type=row["base_type"],
        not_null=row["not_null"],
        default=row["default_expression"] or "",
        generated=row["generated"],
        identity=row["identity"],
        labels=tuple(row["labels"] or ()),
        domain_checks=tuple(row["domain_checks"] or ()),
        max_length=row["max_length"],
    )


def _check(row: asyncpg.Record) -> Check:
    return Check(row["name"], row["expression"], tuple(row["columns"]))


def _foreign_key(row: asyncpg.Record) -> ForeignKey:
    return ForeignKey(
        row["name"],
        tuple(row["columns"]),
        Name(row["target_schema"], row["target_name"]),
        tuple(row["target_columns"]),
        row["on_delete"],
        row["deferrable"],
    )


def _unique_key(row: asyncpg.Record) -> UniqueKey:
    return UniqueKey(
        row["name"],
        tuple(row["columns"]),
        primary=row["is_primary"],
        partial=row["partial"],
        expression=row["expression"],
    )


def _policy(row: asyncpg.Record) -> Policy:
    return Policy(
        Name(row["schema"], row["table_name"]),
        row["name"],
        COMMANDS[row["command"]],
        row["permissive"],
        tuple(row["roles"]),
        row["using"] or "",
        row["with_check"] or "",
    )


def _trigger(row: asyncpg.Record) -> Trigger:
    return Trigger(
        row["name"],
        Name(row["function_schema"], row["function_name"]),
        TIMINGS[row["timing"]],
        tuple(row["events"]),
        row["for_each_row"],
    )


def _privileges(
    rows: Iterable[asyncpg.Record],
) -> Mapping[int, Mapping[str, Privileges]]:
    table: dict[tuple[int, str], set[str]] = defaultdict(set)
    columns: dict[tuple[int, str], dict[str, set[str]]] = defaultdict(
        lambda: defaultdict(set)
    )
    for row in rows:
        key = (row["relation"], row["role"])
        if row["column_name"] is None:
            table[key].add(row["command"])
        else:
            columns[key][row["column_name"]].add(row["command"])
    held: dict[int, dict[str, Privileges]] = defaultdict(dict)
    for key in table.keys() | columns.keys():
        held[key[0]][key[1]] = Privileges(
            frozenset(table.get(key, ())),
            {name: frozenset(got) for name, got in columns.get(key, {}).items()},
        )
    return held


async def _views(
    connection: asyncpg.Connection[asyncpg.Record], oids: list[int]
) -> Mapping[Name, View]:
    views = [
        View(
            name=Name(row["schema"], row["name"]),
            definition=row["definition"],
            security_invoker=row["security_invoker"],
            security_barrier=row["security_barrier"],
            reads=tuple(Name(*read.split("\x1f", 1)) for read in row["reads"] or ()),
        )
        for row in await connection.fetch(queries.VIEWS, oids)
    ]
    return {view.name: view for view in views}


async def _functions(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[Function, ...]:
    rows = await connection.fetch(
        queries.FUNCTIONS, list(PLATFORM_SCHEMAS), list(API_ROLES)
    )
    return tuple(_function(row) for row in rows)


def _function(row: asyncpg.Record) -> Function:
    names = row["parameter_names"] or []
    types = row["parameter_types"] or []
    first_default = len(types) - row["defaults"]
    return Function(
        name=Name(row["schema"], row["name"]),
        signature=row["signature"],
        parameters=tuple(
            Parameter(
                names[i] if i < len(names) else "",
                kind,
                has_default=i >= first_default,
                variadic=row["variadic"] and i == len(types) - 1,
            )
            for i, kind in enumerate(types)
        ),
        returns=row["returns"],
        returns_set=row["returns_set"],
        language=row["language"],
        volatility=cast(Literal["i", "s", "v"], row["volatility"]),
        security_definer=row["security_definer"],
        owner=row["owner"],
        source=row["source"] or "",
        definition=row["definition"] or "",
        settings=dict(s.split("=", 1) for s in row["settings"] or ()),
        executable_by=frozenset(row["executable_by"]),
        kind=cast(Literal["f", "p", "a", "w"], row["kind"]),
        strict=row["strict"],
    )


async def _publications(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[Publication, ...]:
    return tuple(
        Publication(
            row["name"],
            tuple(Name(*table.split("\x1f", 1)) for table in row["tables"] or ()),
            row["inserts"],
            row["updates"],
            row["deletes"],
        )
        for row in await connection.fetch(queries.PUBLICATIONS)
    )


async def _buckets(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[Bucket, ...]:
    if await connection.fetchval("select to_regclass('storage.buckets')") is None:
        return ()
    return tuple(
        Bucket(
            row["id"],
            bool(row["public"]),
            row["file_size_limit"],
            tuple(row["allowed_mime_types"] or ()),
        )
        for row in await connection.fetch(queries.BUCKETS)
    )
