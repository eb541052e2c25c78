"""Query strings: sorting of parameters, decoding, ranges, shapes."""

from __future__ import annotations

import pytest

from harness.protocols.postgrest import (
    Query,
    RowRange,
    canonical_query,
    parse_query,
    parse_shape,
    query_shape,
)
from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_filters import Filter, Operation
from harness.protocols.postgrest_order import OrderTerm, parse_order
from harness.protocols.postgrest_scanner import Field, JsonStep
from harness.protocols.postgrest_select import SelectField


def test_parse_query_of_nothing_selects_everything() -> None:
    assert parse_query("") == Query()
    assert parse_query("").select == (SelectField(Field("*")),)


def test_parse_query_sorts_parameters() -> None:
    query = parse_query(
        "select=id&id=eq.1&t.name=like.a*&or=(a.eq.1)&t.or=(b.eq.2)&order=id.desc"
        "&t.order=x&limit=3&t.limit=4&t.offset=5&on_conflict=a,b&columns=c"
    )
    assert query.select == (SelectField(Field("id")),)
    assert query.filters == [
        ((), Filter(Field("id"), Operation("eq", "1"))),
        (("t",), Filter(Field("name"), Operation("like", "a%"))),
    ]
    assert [path for path, _ in query.logic] == [(), ("t",)]
    assert query.orders == {
        (): (OrderTerm(Field("id"), None, "DESC"),),
        ("t",): (OrderTerm(Field("x")),),
    }
    assert query.ranges == {(): RowRange(0, 3), ("t",): RowRange(5, 4)}
    assert query.on_conflict == ("a", "b")
    assert query.columns == ("c",)
    assert query.arguments == []


def test_parse_query_takes_the_first_of_a_repeated_select() -> None:
    assert parse_query("select=a&select=b").select == (SelectField(Field("a")),)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("a=eq.x%20y", "x y"),
        ("a=eq.x+y", "x y"),
        ("a=eq.x%2By", "x+y"),
        ("a=eq.%C3%BC", "ü"),
        ("a=eq.ü", "ü"),
        ("%61=eq.1%26b", "1&b"),
        ("a=%65q.=", "="),
    ],
)
def test_parse_query_decodes_both_sides(raw: str, value: str) -> None:
    ((_, found),) = parse_query(raw).filters
    assert found == Filter(Field("a"), Operation("eq", value))


def test_parse_query_splits_at_semicolons_too() -> None:
    assert len(parse_query("a=eq.1;b=eq.2&c=eq.3").filters) == 3


def test_parse_query_of_bytes_that_are_no_text_is_refused() -> None:
    with pytest.raises(RestError) as caught:
        parse_query("a=eq.%ff")
    assert (caught.value.status, caught.value.code) == (400, "22021")


def test_parse_query_passes_over_parameters_without_a_value() -> None:
    assert parse_query("a&b") == Query()


def test_parse_query_of_arguments_keeps_them_apart_from_filters() -> None:
    query = parse_query("a=1&b=eq.2&a=4", arguments_allowed=True)
    assert query.arguments == [("a", "1"), ("a", "4")]
    assert [f.field.name for _, f in query.filters] == ["b"]


@pytest.mark.parametrize("value", ["abc", "", "1.5", "0x10", "\u0661"])
def test_parse_query_passes_over_a_limit_that_is_no_number(value: str) -> None:
    assert parse_query(f"limit={value}").ranges == {}


def test_parse_query_of_a_negative_limit_is_refused() -> None:
    with pytest.raises(RestError) as caught:
        parse_query("limit=-1")
    assert (caught.value.status, caught.value.code) == (416, "PGRST103")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", [OrderTerm(Field("a"))]),
        ("a.asc", [OrderTerm(Field("a"), None, "ASC")]),
        ("a.nullslast", [OrderTerm(Field("a"), None, None, "NULLS LAST")]),
        (
            "a.desc.nullsfirst, b",
            [OrderTerm(Field("a"), None, "DESC", "NULLS FIRST"), OrderTerm(Field("b"))],
        ),
        ("t(a).desc", [OrderTerm(Field("a"), "t", "DESC")]),
        (
            "t(d->>k)",
            [OrderTerm(Field("d", (JsonStep("->>", "k", False),)), "t")],
        ),
        (
            "d->0.desc",
            [OrderTerm(Field("d", (JsonStep("->", "0", True),)), None, "DESC")],
        ),
    ],
)
def test_parse_order_gives_its_terms(text: str, expected: list[OrderTerm]) -> None:
    assert parse_order(text) == tuple(expected)


@pytest.mark.parametrize(
    "text", ["", "a.ac", "a.descc", "a.asc.nlsfst", "a,", "t(a,b)", "t(a", "a.desc.asc"]
)
def test_parse_order_of_a_mistake_is_refused(text: str) -> None:
    with pytest.raises(RestError) as caught:
        parse_order(text)
    assert caught.value.code == "PGRST100"


def test_queries_that_differ_in_values_have_one_shape() -> None:
    one = query_shape("id=eq.1&name=in.(a,b)&select=x&limit=2")
    two = query_shape("id=eq.22&name=in.(c)&select=x&limit=2")
    assert one.parts == two.parts
    assert one.values == ("1", '{"a","b"}')


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("id=eq.1", "id=neq.1"),
        ("id=eq.1", "ix=eq.1"),
        ("id=eq.1", "id=not.eq.1"),
        ("id=eq(any).1", "id=eq(all).1"),
        ("select=a", "select=b"),
        ("select=eq.a", "select=eq.b"),
        ("%73elect=eq.a", "%73elect=eq.b"),
        ("limit=1", "limit=2"),
        ("t.limit=1", "t.limit=2"),
        ("order=eq.a", "order=eq.b"),
        ("or=(a.eq.1)", "or=(a.eq.2)"),
        ("a=is.null", "a=is.true"),
        ("a=fts(english).x", "a=fts(french).x"),
        ("a=eq.1&b=eq.2", "b=eq.2&a=eq.1"),
    ],
)
def test_queries_that_differ_in_more_have_two_shapes(one: str, two: str) -> None:
    assert query_shape(one).parts != query_shape(two).parts


def test_parse_shape_is_parse_query_with_marked_values() -> None:
    raw = (
        "id=eq.1&or=(a.eq.2)&t.name=not.like.x*&select=id&limit=1&c=in.(1,2)&d=is.null"
    )
    shaped = parse_shape(query_shape(raw))
    plain = parse_query(raw)
    assert sorted(map(repr, shaped.filters)) == sorted(map(repr, plain.filters))
    assert (shaped.logic, shaped.ranges) == (plain.logic, plain.ranges)


def test_canonical_query_sorts_its_parts() -> None:
    assert canonical_query("b=2&a=1") == "a=1&b=2"
    assert canonical_query("a") == "a"
