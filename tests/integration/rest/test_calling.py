"""RPC: arguments, results, overloads."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.rest.server import RestServer


@pytest.fixture
def client(films: RestServer) -> httpx.Client:
    """Return a client that calls as a signed-in user."""
    return films.client()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("add?a=1&b=2", 3),
        ("add?a=1", 2),
        ("numbers?up_to=3", [1, 2, 3]),
        ("numbers?up_to=0", []),
        ("total?numbers=1&numbers=2", 3),
        ("total?numbers=7", 7),
        ("divide?a=7&b=2", {"quotient": 3, "rest": 1}),
        (
            "summary?decade=gte.1980",
            [{"decade": 1980, "films": 2}, {"decade": 1990, "films": 1}],
        ),
        ("summary?select=n:films&limit=1", [{"n": 1}]),
        (
            "films_since?since=1985&select=id&order=id.desc&id=lt.4",
            [{"id": 3}, {"id": 2}],
        ),
        (
            "films_since?since=1990&select=title,directors(last_name)",
            [{"title": "Dreams", "directors": {"last_name": "Kurosawa"}}],
        ),
        (
            "one_film?film=3&select=title,actors(name)",
            {"title": "Ran", "actors": [{"name": "Tatsuya Nakadai"}]},
        ),
    ],
)
def test_get_calls_with_the_query_string(
    client: httpx.Client, path: str, expected: Any
) -> None:
    response = client.get(f"/rpc/{path}")
    assert response.status_code == 200, response.text
    assert response.json() == expected


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add", {"a": 1, "b": 2}, 3),
        ("add", {"a": "5"}, 6),
        ("add", [{"a": 1}, {"a": 100}], 2),
        ("total", {"numbers": [1, 2, 3]}, 6),
        ("echo", {"any": ["thing", 1.50]}, {"any": ["thing", 1.50]}),
        ("echo", [], []),
        ("who?select=role", {}, None),
        ("divide", {"a": 9, "b": 4}, {"quotient": 2, "rest": 1}),
    ],
)
def test_post_calls_with_the_body(
    client: httpx.Client, name: str, arguments: Any, expected: Any
) -> None:
    response = client.post(f"/rpc/{name}", json=arguments)
    if expected is None:
        assert response.json()["code"] == "42703"
        return
    assert response.status_code == 200, response.text
    assert response.json() == expected


def test_post_of_a_form_or_text_calls_too(client: httpx.Client) -> None:
    assert client.post("/rpc/add", data={"a": "1", "b": "4"}).json() == 5
    text = {"Content-Type": "text/plain"}
    split = client.post("/rpc/split", content="abc", headers=text)
    assert split.json() == {"head": "a", "tail": "bc"}


def test_void_is_204_without_a_body(client: httpx.Client) -> None:
    response = client.post("/rpc/nothing", json={})
    assert (response.status_code, response.content) == (204, b"")


def test_count_and_ranges_apply_to_results(client: httpx.Client) -> None:
    response = client.get(
        "/rpc/numbers?up_to=10&limit=3&offset=2", headers={"Prefer": "count=exact"}
    )
    assert response.status_code == 206
    assert response.json() == [3, 4, 5]
    assert response.headers["Content-Range"] == "2-4/10"


def test_head_calls_and_shows_headers_only(client: httpx.Client) -> None:
    response = client.head(
        "/rpc/films_since?since=1985", headers={"Prefer": "count=exact"}
    )
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Range"] == "0-2/3"


def test_results_come_as_csv_or_one_object(client: httpx.Client) -> None:
    csv = client.get("/rpc/summary?limit=1", headers={"Accept": "text/csv"})
    assert csv.text == "decade,films\n1960,1"
    accept = {"Accept": "application/vnd.pgrst.object+json"}
    assert client.get(
        "/rpc/films_since?since=1990&select=id", headers=accept
    ).json() == {"id": 4}
    many = client.get("/rpc/films_since?since=1985", headers=accept)
    assert (many.status_code, many.json()["code"]) == (406, "PGRST116")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "nope", None, 404, "PGRST202"),
        ("GET", "add", None, 404, "PGRST202"),
        ("GET", "add?a=1&c=2", None, 404, "PGRST202"),
        ("POST", "add", {"x": 1}, 404, "PGRST202"),
        ("POST", "ambiguous", {"a": 1}, 300, "PGRST203"),
        ("GET", "add?a=x", None, 400, "22P02"),
        ("POST", "add", {"a": "x"}, 400, "22P02"),
        ("POST", "add", {"a": [1]}, 400, "22P02"),
        ("GET", "divide?a=1&b=0", None, 400, "22012"),
        ("PATCH", "add", {"a": 1}, 405, "PGRST101"),
        ("DELETE", "add", None, 405, "PGRST101"),
        ("PUT", "add", {"a": 1}, 405, "PGRST101"),
        ("PUT", "add?a=1", {"a": 1}, 405, "PGRST101"),
    ],
)
def test_mistaken_calls_are_told(
    client: httpx.Client, method: str, path: str, body: Any, status: int, code: str
) -> None:
    response = client.request(method, f"/rpc/{path}", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_unknown_function_suggests_one_and_says_what_was_searched(
    client: httpx.Client,
) -> None:
    assert client.post("/rpc/ad", json={"a": 1, "b": 2}).json() == {
        "code": "PGRST202",
        "message": "Could not find the function public.ad(a, b) in the schema cache",
        "details": "Searched for the function public.ad with parameters a, b or with a "
        "single unnamed json/jsonb parameter, but no matches were found in the schema "
        "cache.",
        "hint": "Perhaps you meant to call the function public.add",
    }


def test_ambiguous_function_lists_its_overloads(client: httpx.Client) -> None:
    message = client.get("/rpc/ambiguous?a=1").json()["message"]
    assert message == (
        "Could not choose the best candidate function between: "
        "public.ambiguous(a => integer), public.ambiguous(a => text)"
    )


WRITING = """
  create table log (id int primary key generated always as identity, line text);
  create function note(line text) returns log language sql as
    $$ insert into log (line) values (line) returning * $$;
  create function note_stable(line text) returns int stable language plpgsql as
    $$ begin insert into log (line) values (line); return 1; end $$;
  create function add_lines(lines text[]) returns setof log language sql as
    $$ insert into log (line) select unnest(lines) returning * $$;
  create function slow() returns int language plpgsql set statement_timeout = '50ms' as
    $$ begin perform pg_sleep(5); return 1; end $$;
  create domain "text/html" as text;
  create function page() returns "text/html" immutable language sql as
    $$ select '<h1>hi</h1>' $$;
  create function raises(code text) returns int language plpgsql as
    $$ begin raise 'told' using errcode = code, detail = 'd', hint = 'h'; end $$;
  create function tells() returns int language sql as $$
    select set_config('response.status', '418', true);
    select set_config('response.headers', '[{"X-One": "1"}, {"X-One": "2"}]', true);
    select 1
  $$;
  create function tells_nonsense(what text) returns int language sql as $$
    select set_config(what, 'nonsense', true);
    select 1
  $$;
  create function injects() returns int language sql as $$
    select set_config('response.headers', '[{"X-A": "b\\r\\nX-C: d"}]', true);
    select 1
  $$;
  create function level() returns text stable language sql
    set default_transaction_isolation = 'serializable' as
    $$ select current_setting('transaction_isolation') $$;
