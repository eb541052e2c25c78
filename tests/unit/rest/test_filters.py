"""The filter grammar: operators, values, logic trees."""

from __future__ import annotations

import pytest

from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_filters import (
    PLAIN_OPERATORS,
    QUANTIFIED_OPERATORS,
    TEXT_SEARCH_FUNCTIONS,
    Filter,
    Logic,
    Operation,
    operation_prefix,
    parse_columns,
    parse_filter,
    parse_logic,
    parse_operation,
    starts_as_operation,
)
from harness.protocols.postgrest_scanner import MAX_DEPTH, Field, JsonStep


def is_eq(name: str, value: str) -> Filter:
    return Filter(Field(name), Operation("eq", value))


@pytest.mark.parametrize(
    "name", [*PLAIN_OPERATORS, *QUANTIFIED_OPERATORS, *TEXT_SEARCH_FUNCTIONS]
)
def test_parse_operation_keeps_the_value_as_it_is(name: str) -> None:
    value = "a.b,(c)\"d' ; ü"
    assert parse_operation(f"{name}.{value}") == Operation(name, value)
    assert parse_operation(f"not.{name}.{value}") == Operation(name, value, True)


@pytest.mark.parametrize("name", QUANTIFIED_OPERATORS)
def test_parse_operation_with_a_quantifier(name: str) -> None:
    assert parse_operation(f"{name}(any).{{1}}").quantifier == "any"
    assert parse_operation(f"{name}(all).{{1}}").quantifier == "all"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("like.*a*", Operation("like", "%a%")),
        ("ilike(any).{a*,b}", Operation("ilike", "{a%,b}", False, "any")),
        ("match.^a*", Operation("match", "^a*")),
        ("is.null", Operation("is", "null")),
        ("is.NOT_NULL", Operation("is", "not_null")),
        ("not.is.True", Operation("is", "true", True)),
        ("is.unknown", Operation("is", "unknown")),
        ("is.null)", Operation("is", "null")),
        ("isdistinct.5", Operation("isdistinct", "5")),
        ("fts(english).a & b", Operation("fts", "a & b", language="english")),
        ("eq.", Operation("eq", "")),
    ],
)
def test_parse_operation_of_special_operators(text: str, expected: Operation) -> None:
    assert parse_operation(text) == expected


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("in.()", "{}"),
        ("in.(1,2)", '{"1","2"}'),
        ("in.(1,)", '{"1",""}'),
        ("in.( a, b)", '{"a"," b"}'),
        ('in.("a,b","c")', '{"a,b","c"}'),
        (r'in.("a\"b","c\\d")', r'{"a\"b","c\\d"}'),
        ('in.("a"b,c)', r'{"\"a\"b","c"}'),
        ("in.({a},NULL)", '{"{a}","NULL"}'),
        ('in.("a "b", c)",d)', r'{"\"a \"b\""," c"}'),
    ],
)
def test_parse_operation_of_a_list_gives_an_array(text: str, array: str) -> None:
    assert parse_operation(text) == Operation("in", array)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "noop.0",
        "eq",
        "eq().1",
        "eq(some).1",
        "neq(any).1",
        "is.nothing",
        "is(any).null",
        "in.1,2",
        "in.(1,2",
        "in(any).(1)",
        "not.not.eq.1",
        "fts().a",
    ],
)
def test_parse_operation_of_a_mistake_is_refused(text: str) -> None:
    with pytest.raises(RestError) as caught:
        parse_operation(text)
    assert caught.value.code == "PGRST100"
    assert caught.value.message.startswith(f'"failed to parse filter ({text})"')


def test_mistakes_are_worded_as_postgrest_does() -> None:
    with pytest.raises(RestError) as caught:
        parse_operation("0")
    assert caught.value.details == (
        'unexpected "0" expecting "not" or operator (eq, gt, ...)'
    )
    with pytest.raises(RestError) as caught:
        parse_operation("not.x.1")
    assert caught.value.details == 'unexpected "x" expecting operator (eq, gt, ...)'
    with pytest.raises(RestError) as caught:
        parse_logic("or", "(id.eq.1")
    with pytest.raises(RestError) as empty:
        parse_logic("or", "()")
    assert (empty.value.message, empty.value.details) == (
        '"failed to parse logic tree (())" (line 1, column 4)',
        'unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator '
        "(not) or logic operator (and, or)",
    )
    # The tree as it was sent; the column counts its operator as well.
    assert caught.value.message == (
        '"failed to parse logic tree ((id.eq.1)" (line 1, column 11)'
    )


