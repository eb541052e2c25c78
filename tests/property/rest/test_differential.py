"""What REST answers is what SQL answers, written independently, as the same role.

Filters are generated as trees and put two ways: as a query string, and as SQL by the
rules of PostgREST's manual (``in`` as a disjunction, ``any`` as another).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.integration.rest.server import SUB, RestServer

CHECK = settings(print_blob=True, deadline=None, max_examples=150)

TEXTS = ["", "a", "A", "ab", "b%", "a,b", "(x)", 'q"q', "b\\c", "null", "*", "zz"]
WORDS = st.sampled_from(TEXTS)
WHOLE = st.integers(-1, 8).map(str)
ARRAYS = st.sampled_from(["{}", "{a}", "{a,b}", '{"a,b",NULL}', "{b}"])
RANGES = st.sampled_from(["[0,2)", "[1,1]", "empty", "(,3)", "[2,)"])
DOCS = st.sampled_from(['{"k": 1}', '{"t": "x"}', "[1]", "null", "{}"])
PATTERNS = st.sampled_from(["a*", "*b*", "*", "A", "", "*,*", "_"])
REGEXES = st.sampled_from(["^a", "b", "^$", "[(]", "."])

# Column, how SQL names it, and what it is compared with by which operators.
ORDERED = ["eq", "neq", "gt", "gte", "lt", "lte", "isdistinct"]
COLUMNS: list[tuple[str, str, list[str], st.SearchStrategy[str]]] = [
    ("id", "id", ORDERED, st.integers(0, 61).map(str)),
    ("whole", "whole", ORDERED, WHOLE),
    ("exact", "exact", ORDERED, st.sampled_from(["0", "1.5", "3.0", "4.50", "9"])),
    ("word", "word", ORDERED, WORDS),
    ("word", "word", ["like", "ilike"], PATTERNS),
    ("word", "word", ["match", "imatch"], REGEXES),
    ("day", "day", ORDERED, st.sampled_from(["2026-01-03", "2026-01-09", "infinity"])),
    ("hue", "hue", ["eq", "neq", "gt", "isdistinct"], st.sampled_from(["red", "blue"])),
    ("flag", "flag", ["eq", "neq"], st.sampled_from(["true", "false", "t"])),
    ("labels", "labels", ["cs", "cd", "ov", "eq"], ARRAYS),
    ("span", "span", ["cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj", "eq"], RANGES),
    ("doc", "doc", ["cs", "cd", "eq"], DOCS),
    ("doc->>k", "doc ->> 'k'", ["eq", "neq", "isdistinct"], WHOLE),
    ("doc->0", "doc -> 0", ["eq", "isdistinct"], st.sampled_from(["1", '"x"'])),
    (
        "labels->>0",
        "to_jsonb(labels) ->> 0",
        ["eq", "like"],
        st.sampled_from(["a", "b"]),
    ),
]
SQL_OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "LIKE",
    "ilike": "ILIKE",
    "match": "~",
    "imatch": "~*",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
    "isdistinct": "IS DISTINCT FROM",
}
QUANTIFIABLE = {"eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch"}
SCALARS = {"id", "whole", "exact", "word", "day", "hue"}


@dataclass(frozen=True)
class Leaf:
    """One condition, as both languages are to say it."""

    field: str
    column: str
    operator: str
    values: tuple[str, ...]
    negated: bool
    quantifier: str | None = None


@dataclass(frozen=True)
class Node:
    """Conditions joined by ``and`` or ``or``."""

    connective: str
    negated: bool
    operands: tuple[Any, ...]


@st.composite
def leaves(draw: st.DrawFn) -> Leaf:
    field, column, operators, values = draw(st.sampled_from(COLUMNS))
    kind = draw(st.sampled_from(["plain", "plain", "plain", "is", "in", "quantified"]))
    negated = draw(st.booleans())
    operator = draw(st.sampled_from(operators))
    if kind == "is":
        tests = ["null", "not_null"] + ["true", "false", "unknown"] * (field == "flag")
        return Leaf(field, column, "is", (draw(st.sampled_from(tests)),), negated)
    if kind == "in" and field in SCALARS and operator in ORDERED:
        listed = draw(st.lists(values, min_size=1, max_size=3))
        if listed != [""]:
            return Leaf(field, column, "in", tuple(listed), negated)
    if kind == "quantified" and field in SCALARS and operator in QUANTIFIABLE:
        listed = draw(st.lists(values, min_size=1, max_size=3))
        quantifier = draw(st.sampled_from(["any", "all"]))
        return Leaf(field, column, operator, tuple(listed), negated, quantifier)
    return Leaf(field, column, operator, (draw(values),), negated)


TREES = st.recursive(
    leaves(),
    lambda inner: st.builds(
        Node,
        st.sampled_from(["and", "or"]),
        st.booleans(),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
    ),
    max_leaves=5,
)


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def operation(leaf: Leaf, *, in_tree: bool) -> str:
    negated = "not." if leaf.negated else ""
    if leaf.operator == "in":
        return f"{negated}in.({','.join(map(quoted, leaf.values))})"
    if leaf.quantifier is not None:
        value = "{" + ",".join(map(quoted, leaf.values)) + "}"
        operator = f"{leaf.operator}({leaf.quantifier})"
    else:
        operator, value = leaf.operator, leaf.values[0]
    if in_tree and leaf.operator != "is":
        value = quoted(value)
    return f"{negated}{operator}.{value}"


def in_tree(tree: Leaf | Node) -> str:
    if isinstance(tree, Leaf):
        return f"{tree.field}.{operation(tree, in_tree=True)}"
    inner = ",".join(map(in_tree, tree.operands))
    return f"{'not.' if tree.negated else ''}{tree.connective}({inner})"


def parameter(tree: Leaf | Node, prefix: str = "") -> tuple[str, str]:
    """Return the tree as one parameter of a query string."""
    if isinstance(tree, Leaf):
        return f"{prefix}{tree.field}", operation(tree, in_tree=False)
    inner = ",".join(map(in_tree, tree.operands))
    negated = "not." if tree.negated else ""
    return f"{prefix}{negated}{tree.connective}", f"({inner})"


def compared(leaf: Leaf, value: str) -> sql.Composable:
    if leaf.operator in ("like", "ilike"):
        value = value.replace("*", "%")
    operator = SQL_OPERATORS["eq" if leaf.operator == "in" else leaf.operator]
    # A literal without a type, as somebody writes it by hand.
    literal = sql.SQL("'{}'").format(sql.SQL(value.replace("'", "''")))
    return sql.SQL("({} {} {})").format(
        sql.SQL(leaf.column), sql.SQL(operator), literal
    )


def condition(tree: Leaf | Node) -> sql.Composable:
    if isinstance(tree, Node):
        joint = sql.SQL(f" {tree.connective} ")
        body = joint.join(map(condition, tree.operands))
    elif tree.operator == "is":
        word = tree.values[0].replace("_", " ")
        body = sql.SQL("{} is {}").format(sql.SQL(tree.column), sql.SQL(word))
    else:
        joint = sql.SQL(" and " if tree.quantifier == "all" else " or ")
        body = joint.join(compared(tree, value) for value in tree.values)
    return sql.SQL("not ({})" if tree.negated else "({})").format(body)


@pytest.fixture(scope="module")
def caller(server: RestServer) -> httpx.Client:
    """Return a client of one user, who sees a part of the rows."""
    return server.client()


@pytest.fixture(scope="module")
def beside(server: RestServer) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the database as that user."""
    dsn = server.database.dsn("authenticator")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set role authenticated")
        claims = f'{{"sub": "{SUB}", "role": "authenticated"}}'
        connection.execute(
            "select set_config('request.jwt.claims', %s, false)", [claims]
        )
        yield connection


