"""A filter lets a change through exactly when PostgreSQL says that it holds."""

from __future__ import annotations

from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.protocols.pgoutput import Change, Relation
from harness.protocols.realtime_filters import Filter, parse_filters
from harness.servers.realtime.matching import Matcher
from harness.servers.realtime.subscriptions import ANY, Watch
from harness.servers.realtime.tables import Table, load_table
from tests.integration.realtime.server import RealtimeServer

# Column type and texts that are interesting for it, odd spellings included.
TYPES: dict[str, list[str]] = {
    "int": ["0", "1", "-1", "007", "2147483647"],
    "bigint": ["9007199254740993", "9007199254740992", "1"],
    "numeric": ["1.5", "1.50", "0", "-0.0", "1e2", "100", "NaN"],
    "float8": ["0", "-0", "1.5", "1e308", "Infinity", "NaN"],
    "text": ["", "a", "A", "ab", "a%", "b,c", 'q"q', "ä", "null", "a b"],
    "varchar(5)": ["a", "abc", "A"],
    "char(3)": ["a", "a  ", "abc"],
    "boolean": ["true", "false", "t"],
    "uuid": [
        "11111111-1111-1111-1111-111111111111",
        "AAAAAAAA-1111-1111-1111-111111111111",
        "{11111111-1111-1111-1111-111111111111}",
    ],
    "date": ["2026-01-02", "2026-1-2", "infinity"],
    "timestamptz": [
        "2026-01-02 03:04:05+00",
        "2026-01-02T04:04:05+01:00",
        "2026-01-02 03:04:06Z",
    ],
    "interval": ["1 day", "24 hours", "1 month"],
    "mood": ["sad", "ok", "happy"],
    "citext_like": ["a", "b"],
}
COMPARISONS = ["eq", "neq", "lt", "lte", "gt", "gte", "isdistinct"]
PATTERNS = ["like", "ilike", "match", "imatch"]
SQL = {
    "eq": "{c} = {v}::{t}",
    "neq": "{c} <> {v}::{t}",
    "lt": "{c} < {v}::{t}",
    "lte": "{c} <= {v}::{t}",
    "gt": "{c} > {v}::{t}",
    "gte": "{c} >= {v}::{t}",
    "isdistinct": "{c} is distinct from {v}::{t}",
    "in": "{c} = any({v}::{t}[])",
    "like": "{c}::text like {v}",
    "ilike": "{c}::text ilike {v}",
    "match": "{c}::text ~ {v}",
    "imatch": "{c}::text ~* {v}",
}


def quoted(text: str) -> str:
    """Return a filter value that is read back as ``text``."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, list[str | None], str]:
    """Return (type, SQL type, values, filter text)."""
    type_name = draw(st.sampled_from(sorted(TYPES)))
    sql_type = "text" if type_name == "citext_like" else type_name
    texts = TYPES[type_name]
    values = draw(st.lists(st.none() | st.sampled_from(texts), max_size=5))
    kinds = [*COMPARISONS, "in", *PATTERNS, "is"]
    op = draw(st.sampled_from(kinds))
    negation = draw(st.sampled_from(["", "not."]))
    if op == "in":
        members = draw(st.lists(st.sampled_from(texts), max_size=4))
        value = "(" + ",".join(map(quoted, members)) + ")"
    elif op == "is":
        value = "null"
        if sql_type == "boolean":
            value = draw(st.sampled_from(["null", "true", "false", "unknown"]))
    elif op in PATTERNS:
        value = draw(st.sampled_from(["a%", "%a%", "_", "^a", "[ab]+", "%"]))
    else:
        value = quoted(draw(st.sampled_from(texts)))
    return type_name, sql_type, values, f"v={negation}{op}.{value}"


async def matched(
    connection: asyncpg.Connection[asyncpg.Record],
    table: Table,
    values: list[str | None],
    conditions: tuple[Filter, ...],
) -> set[int]:
    changes = [
        Change("INSERT", table.relation, (str(i), value), None, False, 0)
        for i, value in enumerate(values)
    ]
    watch = Watch(1, ANY, "public", "probe", conditions, None)
    return set(await Matcher(table, changes, connection).positions(watch))


async def true_in_sql(
    connection: asyncpg.Connection[asyncpg.Record],
    sql_type: str,
    condition: Filter,
) -> set[int]:
    if condition.op == "is":
        test = f"v is {condition.value}"
    else:
        literal = "'" + condition.value.replace("'", "''") + "'"
        test = SQL[condition.op].format(c="v", v=literal, t=sql_type)
    negation = "not " if condition.negate else ""
    rows = await connection.fetch(f"select id from probe where {negation}({test})")
    return {row["id"] for row in rows}


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=cases())
async def test_filters_agree_with_postgres(
    module_server: RealtimeServer, case: tuple[str, str, list[str | None], str]
) -> None:
    _, sql_type, values, text = case
    conditions = parse_filters(text)
    arguments: Any = module_server.database.connect_args("supabase_admin")
    connection = await asyncpg.connect(**arguments)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("create type mood as enum ('sad', 'ok', 'happy')")
        await connection.execute(
            f"create table probe (id int primary key, v {sql_type})"
        )
        await connection.executemany(
            f"insert into probe select $1, $2::text::{sql_type}",
            list(enumerate(values)),
        )
        printed = await connection.fetch(
            "select case when v is not null then format('%s', v) end as v"
            " from probe order by id"
        )
        oid = await connection.fetchval("select 'probe'::regclass::oid")
        relation = Relation(
            oid, "public", "probe", "d", ("id", "v"), (23, 0), (True, False)
        )
        table = await load_table(connection, relation)
        assert table is not None
        found = await matched(
            connection, table, [row["v"] for row in printed], conditions
        )
        truth = await true_in_sql(connection, sql_type, conditions[0])
        assert found == truth, (text, [row["v"] for row in printed])
    finally:
        await transaction.rollback()
        await connection.close()