def test_parse_filter_splits_embeds_from_the_field() -> None:
    path, found = parse_filter('a.b."c.d"->>e', "eq.1")
    assert path == ("a", "b")
    assert found.field == Field("c.d", (JsonStep("->>", "e", False),))


def test_parse_logic_builds_the_tree() -> None:
    path, tree = parse_logic("or", "(a.eq.1,not.and(b.gt.2,c.is.null),d.in.(1,2))")
    assert path == ()
    assert tree == Logic(
        "or",
        False,
        (
            is_eq("a", "1"),
            Logic(
                "and",
                True,
                (
                    Filter(Field("b"), Operation("gt", "2")),
                    Filter(Field("c"), Operation("is", "null")),
                ),
            ),
            Filter(Field("d"), Operation("in", '{"1","2"}')),
        ),
    )


@pytest.mark.parametrize(
    ("key", "path", "connective", "negated"),
    [
        ("or", (), "or", False),
        ("not.or", (), "or", True),
        ("a.b.and", ("a", "b"), "and", False),
        ("a.not.and", ("a",), "and", True),
    ],
)
def test_parse_logic_key_says_where_and_how(
    key: str, path: tuple[str, ...], connective: str, negated: bool
) -> None:
    found, tree = parse_logic(key, "(x.eq.1)")
    assert found == path
    assert (tree.connective, tree.negated) == (connective, negated)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('a.eq."x,y)"', "x,y)"),
        ('a.eq."x"y', '"x"y'),
        ("a.eq.{1,2}", "{1,2}"),
        ("a.eq.{1,2", "{1"),
        ("a.eq.x y ", "x y "),
    ],
)
def test_parse_logic_value_ends_at_comma_or_bracket(value: str, expected: str) -> None:
    _, tree = parse_logic(
        "and", f"({value})" if expected != "{1" else f"({value}.eq.1)"
    )
    first = tree.operands[0]
    assert isinstance(first, Filter)
    assert first.operation.value == expected


@pytest.mark.parametrize("key", ["and", "or"])
@pytest.mark.parametrize(
    "text", ["", "()", "(", "(a.eq.1", "(a)", "(xor(a.eq.1))", "a.eq.1"]
)
def test_parse_logic_of_a_mistake_is_refused(key: str, text: str) -> None:
    with pytest.raises(RestError) as caught:
        parse_logic(key, text)
    assert caught.value.code == "PGRST100"


def test_parse_logic_passes_over_what_follows_it() -> None:
    assert parse_logic("and", "(a.eq.1))x") == parse_logic("and", "(a.eq.1)")


def test_parse_logic_nested_too_deep_is_refused() -> None:
    with pytest.raises(RestError) as caught:
        parse_logic("or", "(" + "and(" * 5000 + "a.eq.1" + ")" * 5000 + ")")
    assert caught.value.code == "PGRST100"
    depth = MAX_DEPTH - 1
    parse_logic("or", "(" + "and(" * depth + "a.eq.1" + ")" * depth + ")")


def test_column_named_as_a_connective_is_a_column() -> None:
    _, tree = parse_logic("and", "(or.eq.1,and.eq.2)")
    assert tree.operands == (is_eq("or", "1"), is_eq("and", "2"))


def test_parse_columns_drops_repetitions() -> None:
    assert parse_columns('a, "b,c" ,a', "columns") == ("a", "b,c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eq.5", ("eq.", "5")),
        ("not.like.a*", ("not.like.", "a%")),
        ("eq(any).{1}", ("eq(any).", "{1}")),
        ("in.(1,2)", ("in.", '{"1","2"}')),
        ("not.in.(1)", ("not.in.", '{"1"}')),
        ("cs(any).{1}", None),
        ("is.null", None),
        ("fts.a", None),
        ("equal.5", None),
    ],
)
def test_operation_prefix_splits_what_is_plain(
    text: str, expected: tuple[str, str] | None
) -> None:
    assert operation_prefix(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("eq.1", True),
        ("not.x", True),
        ("is.null", True),
        ("fts(english).x", True),
        ("eq(any).{}", True),
        ("5", False),
        ("a.b", False),
        ("equality", False),
        ("f(x)", False),
    ],
)
def test_starts_as_operation_tells_filters_from_arguments(
    value: str, expected: bool
) -> None:
    assert starts_as_operation(value) is expected