def ids(beside: psycopg.Connection[Any], query: sql.Composable) -> list[int]:
    return [row[0] for row in beside.execute(query).fetchall()]


@CHECK
@given(trees=st.lists(TREES, max_size=3))
def test_filters_choose_the_rows_that_sql_chooses(
    caller: httpx.Client, beside: psycopg.Connection[Any], trees: list[Leaf | Node]
) -> None:
    pairs = [parameter(tree) for tree in trees]
    where = sql.SQL(" and ").join([sql.SQL("true"), *map(condition, trees)])
    expected = ids(
        beside, sql.SQL("select id from items where {} order by id").format(where)
    )
    note(str(pairs))
    response = caller.get(
        "/items",
        params=[("select", "id"), *pairs, ("order", "id")],
        headers={"Prefer": "count=exact"},
    )
    assert response.status_code == 200, response.text
    assert [row["id"] for row in response.json()] == expected
    total = response.headers["Content-Range"].partition("/")[2]
    assert total == str(len(expected))


@CHECK
@given(tree=TREES, method=st.sampled_from(["PATCH", "DELETE"]))
def test_writes_touch_the_rows_that_sql_chooses(
    caller: httpx.Client,
    beside: psycopg.Connection[Any],
    tree: Leaf | Node,
    method: str,
) -> None:
    where = condition(tree)
    expected = ids(
        beside, sql.SQL("select id from items where {} order by id").format(where)
    )
    response = caller.request(
        method,
        "/items",
        params=[("select", "id"), parameter(tree)],
        json={"word": "changed"},
        headers={"Prefer": "return=representation,tx=rollback"},
    )
    assert response.status_code == 200, response.text
    assert sorted(row["id"] for row in response.json()) == expected


