"""Whatever a client sends, the grammar reads it or says where it stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.protocols.postgrest import Query, parse_query, parse_shape, query_shape
from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_filters import (
    Filter,
    Logic,
    Operation,
    array_literal,
    parse_columns,
    parse_logic,
    parse_operation,
    parse_path,
)
from harness.protocols.postgrest_media import parse_accept, parse_content_type
from harness.protocols.postgrest_order import parse_order
from harness.protocols.postgrest_payload import call_payload, write_payload
from harness.protocols.postgrest_preferences import parse_preferences
from harness.protocols.postgrest_scanner import Field
from harness.protocols.postgrest_select import SelectEmbed, SelectField, parse_select
from harness.servers.rest.settings import RestSettings

settings.register_profile("rest", print_blob=True, deadline=None)
CHECK = settings(settings.get_profile("rest"), max_examples=150)

# Text rich in what the grammars are made of.
PIECES = st.sampled_from(
    [
        *"()[]{}.,:;!*\"'\\&=+-<>% \t\n\0aZ09_$ü→",
        *("->", "->>", "::", "...", "not.", "and(", "or(", "in.(", "eq.", "is.null"),
        *("count()", ".sum()", "!inner", "%00", "%C3%28", "limit", "order", "select="),
    ]
)
TEXT = st.lists(st.one_of(PIECES, st.characters(codec="utf-8")), max_size=25).map(
    "".join
)


REFUSALS = ("PGRST100", "PGRST102", "PGRST103", "22021")
Parse = Callable[[str], object]


def refusal(parse: Parse, text: str) -> str | None:
    """Return the code with which ``parse`` refuses ``text``."""
    try:
        parse(text)
    except RestError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "parse",
    [
        parse_select,
        parse_operation,
        parse_order,
        parse_path,
        parse_query,
        query_shape,
        lambda text: parse_shape(query_shape(text)),
        lambda text: parse_query(text, arguments_allowed=True),
        lambda text: parse_columns(text, "columns"),
        lambda text: parse_logic("or", text),
        lambda text: parse_logic(text, "(a.eq.1)"),
        lambda text: write_payload(text.encode(), "application/json", None),
        lambda text: write_payload(text.encode(), "text/csv", None),
        lambda text: call_payload(
            text.encode(), "application/x-www-form-urlencoded", None
        ),
    ],
)
@CHECK
@given(text=TEXT)
@example(text="")
@example(text="(" * 3000)
@example(text="a->" * 3000)
def test_parsers_read_anything_or_refuse_it(parse: Parse, text: str) -> None:
    assert refusal(parse, text) in (None, *REFUSALS)


@CHECK
@given(text=TEXT)
def test_headers_always_mean_something(text: str) -> None:
    assert parse_accept(text)
    assert isinstance(parse_content_type(text), str)
    assert parse_preferences([text]) == parse_preferences([text])
    RestSettings(db_pre_request=text or "x.y")


@CHECK
@given(raw=TEXT)
def test_shape_says_what_the_query_says(raw: str) -> None:
    """A query read by its shape is the query read at once."""

    def by_shape(text: str) -> Query:
        return parse_shape(query_shape(text))

    refused = refusal(parse_query, raw)
    assert refusal(by_shape, raw) == refused
    if refused is None:
        assert by_shape(raw) == parse_query(raw)


NAMES = st.text(
    st.characters(categories=("L", "Nd"), include_characters='_$- .,"\\()!:*'),
    min_size=1,
    max_size=8,
)
VALUES = st.text(st.characters(codec="utf-8"), max_size=10)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


FIELDS = NAMES.map(Field)
CONDITIONS = st.builds(
    Filter,
    FIELDS,
    st.one_of(
        st.builds(
            Operation,
            st.sampled_from(["eq", "gte", "cs", "adj"]),
            VALUES,
            st.booleans(),
            st.none(),
            st.none(),
        ),
        st.builds(
            Operation,
            st.just("in"),
            st.lists(VALUES, min_size=1, max_size=3)
            .filter(lambda values: values != [""])
            .map(array_literal),
            st.booleans(),
            st.none(),
            st.none(),
        ),
    ),
)
TREES = st.recursive(
    CONDITIONS,
    lambda inner: st.builds(
        Logic,
        st.sampled_from(["and", "or"]),
        st.booleans(),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
    ),
    max_leaves=6,
)


def written(tree: Filter | Logic) -> str:
    negated = "not." if getattr(tree, "negated", False) else ""
    if isinstance(tree, Logic):
        inner = ",".join(written(operand) for operand in tree.operands)
        return f"{negated}{tree.connective}({inner})"
    operation = tree.operation
    negated = "not." if operation.negated else ""
    value = quoted(operation.value)
    if operation.operator == "in":
        # An array literal escapes its elements as a quoted list does.
        value = f"({operation.value[1:-1]})"
    return f"{quoted(tree.field.name)}.{negated}{operation.operator}.{value}"


@CHECK
@given(tree=TREES)
def test_logic_trees_are_read_as_they_were_written(tree: Filter | Logic) -> None:
    _, parsed = parse_logic("and", f"({written(tree)})")
    assert parsed == Logic("and", False, (tree,))


SELECT_FIELDS = st.builds(
    SelectField,
    FIELDS,
    st.none() | NAMES,
    st.sampled_from([None, "text", "double precision"]),
    st.sampled_from([None, "sum", "max"]),
    st.none(),
)
SELECTS = st.recursive(
    SELECT_FIELDS,
    lambda inner: st.builds(
        SelectEmbed,
        NAMES,
        st.lists(inner, max_size=3).map(tuple),
        st.none() | NAMES,
        st.none() | NAMES.filter(lambda name: name not in ("inner", "left")),
        st.sampled_from([None, "inner", "left"]),
        st.just(False),
    ),
    max_leaves=6,
)


def select_written(item: SelectField | SelectEmbed) -> str:
    alias = f"{quoted(item.alias)}:" if item.alias is not None else ""
    if isinstance(item, SelectEmbed):
        hint = f"!{quoted(item.hint)}" if item.hint is not None else ""
        join = f"!{item.join}" if item.join is not None else ""
        inner = ",".join(select_written(part) for part in item.items)
        return f"{alias}{quoted(item.name)}{hint}{join}({inner})"
    cast = f"::{item.cast}" if item.cast is not None else ""
    aggregate = f".{item.aggregate}()" if item.aggregate is not None else ""
    return f"{alias}{quoted(item.field.name)}{cast}{aggregate}"


@CHECK
@given(items=st.lists(SELECTS, min_size=1, max_size=3))
def test_selects_are_read_as_they_were_written(
    items: list[SelectField | SelectEmbed],
) -> None:
    text = ",".join(select_written(item) for item in items)
    assert parse_select(text) == tuple(items)
