"""Filter texts: grammar, quoting, and what may be decided without PostgreSQL."""

from __future__ import annotations

import pytest

from harness.protocols.realtime_filters import (
    Filter,
    FilterSyntaxError,
    array_literal,
    parse_filters,
    predicate,
    read_array,
)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", []),
        ("  ", []),
        ("id=eq.1", [Filter("id", "eq", "1")]),
        ("id=not.eq.1", [Filter("id", "eq", "1", True)]),
        ("a=gt.1, b=lt.2", [Filter("a", "gt", "1"), Filter("b", "lt", "2")]),
        ("t=eq.a.b=c", [Filter("t", "eq", "a.b=c")]),
        ('t=eq."a,b"', [Filter("t", "eq", "a,b")]),
        (r't=eq."a\"b\\c"', [Filter("t", "eq", r'a"b\c')]),
        ("t=in.(a,b)", [Filter("t", "in", "{a,b}")]),
        ('t=in.(a,"b,c")', [Filter("t", "in", '{a,"b,c"}')]),
        ("t=not.in.(null)", [Filter("t", "in", '{"null"}', True)]),
        ("t=is.null", [Filter("t", "is", "null")]),
        ("t=eq.", [Filter("t", "eq", "")]),
        ("t=isdistinct.x", [Filter("t", "isdistinct", "x")]),
        ("t=match.^a(b,c)$", [Filter("t", "match", "^a(b,c)$")]),
    ],
)
def test_texts_are_read(text: str, filters: list[Filter]) -> None:
    assert list(parse_filters(text)) == filters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo=1", 'Error parsing `filter` params: ["foo", "1"]'),
        ("foo", 'Error parsing `filter` params: ["foo"]'),
        ("foo=bar.1", 'Error parsing `filter` params: ["foo", "bar.1"]'),
        ("=eq.1", 'Error parsing `filter` params: ["", "eq.1"]'),
        ("id=in.1,2", "`in` filter value must be wrapped by parentheses"),
        (
            "a=eq.1,,b=eq.2",
            "filter must not contain empty segments (check for extra commas)",
        ),
    ],
)
def test_wrong_texts_are_refused_in_the_services_words(text: str, message: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        parse_filters(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "items", [[], ["a"], ["a,b", '"', "\\", "", "NULL", "{x}", " "]]
)
def test_array_literals_are_read_back(items: list[str]) -> None:
    assert read_array(array_literal(items)) == items


@pytest.mark.parametrize(
    ("op", "value", "type_name"),
    [
        ("like", "a%", "text"),
        ("lt", "a", "text"),
        ("eq", "1.5", "float8"),
        ("gt", "2026-01-01", "timestamptz"),
        ("eq", "1 day", "interval"),
        ("eq", "x", ""),
        ("in", "{1.0}", "numeric"),
        ("gt", "NaN", "numeric"),
    ],
)
def test_what_needs_postgres_is_left_to_it(op: str, value: str, type_name: str) -> None:
    assert predicate(Filter("c", op, value), type_name) is None


def test_filters_are_shown_as_the_service_shows_them() -> None:
    assert str(Filter("id", "eq", 'a"b', True)) == r'{"id", "eq", "a\"b", true}'
