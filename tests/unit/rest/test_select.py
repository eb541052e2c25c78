"""The select grammar."""

from __future__ import annotations

import pytest

from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_scanner import MAX_DEPTH, Field, JsonStep
from harness.protocols.postgrest_select import SelectEmbed, SelectField, parse_select


def column(name: str) -> SelectField:
    return SelectField(Field(name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", column("*")),
        ("id", column("id")),
        (" id ", column("id")),
        ("two words", column("two words")),
        ("with-dash", column("with-dash")),
        ("über_größe", column("über_größe")),
        ('"a.b"', column("a.b")),
        (r'"say \"hi\" \\ ok"', column(r'say "hi" \ ok')),
        ("alias:id", SelectField(Field("id"), "alias")),
        ('"an alias":id', SelectField(Field("id"), "an alias")),
        ("id::text", SelectField(Field("id"), None, "text")),
        ("x:id::double precision", SelectField(Field("id"), "x", "double precision")),
        ("n.sum()", SelectField(Field("n"), None, None, "sum")),
        (
            "x:n::int.avg()::text",
            SelectField(Field("n"), "x", "int", "avg", "text"),
        ),
        ("count()", SelectField(Field("*"), None, None, "count")),
        ("x:count()::int4", SelectField(Field("*"), "x", None, "count", "int4")),
        ("count", column("count")),
    ],
)
def test_parse_select_of_a_column_gives_its_parts(
    text: str, expected: SelectField
) -> None:
    assert parse_select(text) == (expected,)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("d->a", [JsonStep("->", "a", False)]),
        ("d->>a", [JsonStep("->>", "a", False)]),
        ("d->a->>b", [JsonStep("->", "a", False), JsonStep("->>", "b", False)]),
        ("d->0", [JsonStep("->", "0", True)]),
        ("d->-1->x", [JsonStep("->", "-1", True), JsonStep("->", "x", False)]),
        ("d->12ab", [JsonStep("->", "12ab", False)]),
        ("d->with-dash", [JsonStep("->", "with-dash", False)]),
        ('d->"q:u.o"', [JsonStep("->", "q:u.o", False)]),
        ("d->!@#$%^&*_a", [JsonStep("->", "!@#$%^&*_a", False)]),
    ],
)
def test_parse_select_of_a_json_path_gives_its_steps(
    text: str, steps: list[JsonStep]
) -> None:
    assert parse_select(text) == (SelectField(Field("d", tuple(steps))),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t(*)", SelectEmbed("t", (column("*"),))),
        ("t()", SelectEmbed("t", ())),
        ("a:t(id)", SelectEmbed("t", (column("id"),), alias="a")),
        ("t!fk(id)", SelectEmbed("t", (column("id"),), hint="fk")),
        ("t!inner(id)", SelectEmbed("t", (column("id"),), join="inner")),
        ("t!left(id)", SelectEmbed("t", (column("id"),), join="left")),
        ("t!fk!inner(id)", SelectEmbed("t", (column("id"),), hint="fk", join="inner")),
        ("t!inner!fk(id)", SelectEmbed("t", (column("id"),), hint="fk", join="inner")),
        ("...t(id)", SelectEmbed("t", (column("id"),), spread=True)),
        (
            "t( id , u(x) )",
            SelectEmbed("t", (column("id"), SelectEmbed("u", (column("x"),)))),
        ),
    ],
)
def test_parse_select_of_an_embed_gives_its_parts(
    text: str, expected: SelectEmbed
) -> None:
    assert parse_select(text) == (expected,)


def test_parse_select_of_several_items_keeps_their_order() -> None:
    assert parse_select("id, t(*) ,name") == (
        column("id"),
        SelectEmbed("t", (column("*"),)),
        column("name"),
    )


@pytest.mark.parametrize("rest", [")", "'", "))x"])
def test_parse_select_passes_over_what_follows_an_embed(rest: str) -> None:
    assert parse_select(f"t(id){rest}") == parse_select("t(id)")


def test_parse_select_of_nothing_is_empty() -> None:
    assert parse_select("") == ()


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("id,", 4),
        (":x", 1),
        ("id::", 5),
        ("t(id", 5),
        ("id!fk", 3),
        ("*!fk", 2),
        ("n.median()", 3),
        ("n.sum", 6),
        ("d->>-78xy", 8),
        ("d->", 4),
        ("alias:...t(id)", 7),
        ('"open', 1),
        ("a:b:c", 4),
    ],
)
def test_parse_select_of_a_mistake_points_at_it(text: str, column: int) -> None:
    with pytest.raises(RestError) as caught:
        parse_select(text)
    assert caught.value.code == "PGRST100"
    assert caught.value.status == 400
    expected = f'"failed to parse select parameter ({text})" (line 1, column {column})'
    assert caught.value.message == expected
    assert caught.value.details.startswith("unexpected ")


def test_parse_select_nested_too_deep_is_refused() -> None:
    allowed = "t(" * MAX_DEPTH + ")" * MAX_DEPTH
    assert len(parse_select(allowed)) == 1
    with pytest.raises(RestError) as caught:
        parse_select("t(" * 5000 + ")" * 5000)
    assert caught.value.code == "PGRST100"
