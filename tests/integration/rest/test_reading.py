"""GET on tables and views: columns, filters, order, ranges, media types."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.rest.server import RestServer, wait_until

LONG_TITLE = 'Lost, "quoted" and (odd)'


@pytest.fixture
def get(films: RestServer) -> httpx.Client:
    """Return a client that reads the films as a signed-in user."""
    return films.client()


def ids(client: httpx.Client, path: str) -> list[int]:
    response = client.get(path)
    assert response.status_code in (200, 206), response.text
    return [row["id"] for row in response.json()]


@pytest.mark.parametrize(
    ("select", "row"),
    [
        ("id,title", {"id": 1, "title": "Cleo from 5 to 7"}),
        ("film:id,name:title", {"film": 1, "name": "Cleo from 5 to 7"}),
        ("id::text,rating::int", {"id": "1", "rating": 8}),
        ("rating::double precision", {"rating": 7.9}),
        ("tags::_text", {"tags": ["paris", "day"]}),
        ("r:rating::TEXT", {"r": "7.9"}),
        ("feeling::mood,tags", {"feeling": "tense", "tags": ["paris", "day"]}),
        ("details->country", {"country": "FR"}),
        ("details->>n", {"n": "1"}),
        ("details->awards->0->>name", {"name": "Palme"}),
        ("details->awards->-1->name", {"name": "Other"}),
        ("details->awards->>5", {"awards": None}),
        ("x:details->n::int", {"x": 1}),
        ("tags->0", {"tags": "paris"}),
        ("shown,open", {"shown": "[1962-01-01,1962-06-01)", "open": True}),
    ],
)
def test_select_shapes_the_row(get: httpx.Client, select: str, row: Any) -> None:
    response = get.get("/films", params={"select": select, "id": "eq.1"})
    assert response.json() == [row]


def test_select_of_nothing_is_everything(get: httpx.Client) -> None:
    assert get.get("/films?select=").json() == get.get("/films").json()


def test_select_of_odd_names_quotes_them(get: httpx.Client) -> None:
    path = '/Odd "Name"?select="the id","a.b",select,über-größe&"a.b"=eq.dot'
    assert get.get(path).json() == [
        {"the id": 1, "a.b": "dot", "select": "one", "über-größe": 5}
    ]


def test_select_of_a_computed_column_calls_its_function(get: httpx.Client) -> None:
    path = "/directors?select=full_name&full_name=like.Ag*&order=full_name"
    assert get.get(path).json() == [{"full_name": "Agnes Varda"}]


def test_select_of_count_counts_although_aggregates_are_off(get: httpx.Client) -> None:
    assert get.get("/films?select=count").json() == [{"count": 5}]
    path = "/directors?select=last_name,films(count)&order=id"
    assert [row["films"] for row in get.get(path).json()] == [
        [{"count": 2}],
        [{"count": 2}],
        [{"count": 0}],
    ]
    assert get.get("/films?select=count()").json()["code"] == "PGRST123"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("id=eq.1", [1]),
        ("id=neq.1", [2, 3, 4, 5]),
        ("id=gt.3", [4, 5]),
        ("id=gte.3", [3, 4, 5]),
        ("id=lt.2", [1]),
        ("id=lte.2", [1, 2]),
        ("id=not.gt.1", [1]),
        ("id=in.(1,3,99)", [1, 3]),
        ("id=not.in.(1,3)", [2, 4, 5]),
        ("id=in.()", []),
        ("id=eq(any).{1,2}", [1, 2]),
        ("id=gt(all).{1,3}", [4, 5]),
        ("id=not.eq(any).{1,2}", [3, 4, 5]),
        ("year=is.null", [5]),
        ("year=not.is.null", [1, 2, 3, 4]),
        ("year=is.not_null", [1, 2, 3, 4]),
        ("open=is.true", [1, 4]),
        ("open=is.FALSE", [2]),
        ("open=is.unknown", [3, 5]),
        ("open=not.is.unknown", [1, 2, 4]),
        ("year=isdistinct.1985", [1, 4, 5]),
        ("year=not.isdistinct.1985", [2, 3]),
        ("title=like.R*", [3]),
        ("title=like.*a*", [2, 3, 4, 5]),
        ("title=ilike.*RAN", [3]),
        ("title=like(any).{R*,D*}", [3, 4]),
        ("title=ilike(all).{*A*,*N*}", [2, 3, 5]),
        ("title=match.^[RD]", [3, 4]),
        ("title=imatch.^r", [3]),
        ("title=not.imatch(any).{^r,^d}", [1, 2, 5]),
        (f"title=eq.{LONG_TITLE}", [5]),
        (r'title=in.("Lost, \"quoted\" and (odd)",Ran)', [3, 5]),
        ("rated=gte.79", [1, 3]),
        ("feeling=eq.calm", [2, 4]),
        ("feeling=in.(calm,tense)", [1, 2, 3, 4]),
        ("tags=cs.{paris}", [1]),
        ("tags=cd.{paris,day,road}", [1, 2, 4]),
        ("tags=ov.{war,road}", [2, 3]),
        ("tags=eq.{}", [4]),
        ("shown=cs.[1962-03-01,1962-03-02)", [1]),
        ("shown=sl.[1980-01-01,1981-01-01)", [1]),
        ("shown=sr.[1985-06-01,1986-01-01)", [4]),
        ("shown=nxr.[1962-01-01,1986-01-01)", [1, 2]),
        ("shown=nxl.[1985-01-01,1986-01-01)", [2, 4]),
        ("shown=adj.[1962-06-01,1963-01-01)", [1]),
        ('details=cs.{"country":"FR"}', [1, 2]),
        ("details->>country=eq.FR", [1, 2]),
        ("details->n=eq.1", [1]),
        ("details->awards->0->>name=eq.Palme", [1]),
        ("details->awards->>0=not.is.null", [1]),
        ("tags->>0=eq.war", [3]),
        ("words=fts.dream", [4]),
        ("words=fts(english).dreams", [4]),
        ("title=fts.ran", [3]),
        ("title=plfts(english).dreaming", [4]),
        ("title=phfts(english).from 5", [1]),
        ("title=wfts(english).dream or ran", [3, 4]),
        ("words=not.wfts.dream or ran", [1, 2, 5]),
        ("or=(id.eq.1,id.eq.3)", [1, 3]),
        ("not.or=(id.eq.1,id.eq.3)", [2, 4, 5]),
        ("and=(id.gt.1,not.or(id.eq.3,id.eq.4))", [2, 5]),
        ("or=(and(year.eq.1985,feeling.eq.calm),id.in.(5,6))", [2, 5]),
        (f'or=(title.eq."{LONG_TITLE}")'.replace('"quoted"', r"\"quoted\""), [5]),
        ("or=(tags.cs.{paris,day},id.eq.4)", [1, 4]),
        ("or=(details->>country.eq.JP,year.is.null)", [3, 5]),
        ("year=eq.1985&feeling=eq.calm", [2]),
        ("year=gt.1960&year=lt.1980", [1]),
    ],
)
def test_filters_choose_rows(
    get: httpx.Client, query: str, expected: list[int]
) -> None:
    pairs = [tuple(part.split("=", 1)) for part in query.split("&")]
    response = get.get("/films", params=[("select", "id"), ("order", "id"), *pairs])
    assert response.status_code == 200, response.text
    assert [row["id"] for row in response.json()] == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("id", [1, 2, 3, 4, 5]),
        ("id.desc", [5, 4, 3, 2, 1]),
        ("year.desc.nullslast,id", [4, 2, 3, 1, 5]),
        ("year.nullsfirst,id.desc", [5, 1, 3, 2, 4]),
        ("year,id", [1, 2, 3, 4, 5]),
        ("details->>country.desc.nullslast,id.desc", [3, 2, 1, 5, 4]),
        ("details->n.desc.nullslast,id", [1, 2, 3, 4, 5]),
    ],
)
def test_order_sorts_rows(get: httpx.Client, order: str, expected: list[int]) -> None:
    assert ids(get, f"/films?select=id&order={order}") == expected


@pytest.mark.parametrize(
    ("query", "headers", "status", "content_range", "expected"),
    [
        ("", {}, 200, "0-4/*", [1, 2, 3, 4, 5]),
        ("limit=2", {}, 200, "0-1/*", [1, 2]),
        ("limit=2&offset=3", {}, 200, "3-4/*", [4, 5]),
        ("offset=4", {}, 200, "4-4/*", [5]),
        ("limit=0", {}, 200, "*/*", []),
        ("limit=2", {"Prefer": "count=exact"}, 206, "0-1/5", [1, 2]),
        ("id=gt.9", {"Prefer": "count=exact"}, 200, "*/0", []),
        ("", {"Prefer": "count=exact"}, 200, "0-4/5", [1, 2, 3, 4, 5]),
        ("", {"Range": "1-2"}, 200, "1-2/*", [2, 3]),
        ("", {"Range": "3-"}, 200, "3-4/*", [4, 5]),
        ("", {"Range": "0-0", "Prefer": "count=exact"}, 206, "0-0/5", [1]),
        ("limit=3", {"Range": "1-9"}, 200, "1-2/*", [2, 3]),
        ("offset=5", {"Prefer": "count=exact"}, 206, "*/5", []),
        ("id=in.(1,2)&limit=1", {"Prefer": "count=exact"}, 206, "0-0/2", [1]),
        ("", {"Prefer": "count=estimated"}, 200, "0-4/5", [1, 2, 3, 4, 5]),
    ],
)
def test_ranges_cut_rows(
    get: httpx.Client,
    query: str,
    headers: dict[str, str],
    status: int,
    content_range: str,
    expected: list[int],
) -> None:
    response = get.get(f"/films?select=id&order=id&{query}", headers=headers)
    assert response.status_code == status
    assert response.headers["Content-Range"] == content_range
    assert [row["id"] for row in response.json()] == expected


def test_count_planned_is_what_the_planner_expects(get: httpx.Client) -> None:
    response = get.get("/films?limit=1", headers={"Prefer": "count=planned"})
    total = int(response.headers["Content-Range"].partition("/")[2])
    assert total > 5  # a table that was never analysed is taken for a larger one


def test_offset_past_the_end_is_416_if_the_end_is_known(get: httpx.Client) -> None:
    response = get.get("/films?offset=99", headers={"Prefer": "count=exact"})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "*/5"
    assert response.json() == {
        "code": "PGRST103",
        "message": "Requested range not satisfiable",
        "details": "An offset of 99 was requested, but there are only 5 rows.",
        "hint": None,
    }
    assert get.get("/films?offset=99").json() == []


def test_max_rows_caps_rows_and_embedded_rows(films: RestServer) -> None:
    client = films.client()
    login = f'alter role authenticator in database "{films.database.dbname}"'
    films.sql(f"{login} set pgrst.db_max_rows = '1'", user="supabase_admin")
    try:
        films.sql("notify pgrst, 'reload config'")
        path = "/directors?select=id,films(id)&order=id&films.order=id"
        one = [{"id": 1, "films": [{"id": 1}]}]
        wait_until(lambda: client.get(path).json() == one)
        assert len(client.get("/films?limit=3").json()) == 1
    finally:
        films.sql(f"{login} reset pgrst.db_max_rows", user="supabase_admin")
        films.sql("notify pgrst, 'reload config'")
    wait_until(lambda: len(client.get("/films?limit=3").json()) == 3)


SINGLE = {"Accept": "application/vnd.pgrst.object+json"}


def test_single_object_is_one_object(get: httpx.Client) -> None:
    response = get.get("/films?id=eq.1&select=id", headers=SINGLE)
    assert response.json() == {"id": 1}
    expected = "application/vnd.pgrst.object+json; charset=utf-8"
    assert response.headers["Content-Type"] == expected


@pytest.mark.parametrize(("query", "rows"), [("id=eq.99", 0), ("id=lt.3", 2)])
def test_single_object_of_none_or_many_is_406(
    get: httpx.Client, query: str, rows: int
) -> None:
    response = get.get(f"/films?{query}", headers=SINGLE)
    assert response.status_code == 406
    assert response.json() == {
        "code": "PGRST116",
        "message": "Cannot coerce the result to a single JSON object",
        "details": f"The result contains {rows} rows",
        "hint": None,
    }


def test_null_stripping_drops_keys(get: httpx.Client) -> None:
    accept = "application/vnd.pgrst.array+json;nulls=stripped"
    path = "/films?id=eq.5&select=id,year,open"
    assert get.get(path, headers={"Accept": accept}).json() == [{"id": 5}]
    accept = "application/vnd.pgrst.object+json;nulls=stripped"
    assert get.get(path, headers={"Accept": accept}).json() == {"id": 5}


def test_csv_has_a_header_and_a_line_a_row(get: httpx.Client) -> None:
    response = get.get(
        "/films?select=id,title,year&order=id&id=in.(1,5)",
        headers={"Accept": "text/csv"},
    )
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.text == (
        'id,title,year\n1,"Cleo from 5 to 7",1962\n5,"Lost, ""quoted"" and (odd)",'
    )


@pytest.mark.parametrize("accept", ["application/pdf", "application/vnd.pgrst.plan"])
def test_other_media_types_are_406(get: httpx.Client, accept: str) -> None:
    response = get.get("/films", headers={"Accept": accept})
    assert response.status_code == 406
    assert response.json()["code"] == "PGRST107"


def test_head_has_the_headers_only(get: httpx.Client) -> None:
    response = get.head("/films?id=gt.1", headers={"Prefer": "count=exact"})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Range"] == "0-3/4"


def test_head_and_post_know_no_range_header(get: httpx.Client) -> None:
    headers = {"Range": "1-1", "Prefer": "count=exact"}
    response = get.head("/films", headers=headers)
    assert response.headers["Content-Range"] == "0-4/5"
    called = get.post("/rpc/films_since", json={"since": 1900}, headers=headers)
    assert called.headers["Content-Range"] == "0-3/4"


def test_answer_tells_location_and_applied_preferences(get: httpx.Client) -> None:
    response = get.get(
        "/films?select=id&id=eq.1",
        headers={"Prefer": "count=exact, tx=rollback, unknown=1"},
    )
    assert response.headers["Content-Location"] == "/films?id=eq.1&select=id"
    assert response.headers["Preference-Applied"] == "count=exact"
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"


def test_plan_is_shown_where_it_is_enabled(serve: Any) -> None:
    server = serve("create table t (id int primary key)", db_plan_enabled=True)
    client = server.client()
    plan = client.get("/t", headers={"Accept": "application/vnd.pgrst.plan+json"})
    assert plan.json()[0]["Plan"]["Node Type"] == "Aggregate"
    accept = "application/vnd.pgrst.plan+text; options=analyze|verbose"
    text = client.get("/t?id=eq.1", headers={"Accept": accept})
    assert "actual time" in text.text
    assert text.headers["Content-Type"].startswith("application/vnd.pgrst.plan+text;")
