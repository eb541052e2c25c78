"""Settings, relationships, overloads and view definitions, without a database."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.protocols.postgrest_errors import RestError
from harness.servers.rest.embedding import find_relationship
from harness.servers.rest.hints import closest
from harness.servers.rest.relationships import (
    ForeignKey,
    ViewColumns,
    derive_relationships,
    view_primary_key,
)
from harness.servers.rest.routines import find_routine
from harness.servers.rest.schema import (
    Column,
    Parameter,
    QualifiedName,
    Relationship,
    Routine,
    SchemaCache,
    Table,
    quote_identifier,
)
from harness.servers.rest.settings import RestSettings
from harness.servers.rest.view_definitions import TargetEntry, target_entries


def name(text: str) -> QualifiedName:
    schema, _, table = text.rpartition(".")
    return QualifiedName(schema or "public", table)


def table(text: str, *columns: str, key: tuple[str, ...] = ("id",)) -> Table:
    listed = {column: Column(column, "integer", "integer") for column in columns}
    return Table(name(text), listed, key)


FILMS = table("films", "id", "director_id")
DIRECTORS = table("directors", "id")
ROLES = table("roles", "film_id", "actor_id", key=("film_id", "actor_id"))
ACTORS = table("actors", "id")
KEYS = [
    ForeignKey(name("films"), name("directors"), "fd", (("director_id", "id"),), False),
    ForeignKey(name("roles"), name("films"), "rf", (("film_id", "id"),), False),
    ForeignKey(name("roles"), name("actors"), "ra", (("actor_id", "id"),), False),
]


def cache(
    relationships: dict[QualifiedName, list[Relationship]] | None = None,
    routines: dict[QualifiedName, list[Routine]] | None = None,
) -> SchemaCache:
    tables = {t.name: t for t in (FILMS, DIRECTORS, ROLES, ACTORS)}
    return SchemaCache(
        tables, relationships or {}, routines or {}, {}, {}, {}, {}, {}, "", 170000
    )


def derived(*views: ViewColumns) -> dict[QualifiedName, list[Relationship]]:
    return derive_relationships(KEYS, views, cache().tables, [])


def test_foreign_key_gives_both_directions() -> None:
    rels = derived()
    (forward,) = [r for r in rels[name("films")] if r.target == name("directors")]
    (back,) = rels[name("directors")]
    assert (forward.cardinality, forward.columns) == (
        "many-to-one",
        (("director_id", "id"),),
    )
    assert (back.cardinality, back.columns) == ("one-to-many", (("id", "director_id"),))
    assert forward.to_one
    assert not back.to_one


def test_primary_key_of_two_foreign_keys_is_many_to_many() -> None:
    (rel,) = [r for r in derived()[name("actors")] if r.cardinality == "many-to-many"]
    assert rel.target == name("films")
    assert rel.junction is not None
    assert rel.junction.table == name("roles")
    assert rel.junction.source_columns == (("id", "actor_id"),)
    assert rel.junction.target_columns == (("id", "film_id"),)


def test_view_takes_part_with_every_column_that_shows_the_key() -> None:
    view = ViewColumns(
        name("v"), name("films"), {"director_id": ["a", "b"], "id": ["i"]}
    )
    rels = derived(view)
    columns = {r.columns for r in rels[name("v")] if r.target == name("directors")}
    assert columns == {(("a", "id"),), (("b", "id"),)}
    assert any(r.target == name("v") for r in rels[name("directors")])


def test_view_without_the_whole_key_takes_no_part() -> None:
    assert name("v") not in derived(
        ViewColumns(name("v"), name("films"), {"title": ["t"]})
    )


def test_view_primary_key_needs_every_column() -> None:
    keys = {name("roles"): ("film_id", "actor_id")}
    whole = ViewColumns(name("v"), name("roles"), {"film_id": ["f"], "actor_id": ["a"]})
    part = ViewColumns(name("v"), name("roles"), {"film_id": ["f"]})
    assert view_primary_key(name("v"), [whole], keys) == ("f", "a")
    assert view_primary_key(name("v"), [part], keys) == ()


def test_computed_relationship_overrides_what_was_derived() -> None:
    function = Relationship(
        name("films"),
        name("actors"),
        "computed",
        function=name("directors"),
        single=True,
    )
    rels = derive_relationships(KEYS, [], cache().tables, [function])
    found = find_relationship(cache(rels), name("films"), "directors", None)
    assert found is function


@pytest.mark.parametrize(
    ("target", "hint", "code"),
    [
        ("directors", None, None),
        ("fd", None, None),
        ("director_id", None, None),
        ("directors", "fd", None),
        ("directors", "director_id", None),
        ("directors", "id", None),
        ("actors", "roles", None),
        ("actors", "fd", "PGRST200"),
        ("directorz", None, "PGRST200"),
        ("roles", "rf", None),
    ],
)
def test_find_relationship_by_table_key_column_or_junction(
    target: str, hint: str | None, code: str | None
) -> None:
    known = cache(derived())
    if code is None:
        assert find_relationship(known, name("films"), target, hint)
        return
    with pytest.raises(RestError) as caught:
        find_relationship(known, name("films"), target, hint)
    assert caught.value.code == code


def routine(*parameters: Parameter) -> Routine:
    return Routine(
        name("f"), parameters, name("pg_catalog.int4"), False, False, "stable"
    )


A = Parameter("a", "integer", True, False)
B = Parameter("b", "integer", False, False)
BODY = Parameter("", "json", True, False)


@pytest.mark.parametrize(
    ("overloads", "given", "body", "chosen"),
    [
        ([routine(A)], ["a"], None, 0),
        ([routine(A, B)], ["a"], None, 0),
        ([routine(A, B)], ["a", "b"], None, 0),
        ([routine(), routine(A)], [], None, 0),
        ([routine(A), routine(BODY)], ["x"], "application/json", 1),
        ([routine(A), routine(BODY)], ["a"], "application/json", 0),
        ([routine(B)], [], None, 0),
    ],
)
def test_find_routine_by_argument_names(
    overloads: list[Routine], given: list[str], body: str | None, chosen: int
) -> None:
    known = cache(routines={name("f"): overloads})
    found = find_routine(known, name("f"), given, body_type=body)
    assert found is overloads[chosen]


@pytest.mark.parametrize(
    ("overloads", "given", "body", "code"),
    [
        ([routine(A)], [], None, "PGRST202"),
        ([routine(A)], ["a", "x"], None, "PGRST202"),
        ([routine(BODY)], ["x"], None, "PGRST202"),
        ([routine(BODY)], [], "text/plain", "PGRST202"),
        ([routine(A), routine(A, B)], ["a"], None, "PGRST203"),
        ([], [], None, "PGRST202"),
    ],
)
def test_find_routine_that_fits_none_or_many_is_refused(
    overloads: list[Routine], given: list[str], body: str | None, code: str
) -> None:
    known = cache(routines={name("f"): overloads})
    with pytest.raises(RestError) as caught:
        find_routine(known, name("f"), given, body_type=body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", '"a"'), ('a"b', '"a""b"'), ("", '""'), ('"; drop', '"""; drop"')],
)
def test_quote_identifier_doubles_quotes(text: str, quoted: str) -> None:
    assert quote_identifier(text) == quoted


