"""The schema cache follows the schema, at once."""

from __future__ import annotations

import dataclasses

import psycopg
import pytest

from tests.integration.rest.conftest import Serve
from tests.integration.rest.server import wait_until

STEPS = [
    ("create table t (id int primary key)", "/t", 200),
    ("alter table t add column name text", "/t?select=name", 200),
    ("alter table t rename column name to title", "/t?select=title&title=eq.x", 200),
    ("alter table t drop column title", "/t?select=title", 400),
    ("create table u (id int primary key, t_id int)", "/t?select=id,u(id)", 400),
    ("alter table u add foreign key (t_id) references t", "/t?select=id,u(id)", 200),
    (
        "create function f(a int) returns int immutable language sql as 'select a'",
        "/rpc/f?a=1",
        200,
    ),
    ("create view v as select id from t", "/v?select=id,u(id)", 200),
    ("drop function f", "/rpc/f?a=1", 404),
    ("drop view v", "/v", 404),
    ("alter table u rename to w", "/w?select=t(id)", 200),
    ("create type colour as enum ('red')", "/t?select=id::text::colour", 400),
    ("alter table w alter column id type text", "/w?id=eq.abc", 200),
]


def test_every_change_is_seen_by_the_next_request(serve: Serve) -> None:
    server = serve()
    client = server.client()
    assert client.get("/t").status_code == 404
    for statement, path, status in STEPS:
        server.sql(statement)
        response = client.get(path)
        assert response.status_code == status, (statement, response.text)


def test_statements_prepared_before_a_change_are_prepared_again(serve: Serve) -> None:
    server = serve(
        "create table t (id int primary key, v int); insert into t values (1, 5)"
    )
    client = server.client()
    for _ in range(10):
        assert client.get("/t?v=eq.5").json() == [{"id": 1, "v": 5}]
    server.sql("alter table t alter column v type text using v::text")
    assert client.get("/t?v=eq.5").json() == [{"id": 1, "v": "5"}]
    assert client.post("/t", json={"id": 2, "v": "words"}).status_code == 201


def test_changes_without_event_triggers_are_found_when_missed(serve: Serve) -> None:
    server = serve()
    server.sql("drop event trigger pgrst_ddl_watch", user="supabase_admin")
    client = server.client()
    assert client.get("/late").status_code == 404
    server.sql("create table late (id int)")
    assert client.get("/late").status_code == 200


def test_service_survives_the_loss_of_its_connections(serve: Serve) -> None:
    server = serve("create table t (id int)")
    client = server.client()
    assert client.get("/t").status_code == 200
    server.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'postgrest'",
        user="supabase_admin",
    )
    statuses = {client.get("/t").status_code for _ in range(5)}
    assert statuses <= {200, 503}
    assert client.get("/t").status_code == 200
    server.sql("alter table t add column a int")
    assert client.get("/t?select=a").status_code == 200


def test_unreachable_database_is_503(serve: Serve) -> None:
    server = serve("create table t (id int)")
    name = server.database.dbname
    elsewhere = dataclasses.replace(server.database, dbname="template1")
    with psycopg.connect(elsewhere.dsn("supabase_admin"), autocommit=True) as admin:
        admin.execute(f'alter database "{name}" allow_connections false'.encode())
        response = server.client().get("/t")
        assert (response.status_code, response.json()["code"]) == (503, "PGRST001")
        admin.execute(f'alter database "{name}" allow_connections true'.encode())
    assert server.client().get("/t").status_code == 200


@pytest.mark.parametrize("kind", ["table", "partition"])
def test_partitioned_tables_are_served_as_one(serve: Serve, kind: str) -> None:
    client = serve(
        "create table events (at int primary key, note text) partition by range (at);"
        "create table events_1 partition of events for values from (0) to (10);"
        "insert into events values (5, 'x')"
    ).client()
    if kind == "table":
        assert client.get("/events").json() == [{"at": 5, "note": "x"}]
    else:
        assert client.get("/events_1").status_code == 404


def test_listening_ends_when_nobody_asks_and_begins_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.servers.rest.cache.LISTEN_IDLE_S", 0.05)
    server = serve("create table t (id int)")
    client = server.client()
    listening = (
        "select count(*) from pg_stat_activity"
        " where application_name = 'postgrest' and query = 'LISTEN pgrst'"
    )
    assert client.get("/t").status_code == 200
    admin = {"user": "supabase_admin"}
    wait_until(lambda: server.sql(listening, **admin) == [(0,)])
    server.sql("alter table t rename column id to other")
    assert client.get("/t?select=other").json() == []


ODD_VIEWS = """
  create table "od{d)" ("k}e(y" int primary key, "v\\al" text, "sp ace" int);
  create table child (id int primary key, "re:f" int references "od{d)");
  create view renamed as
    select "k}e(y" as "a{b", "v\\al" as "c\\d", 1 as "e}f" from "od{d)";
  create view joined as
    select c.id, o."k}e(y" as parent, (select max("sp ace") from "od{d)") as top
    from child c left join "od{d)" o on o."k}e(y" = c."re:f";
  create view nested as
    with inside as (select "a{b" as x, "c\\d" from renamed where "e}f" = 1)
    select x, "c\\d" as y, (select count(*) from child where "re:f" = x) as children
    from inside;
  create view grouped as select "re:f", count(*) as n from child group by 1;
  insert into "od{d)" values (1, 'one', 5), (2, 'two', 6);
  insert into child values (10, 1), (11, 1), (12, 2);
"""


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ('/renamed?select="a{b",child(id)&order="a{b"', {"id": 10}),
        ("/nested?select=x,child(id)&order=x", {"id": 10}),
        ('/child?select=id,renamed("c\\\\d")&order=id', {"c\\d": "one"}),
        ("/child?select=id,nested(y)&order=id", {"y": "one"}),
    ],
)
def test_keys_are_followed_through_odd_views(
    serve: Serve, path: str, first: dict[str, object]
) -> None:
    response = serve(ODD_VIEWS).client().get(path)
    assert response.status_code == 200, response.text
    embedded = list(response.json()[0].values())[1]
    assert embedded == first or embedded[0] == first


def test_column_that_a_view_works_out_is_no_key(serve: Serve) -> None:
    client = serve(ODD_VIEWS).client()
    assert client.get("/grouped?select=n,child(id)").status_code == 400
    assert client.get('/grouped?select=n,re:"re:f"&limit=0').status_code == 200