"""


def test_get_may_not_write(serve: Any) -> None:
    client = serve(WRITING).client()
    assert client.get("/rpc/note?line=x").status_code == 405
    assert client.get("/rpc/note?line=x").json()["code"] == "25006"
    stable = client.post("/rpc/note_stable", json={"line": "x"})
    assert (stable.status_code, stable.json()["code"]) == (400, "0A000")
    assert client.get("/log").json() == []
    assert client.post("/rpc/note", json={"line": "x"}).json()["line"] == "x"
    assert len(client.get("/log").json()) == 1


def test_post_is_undone_if_its_result_is_not_what_was_wanted(serve: Any) -> None:
    client = serve(WRITING).client()
    lines = {"lines": ["a", "b"]}
    one = {"Accept": "application/vnd.pgrst.object+json"}
    assert client.post("/rpc/add_lines", json=lines, headers=one).status_code == 406
    few = {"Prefer": "handling=strict,max-affected=1"}
    response = client.post("/rpc/add_lines", json=lines, headers=few)
    assert (response.status_code, response.json()["code"]) == (400, "PGRST124")
    response = client.post("/rpc/note", json={"line": "x"}, headers=few)
    assert (response.status_code, response.json()["code"]) == (400, "PGRST128")
    assert client.get("/log").json() == []


def test_settings_of_a_function_hold_from_its_start(serve: Any) -> None:
    client = serve(WRITING).client()
    response = client.post("/rpc/slow", json={})
    assert (response.status_code, response.json()["code"]) == (500, "57014")
    assert client.get("/rpc/level").json() == "serializable"


def test_function_may_declare_its_media_type(serve: Any) -> None:
    client = serve(WRITING).client()
    response = client.get("/rpc/page")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.text == "<h1>hi</h1>"
    accept = {"Accept": "application/pdf"}
    assert client.get("/rpc/page", headers=accept).status_code == 406


def test_function_may_answer_with_bytes(serve: Any) -> None:
    client = serve(
        """
        create domain "application/octet-stream" as bytea;
        create function double(bytea) returns "application/octet-stream" immutable
          language sql as $$ select $1 || $1 $$;
        """
    ).client()
    content = bytes(range(256))
    octets = {"Content-Type": "application/octet-stream"}
    response = client.post("/rpc/double", content=content, headers=octets)
    assert response.content == content * 2
    assert response.headers["Content-Type"] == "application/octet-stream"


def test_records_without_declared_columns_come_as_objects(serve: Any) -> None:
    client = serve(
        """
        create table t (id int primary key, name text);
        insert into t values (1, 'a'), (2, 'b');
        create function one() returns record stable language sql as
          $$ select * from t where id = 1 $$;
        create function many() returns setof record stable language sql as
          $$ select * from t $$;
        """
    ).client()
    assert client.post("/rpc/one").json() == {"id": 1, "name": "a"}
    assert client.get("/rpc/many").json() == [
        {"id": 1, "name": "a"},
        {"id": 2, "name": "b"},
    ]


def test_raised_status_has_its_own_phrase(serve: Any) -> None:
    response = serve(WRITING).client().post("/rpc/raises", json={"code": "PT432"})
    assert (response.status_code, response.reason_phrase) == (432, "told")


@pytest.mark.parametrize(
    ("code", "status"),
    [("P0001", 400), ("PT402", 402), ("23505", 409), ("42501", 403), ("22000", 400)],
)
def test_raised_errors_choose_their_status(serve: Any, code: str, status: int) -> None:
    response = serve(WRITING).client().post("/rpc/raises", json={"code": code})
    assert response.status_code == status
    assert response.json() == {
        "code": code,
        "message": "told",
        "details": "d",
        "hint": "h",
    }


def test_function_may_set_status_and_headers(serve: Any) -> None:
    response = serve(WRITING).client().post("/rpc/tells", json={})
    assert response.status_code == 418
    assert response.headers.get_list("X-One") == ["1", "2"]
    assert response.json() == 1


@pytest.mark.parametrize(
    ("what", "code"),
    [("response.status", "PGRST112"), ("response.headers", "PGRST111")],
)
def test_nonsense_in_response_settings_is_500(serve: Any, what: str, code: str) -> None:
    response = serve(WRITING).client().post("/rpc/tells_nonsense", json={"what": what})
    assert (response.status_code, response.json()["code"]) == (500, code)


def test_response_headers_cannot_smuggle_lines(serve: Any) -> None:
    response = serve(WRITING).client().post("/rpc/injects", json={})
    assert (response.status_code, response.json()["code"]) == (500, "PGRST111")
    assert "X-C" not in response.headers
