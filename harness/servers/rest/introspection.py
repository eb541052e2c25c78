"""Reading the schema cache out of ``pg_catalog``.

All queries go out as one batch with an empty ``search_path``; what they return is put
together here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from harness.db.pipeline import Pipeline, Statement
from harness.protocols.postgrest_filters import array_literal
from harness.servers.rest.catalog_sql import QUERIES
from harness.servers.rest.relationships import (
    ForeignKey,
    ViewColumns,
    derive_relationships,
    view_primary_key,
)
from harness.servers.rest.schema import (
    Column,
    Parameter,
    QualifiedName,
    Relationship,
    Routine,
    SchemaCache,
    Table,
)
from harness.servers.rest.view_definitions import target_entries

__all__ = ["read_fingerprint", "read_schema_cache"]

Rows = Sequence[Mapping[str, Any]]

INSERT_BIT, UPDATE_BIT, DELETE_BIT = 8, 4, 16  # of pg_relation_is_updatable
VOLATILITY: Mapping[str, Literal["immutable", "stable", "volatile"]] = {
    "i": "immutable",
    "s": "stable",
    "v": "volatile",
}
# Types that a single unnamed parameter may have for the whole body to go into it.
UNNAMED_TYPES = frozenset({"bytea", "json", "jsonb", "text", "xml"})
# SQL's own spellings, which pg_type does not list.
SPELLINGS = {
    "bigint": "int8",
    "bit varying": "varbit",
    "boolean": "bool",
    "char": "bpchar",
    "character": "bpchar",
    "character varying": "varchar",
    "dec": "numeric",
    "decimal": "numeric",
    "double precision": "float8",
    "float": "float8",
    "int": "int4",
    "integer": "int4",
    "national character": "bpchar",
    "real": "float4",
    "smallint": "int2",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}
CONFIG_PREFIX = "pgrst."
EMPTY_SEARCH_PATH = Statement(
    "select pg_catalog.set_config('search_path', '', true),"
    " pg_catalog.current_setting('server_version_num')"
)


async def read_schema_cache(
    pipeline: Pipeline, schemas: Sequence[str], extra_search_path: Sequence[str]
) -> SchemaCache:
    """Read everything about ``schemas`` in one round trip."""
    exposed = array_literal(schemas).encode()
    searched = array_literal(dict.fromkeys((*schemas, *extra_search_path))).encode()
    statements = [EMPTY_SEARCH_PATH]
    for sql in QUERIES.values():
        given = [exposed, searched] if "$2" in sql else [exposed] * ("$1" in sql)
        if "$2" in sql and "$1" not in sql:
            sql = sql.replace("$2", "$1")
            given = [searched]
        statements.append(Statement(sql, given, keep=False))
    results = await pipeline.run(statements)
    version = int(results[0].get_value(0, 1) or b"0")
    found = {
        name: orjson.loads(result.get_value(0, 0) or b"null")
        for name, result in zip(QUERIES, results[1:], strict=True)
    }
    return _assemble(found, version)


async def read_fingerprint(pipeline: Pipeline) -> str:
    """Return a value that changes with every change of the schema."""
    results = await pipeline.run([Statement(QUERIES["fingerprint"])])
    return str(orjson.loads(results[0].get_value(0, 0) or b"null"))


def _assemble(found: Mapping[str, Any], version: int) -> SchemaCache:
    columns = _columns(found["columns"])
    keys = _primary_keys(found["keys"])
    views = _view_columns(found["views"], found["key_columns"])
    computed = _computed_columns(found["row_functions"])
    tables = {
        table.name: table
        for table in (
            _table(row, columns, keys, views, computed) for row in found["tables"]
        )
    }
    foreign_keys = _foreign_keys(found["foreign_keys"], found["keys"])
    relationships = derive_relationships(
        foreign_keys, views, tables, _computed_relationships(found["row_functions"])
    )
    roles, config = _settings(found["settings"])
    return SchemaCache(
        tables=tables,
        relationships=relationships,
        routines=_routines(found["routines"], columns),
        types=_types(found["types"]),
        role_settings=roles,
        config=config,
        schema_descriptions={k: v for k, v in found["schemas"].items() if v},
        media_types=_media_types(found["routines"]),
        fingerprint=str(found["fingerprint"]),
        server_version=version,
    )


def _columns(rows: Rows) -> dict[int, dict[str, Column]]:
    columns: dict[int, dict[str, Column]] = defaultdict(dict)
    for row in rows:
        columns[row["relation"]][row["name"]] = Column(
            row["name"],
            row["type"],
            row["base"],
            row["nullable"],
            row["default"],
            row["max_length"],
            tuple(row["enum"] or ()),
            row["description"],
        )
    return columns


def _primary_keys(rows: Rows) -> dict[QualifiedName, tuple[str, ...]]:
    return {
        QualifiedName(row["schema"], row["name"]): tuple(row["columns"])
        for row in rows
        if row["kind"] == "p"
    }


def _view_columns(views: Rows, key_columns: Rows) -> list[ViewColumns]:
    names = {
        (row["relation"], row["position"]): (
            QualifiedName(row["schema"], row["name"]),
            row["column"],
        )
        for row in key_columns
    }
    shown = _origins(views)
    found: list[ViewColumns] = []
    for view in views:
        by_table: dict[QualifiedName, dict[str, list[str]]] = defaultdict(dict)
        for position, origins in shown[view["oid"]].items():
            for origin in origins:
                if origin in names:
                    table, column = names[origin]
                    label = view["columns"][str(position)]
                    by_table[table].setdefault(column, []).append(label)
        name = QualifiedName(view["schema"], view["name"])
        found.extend(ViewColumns(name, table, c) for table, c in by_table.items())
    return found


def _origins(views: Rows) -> dict[int, dict[int, list[tuple[int, int]]]]:
    """Return where each view column comes from, through views upon views."""
    direct = {
        view["oid"]: {
            entry.position: (entry.table_oid, entry.column)
            for entry in target_entries(view["definition"])
        }
        for view in views
    }

    def follow(origin: tuple[int, int]) -> list[tuple[int, int]]:
        chain = [origin]
        while (deeper := direct.get(chain[-1][0], {}).get(chain[-1][1])) is not None:
            if deeper in chain:
                break
            chain.append(deeper)
        return chain

    return {
        oid: {position: follow(origin) for position, origin in entries.items()}
        for oid, entries in direct.items()
    }


def _table(
    row: Mapping[str, Any],
    columns: Mapping[int, Mapping[str, Column]],
    keys: Mapping[QualifiedName, tuple[str, ...]],
    views: Sequence[ViewColumns],
    computed: Mapping[QualifiedName, Mapping[str, str]],
) -> Table:
    name = QualifiedName(row["schema"], row["name"])
    bits = row["updatable_bits"]
    key = view_primary_key(name, views, keys) if row["is_view"] else keys.get(name, ())
    return Table(
        name,
        columns.get(row["oid"], {}),
        key,
        computed.get(name, {}),
        row["is_view"],
        bool(bits & INSERT_BIT),
        bool(bits & UPDATE_BIT),
        bool(bits & DELETE_BIT),
        row["description"],
    )


def _computed_columns(rows: Rows) -> dict[QualifiedName, dict[str, str]]:
    computed: dict[QualifiedName, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if not row["returns_set"]:
            table = QualifiedName(row["table_schema"], row["table_name"])
            computed[table][row["name"]] = row["base"]
    return computed


def _computed_relationships(rows: Rows) -> list[Relationship]:
    return [
        Relationship(
            QualifiedName(row["table_schema"], row["table_name"]),
            QualifiedName(row["target_schema"], row["target_name"]),
            "computed",
            function=QualifiedName(row["schema"], row["name"]),
            single=row["single"],
        )
        for row in rows
        if row["target_name"] is not None
    ]


def _foreign_keys(rows: Rows, keys: Rows) -> list[ForeignKey]:
    unique: dict[QualifiedName, list[set[str]]] = defaultdict(list)
    for row in keys:
        name = QualifiedName(row["schema"], row["name"])
        unique[name].append(set(row["columns"]))
    found: list[ForeignKey] = []
    for row in rows:
        name = QualifiedName(row["schema"], row["name"])
        pairs = tuple((own, other) for own, other in row["columns"])
        found.append(
            ForeignKey(
                name,
                QualifiedName(row["target_schema"], row["target_name"]),
                row["constraint"],
                pairs,
                {own for own, _ in pairs} in unique[name],
            )
        )
    return found


def _routines(
    rows: Rows, columns: Mapping[int, Mapping[str, Column]]
) -> dict[QualifiedName, list[Routine]]:
    found: dict[QualifiedName, list[Routine]] = defaultdict(list)
    for row in rows:
        parameters = tuple(Parameter(*argument) for argument in row["arguments"])
        unnamed = [p for p in parameters if not p.name]
        if unnamed and (len(parameters) > 1 or unnamed[0].type not in UNNAMED_TYPES):
            continue  # nobody can name its arguments
        routine = _routine(row, parameters, columns)
        found[routine.name].append(routine)
    return found


def _routine(
    row: Mapping[str, Any],
    parameters: tuple[Parameter, ...],
    columns: Mapping[int, Mapping[str, Column]],
) -> Routine:
    of_relation = columns.get(row["relation"] or 0, {})
    outs = {name: Column(name, t, base) for name, t, base in row["out_columns"] or ()}
    relation = None
    if row["relation_name"] is not None:
        relation = QualifiedName(row["relation_schema"], row["relation_name"])
    settings = dict(setting.split("=", 1) for setting in row["settings"] or ())
    return Routine(
        QualifiedName(row["schema"], row["name"]),
        parameters,
        QualifiedName(row["return_schema"], row["return_name"]),
        row["returns_set"],
        row["composite"],
        VOLATILITY[row["volatility"]],
        outs or of_relation,
        relation,
        settings,
        row["description"],
    )


def _media_types(rows: Rows) -> dict[QualifiedName, str]:
    """Return the media type of each function that returns a domain named as one."""
    return {
        QualifiedName(row["schema"], row["name"]): row["declared_name"]
        for row in rows
        if "/" in row["declared_name"]
    }


def _types(listed: Mapping[str, str]) -> dict[str, str]:
    types = {name.lower(): form for name, form in listed.items()}
    types.update(
        (spelling, types[name]) for spelling, name in SPELLINGS.items() if name in types
    )
    return types


def _settings(rows: Rows) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    roles: dict[str, dict[str, str]] = defaultdict(dict)
    config: dict[str, str] = {}
    for row in rows:
        for setting in row["settings"]:
            name, _, value = setting.partition("=")
            if row["is_login"] and name.startswith(CONFIG_PREFIX):
                config[name.removeprefix(CONFIG_PREFIX)] = value
            elif not row["is_login"] and not name.startswith(CONFIG_PREFIX):
                roles[row["role"]][name] = value
    return dict(roles), config
