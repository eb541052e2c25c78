"""What is known of a published table: columns, types, key, row security.

Read from the catalog when the replication stream first describes a table and again
whenever it describes it anew, which PostgreSQL does after every change of definition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from harness.protocols.pgoutput import Relation

__all__ = [
    "Column",
    "Table",
    "find_table",
    "load_table",
    "quote_identifier",
    "quote_literal",
]

COLUMNS_SQL = """
with recursive base(oid, name, origin) as (
    select t.oid, t.oid, t.oid from pg_type t
    where t.oid in (select atttypid from pg_attribute where attrelid = $1)
        or t.oid in (
            select e.typelem from pg_attribute a join pg_type e on e.oid = a.atttypid
            where a.attrelid = $1 and e.typelem <> 0)
    union all
    select t.typbasetype, t.oid, base.origin from base
    join pg_type t on t.oid = base.oid and t.typtype = 'd'
), kind as (
    select base.origin, t.oid, t.typname, t.typtype,
        t.typcategory = 'A' and t.typlen = -1 as is_array, t.typelem,
        t.typnamespace = 'pg_catalog'::regnamespace as is_builtin,
        exists (
            select from pg_cast c
            where c.castsource = t.oid and c.casttarget in ('json'::regtype,
                'jsonb'::regtype) and t.typname not in ('json', 'jsonb')
        ) as has_json_cast
    from base join pg_type t on t.oid = base.oid where t.typtype <> 'd'
)
select a.attname as name, a.attnum, declared.typname as type_name,
    format_type(a.atttypid, -1) as sql_type,
    kind.typname as base_name, kind.typtype as base_kind, kind.is_builtin,
    kind.is_array, kind.has_json_cast,
    element.typname as element_name, element.typtype as element_kind,
    element.is_builtin as element_is_builtin,
    element.has_json_cast as element_has_json_cast,
    coalesce(co.collisdeterministic, true) as is_deterministic,
    coalesce(array_position(i.indkey::int2[], a.attnum), -1) as key_position
from pg_attribute a
join pg_type declared on declared.oid = a.atttypid
join kind on kind.origin = a.atttypid
left join kind element on kind.is_array and element.origin = kind.typelem
left join pg_collation co on co.oid = a.attcollation
left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
NAMED_SQL = """
select c.oid, array(
    select a.attname::text from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2
"""
TABLE_SQL = """
select c.relkind, c.relrowsecurity from pg_class c where c.oid = $1
"""

NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8", "numeric"})
TIMES = {"timestamp": "timestamp", "timestamptz": "timestamp"}
VERBATIM = frozenset({"json", "jsonb"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column as payloads and filters need it.

    ``type_name`` is what subscribers see, ``sql_type`` what a cast needs.  ``form``
    says how text becomes JSON: number, bool, verbatim, timestamp, bytea, string,
    ``sql`` (only PostgreSQL knows), or an array of one of these (``array:number``).
    ``comparable`` names the base type for filters, '' when only SQL may compare.
    """

    name: str
    number: int
    type_name: str
    sql_type: str
    form: str
    comparable: str
    is_key: bool


@dataclass(slots=True)
class Table:
    """A published table; ``key`` holds the primary key's columns in index order.

    A key that the stream does not carry whole is none.  ``key_places`` are its places
    in the stream's rows.  ``predicates``, ``encoders`` and ``cast`` are what others
    derive from the table and keep as long as it holds.
    """

    relation: Relation
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    has_row_security: bool
    is_partitioned: bool
    by_name: dict[str, Column]
    key_places: tuple[int, ...]
    names: frozenset[str]
    predicates: dict[Any, Any] = field(default_factory=dict)
    encoders: dict[frozenset[str], Any] = field(default_factory=dict)
    cast: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @property
    def qualified_name(self) -> str:
        """The name as SQL takes it."""
        schema, name = self.relation.schema, self.relation.name
        return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def quote_identifier(name: str) -> str:
    """Return ``name`` quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return ``text`` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


async def load_table(
    connection: asyncpg.Connection[asyncpg.Record], relation: Relation
) -> Table | None:
    """Read what the catalog says of ``relation`` now; ``None`` when it is gone."""
    found = await connection.fetchrow(TABLE_SQL, relation.oid)
    if found is None:
        return None
    records = await connection.fetch(COLUMNS_SQL, relation.oid)
    columns = tuple(_column(record) for record in records)
    positions = {record["name"]: record["key_position"] for record in records}
    key = sorted(
        (column for column in columns if column.is_key),
        key=lambda column: positions[column.name],
    )
    if any(column.name not in relation.columns for column in key):
        # Not published, or renamed since: the stream's rows have no key then.
        key = []
    return Table(
        relation=relation,
        columns=columns,
        key=tuple(key),
        has_row_security=found["relrowsecurity"],
        is_partitioned=found["relkind"] == b"p",
        by_name={column.name: column for column in columns},
        names=frozenset(column.name for column in columns),
        key_places=tuple(relation.columns.index(column.name) for column in key),
    )


async def find_table(
    connection: asyncpg.Connection[asyncpg.Record], schema: str, name: str
) -> Table | None:
    """Read a table that the stream has not described yet; ``None`` without one."""
    found = await connection.fetchrow(NAMED_SQL, schema, name)
    if found is None:
        return None
    oid, columns = found
    relation = Relation(oid, schema, name, "d", tuple(columns), (), ())
    return await load_table(connection, relation)


def _column(record: asyncpg.Record) -> Column:
    form = _form(
        record["base_name"],
        record["base_kind"],
        record["is_builtin"],
        record["has_json_cast"],
    )
    comparable = record["base_name"] if record["is_builtin"] else ""
    if record["base_kind"] == b"e":
        comparable = "enum"
    if record["is_array"]:
        comparable = ""
        form = "sql"
        if record["element_name"] is not None:
            element = _form(
                record["element_name"],
                record["element_kind"],
                record["element_is_builtin"],
                record["element_has_json_cast"],
            )
            form = "sql" if element == "sql" else f"array:{element}"
    return Column(
        name=record["name"],
        number=record["attnum"],
        type_name=record["type_name"],
        sql_type=record["sql_type"],
        form=form,
        comparable=comparable if record["is_deterministic"] else "",
        is_key=record["key_position"] >= 0,
    )


def _form(name: str, kind: bytes, is_builtin: bool, has_json_cast: bool) -> str:
    """Return how ``to_jsonb`` writes a type."""
    if kind == b"c" or has_json_cast:
        return "sql"
    if not is_builtin:
        return "string"
    if name in NUMBERS:
        return "number"
    if name in VERBATIM:
        return "verbatim"
    if name == "box":
        return "sql"  # its arrays separate items by semicolons
    return {"bool": "bool", "bytea": "bytea", **TIMES}.get(name, "string")