@CHECK
@given(
    tree=TREES,
    inner=st.booleans(),
    present=st.sampled_from([None, "is.null", "not.is.null"]),
)
def test_filters_on_an_embedded_resource_are_those_of_a_join(
    caller: httpx.Client,
    beside: psycopg.Connection[Any],
    tree: Leaf | Node,
    inner: bool,
    present: str | None,
) -> None:
    where = condition(tree)
    matching = sql.SQL(
        "select id from items where items.parent_id = parents.id and {}"
    ).format(where)
    tests = [sql.SQL("true")]
    if inner or present == "not.is.null":
        tests.append(sql.SQL("exists ({})").format(matching))
    if present == "is.null":
        tests.append(sql.SQL("not exists ({})").format(matching))
    query = sql.SQL(
        "select id, array({} order by id) from parents where {} order by id"
    ).format(matching, sql.SQL(" and ").join(tests))
    expected = [(row[0], row[1]) for row in beside.execute(query).fetchall()]
    join = "!inner" if inner else ""
    pairs = [("select", f"id,items{join}(id)"), ("order", "id"), ("items.order", "id")]
    pairs.append(parameter(tree, "items."))
    if present is not None:
        pairs.append(("items", present))
    note(str(pairs))
    response = caller.get("/parents", params=pairs, headers={"Prefer": "count=exact"})
    assert response.status_code == 200, response.text
    found = [(row["id"], [i["id"] for i in row["items"]]) for row in response.json()]
    assert found == expected
    total = response.headers["Content-Range"].partition("/")[2]
    assert total == str(len(expected))


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["whole", "exact", "word", "day", "hue", "flag"]),
        st.sampled_from(["", ".asc", ".desc"]),
        st.sampled_from(["", ".nullsfirst", ".nullslast"]),
    ),
    max_size=3,
    unique_by=lambda term: term[0],
)


@CHECK
@given(
    terms=ORDERS,
    limit=st.none() | st.integers(0, 60),
    offset=st.none() | st.integers(0, 60),
)
def test_orders_and_ranges_are_those_of_sql(
    caller: httpx.Client,
    beside: psycopg.Connection[Any],
    terms: list[tuple[str, str, str]],
    limit: int | None,
    offset: int | None,
) -> None:
    words = {"": "", ".asc": "asc", ".desc": "desc"}
    nulls = {"": "", ".nullsfirst": "nulls first", ".nullslast": "nulls last"}
    keys = [f"{name} {words[way]} {nulls[where]}" for name, way, where in terms]
    query = f"select id from items order by {', '.join([*keys, 'id'])}"
    query += f" limit {limit}" if limit is not None else ""
    query += f" offset {offset}" if offset is not None else ""
    expected = ids(beside, sql.SQL(query))
    order = ",".join([*(f"{name}{way}{where}" for name, way, where in terms), "id"])
    params: dict[str, Any] = {"select": "id", "order": order}
    if limit is not None:
        params["limit"] = limit
    if offset is not None:
        params["offset"] = offset
    response = caller.get("/items", params=params)
    assert [row["id"] for row in response.json()] == expected