def test_closest_suggests_only_what_is_alike() -> None:
    assert closest("film", ["films", "actors"]) == "films"
    assert closest("zzz", ["films", "actors"]) is None
    assert closest("x" * 500, ["x"]) is None


def test_target_entries_are_those_of_the_outermost_query() -> None:
    def entry(number: int, origin: int, column: int, junk: str = "false") -> str:
        return (
            "{TARGETENTRY :expr {VAR :varno 1 :varnullingrels (b)} "
            f":resno {number} :resname a\\}}\\ b :ressortgroupref 0 "
            f":resorigtbl {origin} :resorigcol {column} :resjunk {junk}}}"
        )

    inner = f"({{QUERY :targetList ({entry(1, 99, 9)}) :rtable <>}})"
    tree = (
        f"({{QUERY :cteList {inner} "
        f":targetList ({entry(1, 5, 2)} {entry(2, 0, 0)} {entry(3, 5, 1, 'true')} "
        f"{entry(4, 6, 3)}) :rowMarks <>}})"
    )
    assert target_entries(tree) == [TargetEntry(1, 5, 2), TargetEntry(4, 6, 3)]
    assert target_entries("<>") == []


def test_settings_take_the_names_of_both_configurations() -> None:
    settings = RestSettings.from_mapping(
        {
            "schemas": ["public", "api"],
            "max_rows": 5,
            "db-extra-search-path": "a, b",
            "db_plan_enabled": "true",
            "something_else": 1,
        }
    )
    assert settings.db_schemas == ("public", "api")
    assert settings.db_max_rows == 5
    assert settings.db_extra_search_path == ("a", "b")
    assert settings.db_plan_enabled
    assert settings.overridden({"db_max_rows": ""}).db_max_rows is None
    assert settings.overridden({}) is settings


@pytest.mark.parametrize(
    "given", [{"max_rows": "many"}, {"db_pool": -1}, {"db_tx_end": "sometimes"}]
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RestSettings.from_mapping(given)


@pytest.mark.parametrize(
    ("given", "sql"),
    [
        ("", None),
        ("check", '"public"."check"'),
        ("api.check", '"api"."check"'),
        ('"a.b"."c""d"', '"a.b"."c""d"'),
    ],
)
def test_pre_request_is_quoted(given: str, sql: str | None) -> None:
    assert RestSettings(db_pre_request=given).pre_request == sql
