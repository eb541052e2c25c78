"""Values are written exactly as ``to_jsonb`` writes them."""

from __future__ import annotations

import asyncpg
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.servers.realtime.json_values import value_encoder
from harness.servers.realtime.tables import Column
from tests.integration.realtime.server import RealtimeServer

# Form, SQL type, and values as SQL text.
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
stamps = st.datetimes().map(lambda d: d.isoformat(sep=" ")) | st.sampled_from(
    ["infinity", "-infinity", "2026-01-02 03:04:05+05:30", "0044-03-15 BC"]
)
SCALARS: dict[str, tuple[str, st.SearchStrategy[str]]] = {
    "int8": ("number", st.integers(-(2**63), 2**63 - 1).map(str)),
    "numeric": (
        "number",
        st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    ),
    "bool": ("bool", st.booleans().map(str)),
    "text": ("string", texts),
    "timestamp": ("timestamp", stamps),
    "timestamptz": ("timestamp", stamps),
    "date": ("string", st.dates().map(str) | st.just("infinity")),
    "time": ("string", st.times().map(str)),
    "jsonb": ("verbatim", texts.map(lambda t: orjson.dumps({"k": t}).decode())),
}


@st.composite
def scalars(draw: st.DrawFn) -> tuple[str, str, str]:
    """Return (SQL type, form, text)."""
    sql_type = draw(st.sampled_from(sorted(SCALARS)))
    form, values = SCALARS[sql_type]
    return sql_type, form, draw(values)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, str, list[str | None], int]:
    """Return (element type, element form, items, how many to a row)."""
    sql_type = draw(st.sampled_from(sorted(SCALARS)))
    form, values = SCALARS[sql_type]
    width = draw(st.integers(1, 3))
    rows = draw(st.integers(0, 3))
    items = draw(
        st.lists(st.none() | values, min_size=width * rows, max_size=width * rows)
    )
    return sql_type, form, items, width


def column(sql_type: str, form: str) -> Column:
    return Column("c", 1, sql_type, sql_type, form, "", False)


async def both(
    connection: asyncpg.Connection[asyncpg.Record], expression: str, value: object
) -> tuple[str, object]:
    row = await connection.fetchrow(
        "select format('%s', v) as printed, to_jsonb(v)::text as json"
        f" from (select {expression} as v) s",
        value,
    )
    assert row is not None
    return row["printed"], orjson.loads(row["json"])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=scalars())
async def test_scalars(
    module_server: RealtimeServer, case: tuple[str, str, str]
) -> None:
    sql_type, form, text = case
    async with module_server.service.database.connection() as connection:
        printed, truth = await both(connection, f"$1::text::{sql_type}", text)
    written = value_encoder(column(sql_type, form), {})(printed)
    assert orjson.loads(written) == truth


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=arrays())
async def test_arrays_of_one_and_two_dimensions(
    module_server: RealtimeServer, case: tuple[str, str, list[str | None], int]
) -> None:
    sql_type, form, items, width = case
    encode = value_encoder(column(f"{sql_type}[]", f"array:{form}"), {})
    rows = [items[i : i + width] for i in range(0, len(items), width)]
    async with module_server.service.database.connection() as connection:
        for value in (items, rows):
            printed, truth = await both(connection, f"$1::text[]::{sql_type}[]", value)
            assert orjson.loads(encode(printed)) == truth
