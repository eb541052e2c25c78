"""Embedded resources: relationships, hints, joins, spreads, ranges and filters."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.rest.server import RestServer


@pytest.fixture
def get(films: RestServer) -> httpx.Client:
    """Return a client that reads the films as a signed-in user."""
    return films.client()


VARDA, KUROSAWA, NOBODY = (
    {"last_name": name} for name in ("Varda", "Kurosawa", "Nobody")
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            "/films?select=id,directors(last_name)&order=id",
            [
                {"id": 1, "directors": VARDA},
                {"id": 2, "directors": VARDA},
                {"id": 3, "directors": KUROSAWA},
                {"id": 4, "directors": KUROSAWA},
                {"id": 5, "directors": None},
            ],
            id="many-to-one",
        ),
        pytest.param(
            "/directors?select=id,films(id)&order=id&films.order=id",
            [
                {"id": 1, "films": [{"id": 1}, {"id": 2}]},
                {"id": 2, "films": [{"id": 3}, {"id": 4}]},
                {"id": 3, "films": []},
            ],
            id="one-to-many",
        ),
        pytest.param(
            "/films?select=id,technical_specs(camera)&id=lt.3&order=id",
            [
                {"id": 1, "technical_specs": {"camera": "Cameflex"}},
                {"id": 2, "technical_specs": None},
            ],
            id="one-to-one",
        ),
        pytest.param(
            "/technical_specs?select=films(title)&film_id=eq.1",
            [{"films": {"title": "Cleo from 5 to 7"}}],
            id="one-to-one from the other side",
        ),
        pytest.param(
            "/actors?select=name,films(id)&id=eq.3&films.order=id",
            [{"name": "Tatsuya Nakadai", "films": [{"id": 3}, {"id": 4}]}],
            id="many-to-many",
        ),
        pytest.param(
            "/films?select=id,cast:roles(character,actors(name))&id=eq.1",
            [
                {
                    "id": 1,
                    "cast": [
                        {"character": "Cleo", "actors": {"name": "Corinne Marchand"}}
                    ],
                }
            ],
            id="nested",
        ),
        pytest.param(
            "/orders?select=bill:addresses!billing(street),"
            "ship:addresses!shipping_id(street)&id=eq.1",
            [{"bill": {"street": "Rue A"}, "ship": {"street": "Rue B"}}],
            id="hints by key and by column",
        ),
        pytest.param(
            "/orders?select=billing(street),shipping_id(street)&id=eq.1",
            [{"billing": {"street": "Rue A"}, "shipping_id": {"street": "Rue B"}}],
            id="targets by key and by column",
        ),
        pytest.param(
            "/addresses?select=street,orders!shipping(id)&order=id&orders.order=id",
            [
                {"street": "Rue A", "orders": []},
                {"street": "Rue B", "orders": [{"id": 1}, {"id": 2}]},
            ],
            id="hint on the many side",
        ),
        pytest.param(
            "/employees?select=name,boss_id(name),employees(name)&id=eq.2",
            [
                {
                    "name": "Mid",
                    "boss_id": {"name": "Boss"},
                    "employees": [{"name": "Low"}],
                }
            ],
            id="both sides of a table to itself",
        ),
        pytest.param(
            "/films?select=id,actors!roles(name)&id=eq.1",
            [{"id": 1, "actors": [{"name": "Corinne Marchand"}]}],
            id="hint by junction",
        ),
        pytest.param(
            "/recent_films?select=title,directors(last_name),technical_specs(camera)",
            [{"title": "Dreams", "directors": KUROSAWA, "technical_specs": None}],
            id="from a view",
        ),
        pytest.param(
            "/directors?select=recent_films(title)&id=eq.2",
            [{"recent_films": [{"title": "Dreams"}]}],
            id="to a view",
        ),
        pytest.param(
            "/film_names?select=name,roles(character)",
            [{"name": "Dreams", "roles": [{"character": "Himself"}]}],
            id="from a view upon a view",
        ),
        pytest.param(
            "/directors?select=colleagues(last_name)&id=eq.1",
            [{"colleagues": [KUROSAWA, NOBODY]}],
            id="computed",
        ),
        pytest.param(
            "/films?select=id,...directors(last_name,born)&id=in.(1,5)&order=id",
            [
                {"id": 1, "last_name": "Varda", "born": "1928-05-30"},
                {"id": 5, "last_name": None, "born": None},
            ],
            id="spread of one",
        ),
        pytest.param(
            "/directors?select=id,...films(titles:title,year)&order=id&films.order=id",
            [
                {
                    "id": 1,
                    "titles": ["Cleo from 5 to 7", "Vagabond"],
                    "year": [1962, 1985],
                },
                {"id": 2, "titles": ["Ran", "Dreams"], "year": [1985, 1990]},
                {"id": 3, "titles": [], "year": []},
            ],
            id="spread of many",
        ),
        pytest.param(
            "/roles?select=character,...films(title,...directors(director:last_name))"
            "&film_id=eq.3",
            [{"character": "Hidetora", "title": "Ran", "director": "Kurosawa"}],
            id="spread in a spread",
        ),
        pytest.param(
            "/roles?select=character,films(title,...directors(*))&film_id=eq.3",
            [
                {
                    "character": "Hidetora",
                    "films": {
                        "title": "Ran",
                        "id": 2,
                        "first_name": "Akira",
                        "last_name": "Kurosawa",
                        "born": "1910-03-23",
                    },
                }
            ],
            id="spread of everything inside an object",
        ),
    ],
)
def test_embedding_joins_what_is_related(
    get: httpx.Client, path: str, expected: Any
) -> None:
    response = get.get(path)
    assert response.status_code == 200, response.text
    assert response.json() == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select=id,directors!inner(id)", [1, 2, 3, 4]),
        ("select=id,directors!left(id)", [1, 2, 3, 4, 5]),
        ("select=id,directors!inner(id)&directors.last_name=eq.Varda", [1, 2]),
        ("select=id,directors(id)&directors.last_name=eq.Varda", [1, 2, 3, 4, 5]),
        ("select=id,actors!inner(id)&actors.name=like.T*", [3, 4]),
        ("select=id,roles!inner(actors!inner(id))&roles.actors.id=eq.2", [2]),
        ("select=id,directors()&directors=is.null", [5]),
        ("select=id,directors()&directors=not.is.null", [1, 2, 3, 4]),
        ("select=id,actors()&actors=is.null", [5]),
        ("select=id,d:directors(id)&d.last_name=eq.Varda&d=not.is.null", [1, 2]),
        ("select=id,directors(id)&or=(directors.is.null,id.eq.1)", [1, 5]),
        (
            "select=id,directors(id)&directors.or=(id.eq.2,last_name.eq.X)"
            "&directors=is.not_null",
            [3, 4],
        ),
        ("select=id,...directors!inner(last_name)&directors.id=eq.1", [1, 2]),
        ("select=id,...actors!inner(names:name)", [1, 2, 3, 4]),
        ("select=id,...actors(names:name)&actors=is.null", [5]),
    ],
)
def test_embedded_filters_choose_rows(
    get: httpx.Client, query: str, expected: list[int]
) -> None:
    prefer = {"Prefer": "count=exact"}
    response = get.get(f"/films?{query}&order=id", headers=prefer)
    assert response.status_code == 200, response.text
    assert [row["id"] for row in response.json()] == expected
    total = response.headers["Content-Range"].partition("/")[2]
    assert total == str(len(expected))


def test_embedded_rows_have_their_own_order_and_range(get: httpx.Client) -> None:
    path = (
        "/directors?select=id,films(id)&order=id&films.order=year.desc,id"
        "&films.limit=1&films.offset=1"
    )
    assert [row["films"] for row in get.get(path).json()] == [
        [{"id": 1}],
        [{"id": 3}],
        [],
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "select=id,directors(last_name)&order=directors(last_name),id.desc",
            [4, 3, 2, 1, 5],
        ),
        (
            "select=id,directors(last_name)&order=directors(born).nullslast,id",
            [3, 4, 1, 2, 5],
        ),
        (
            "select=id,directors()&order=directors(born).desc.nullslast,id",
            [1, 2, 3, 4, 5],
        ),
        ("select=id,d:directors(*)&order=d(born).nullsfirst,id", [5, 3, 4, 1, 2]),
        (
            "select=id,...directors(first_name)&order=directors(born).nullslast,id",
            [3, 4, 1, 2, 5],
        ),
    ],
)
def test_order_by_a_related_column(
    get: httpx.Client, query: str, expected: list[int]
) -> None:
    response = get.get(f"/films?{query}")
    assert response.status_code == 200, response.text
    assert [row["id"] for row in response.json()] == expected
    assert "pgrst_order" not in response.text


def test_ambiguous_embedding_lists_the_choices(get: httpx.Client) -> None:
    response = get.get("/orders?select=*,addresses(*)")
    assert response.status_code == 300
    assert response.json() == {
        "code": "PGRST201",
        "message": "Could not embed because more than one relationship was found for "
        "'orders' and 'addresses'",
        "details": [
            {
                "cardinality": "many-to-one",
                "embedding": "orders with addresses",
                "relationship": f"{name} using orders({name}_id) and addresses(id)",
            }
            for name in ("billing", "shipping")
        ],
        "hint": "Try changing 'addresses' to one of the following: "
        "'addresses!billing', 'addresses!shipping'. Find the desired relationship in "
        "the 'details' key.",
    }


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/films?select=id,nothing(id)", 400, "PGRST200"),
        ("/films?select=id,directors!nope(id)", 400, "PGRST200"),
        ("/films?select=id&directors.id=eq.1", 400, "PGRST108"),
        ("/films?select=id&order=directors(id)", 400, "PGRST108"),
        ("/films?select=id,actors(id)&order=actors(id)", 400, "PGRST118"),
        ("/films?select=id,directors(id)&directors=eq.1", 400, "PGRST120"),
        ("/films?select=id,directors(nope)", 400, "42703"),
        ("/films?select=id,directors(id)&directors.nope=eq.1", 400, "42703"),
        ("/films?select=id,directors(id)&order=directors(nope)", 400, "42703"),
        ("/films?select=id,directors(n.sum())", 400, "PGRST123"),
    ],
)
def test_embedding_mistakes_are_told(
    get: httpx.Client, path: str, status: int, code: str
) -> None:
    response = get.get(path)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_embedding_a_misspelt_table_suggests_the_right_one(get: httpx.Client) -> None:
    hint = get.get("/films?select=directorz(id)").json()["hint"]
    assert hint == "Perhaps you meant 'directors' instead of 'directorz'."


AGGREGATES = """
  create table projects (id int primary key, client text, budget int);
  create table invoices (
    id int primary key, project_id int references projects, total numeric, paid bool
  );
  insert into projects values (1, 'a', 10), (2, 'a', 30), (3, 'b', 5);
  insert into invoices values (1, 1, 1.5, true), (2, 1, 2.5, false), (3, 3, 4, true);
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/projects?select=count()", [{"count": 3}]),
        (
            "/projects?select=client,budget.sum(),n:count()::text&order=client",
            [{"client": "a", "sum": 40, "n": "2"}, {"client": "b", "sum": 5, "n": "1"}],
        ),
        (
            "/projects?select=id,invoices(total.max(),total.min())&order=id",
            [
                {"id": 1, "invoices": [{"max": 2.5, "min": 1.5}]},
                {"id": 2, "invoices": [{"max": None, "min": None}]},
                {"id": 3, "invoices": [{"max": 4, "min": 4}]},
            ],
        ),
        (
            "/invoices?select=total.sum(),...projects(client)&order=projects(client)",
            [{"sum": 4.0, "client": "a"}, {"sum": 4, "client": "b"}],
        ),
        (
            "/invoices?select=paid,...projects(b:budget.avg()::int)&order=paid",
            [{"paid": False, "b": 10}, {"paid": True, "b": 8}],
        ),
        (
            "/invoices?select=t:total.sum(),...projects(client,b:budget.sum())"
            "&order=projects(client)",
            [{"t": 4.0, "client": "a", "b": 20}, {"t": 4, "client": "b", "b": 5}],
        ),
        (
            "/invoices?select=paid,...projects(count())&order=paid",
            [{"paid": False, "count": 1}, {"paid": True, "count": 2}],
        ),
        (
            "/invoices?select=total.sum(),projects(client)",
            [
                {"sum": 4.0, "projects": {"client": "a"}},
                {"sum": 4, "projects": {"client": "b"}},
            ],
        ),
    ],
)
def test_aggregates_group_by_what_else_is_selected(
    serve: Any, path: str, expected: Any
) -> None:
    client = serve(AGGREGATES, db_aggregates_enabled=True).client()
    response = client.get(path)
    assert response.status_code == 200, response.text
    rows = response.json()
    if "order" not in path:
        rows.sort(key=str)
        expected.sort(key=str)
    assert rows == expected
