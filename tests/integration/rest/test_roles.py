"""Who a request runs as: tokens, roles, row security, settings, pre-request."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.protocols.jwt import mint
from tests.integration.rest.conftest import Serve
from tests.integration.rest.server import FAR_FUTURE, SUB, RestServer

NOTES = """
  create table notes (id int primary key, owner uuid, body text);
  alter table notes enable row level security;
  create policy own on notes to authenticated
    using (owner = auth.uid()) with check (owner = auth.uid());
  insert into notes values
    (1, '11111111-1111-4111-8111-111111111111', 'mine'),
    (2, '22222222-2222-4222-8222-222222222222', 'yours');
  create table secrets (id int primary key, open text, hidden text);
  revoke all on secrets from anon, authenticated, service_role;
  grant select (id, open), insert on secrets to authenticated;
  insert into secrets values (1, 'o', 'h');
  create schema private;
  create table private.vault (id int);
  create function who() returns json stable language sql as $$
    select json_build_object(
      'role', current_user,
      'session', session_user,
      'claims', current_setting('request.jwt.claims', true)::json,
      'read_only', current_setting('transaction_read_only'),
      'timeout', current_setting('statement_timeout'),
      'headers', current_setting('request.headers', true)::json,
      'left_over', nullif(current_setting('test.left_over', true), '')
    )
  $$;
  create function leaves() returns void language sql as
    $$ select set_config('test.left_over', 'x', true) $$;
  create function becomes(role text) returns text language plpgsql as $$
    begin
      perform set_config('role', role, true);
      return current_user;
    end
  $$;
"""


@pytest.fixture
def server(serve: Serve) -> RestServer:
    """Serve the notes."""
    return serve(NOTES)


def test_rows_are_those_of_the_token(server: RestServer) -> None:
    assert [row["id"] for row in server.client().get("/notes").json()] == [1]
    other = server.client(sub="22222222-2222-4222-8222-222222222222")
    assert [row["id"] for row in other.get("/notes").json()] == [2]
    assert server.client("anon").get("/notes").json() == []
    assert len(server.client("service_role").get("/notes").json()) == 2


def test_writes_are_checked_by_policies(server: RestServer) -> None:
    client = server.client()
    refused = client.post("/notes", json={"id": 3, "owner": None})
    assert (refused.status_code, refused.json()["code"]) == (403, "42501")
    anonymous = server.client("anon").post("/notes", json={"id": 3})
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "42501")
    assert anonymous.headers["WWW-Authenticate"] == "Bearer"
    assert client.post("/notes", json={"id": 3, "owner": SUB}).status_code == 201
    assert client.delete("/notes?id=eq.2").status_code == 204
    assert len(server.sql("select id from notes")) == 3


def test_request_without_a_token_is_anonymous(server: RestServer) -> None:
    told = server.client(None).get("/rpc/who").json()
    assert told["role"] == "anon"
    assert told["session"] == "authenticator"
    assert told["claims"] == {"role": "anon"}
    assert told["timeout"] == "3s"


def test_claims_headers_and_settings_reach_the_database(server: RestServer) -> None:
    client = server.client(app_metadata={"team": "ü"})
    told = client.get(
        "/rpc/who", headers={"X-Thing": "a", "traceparent": "00-1"}
    ).json()
    assert told["claims"] == {
        "role": "authenticated",
        "sub": SUB,
        "exp": FAR_FUTURE,
        "app_metadata": {"team": "ü"},
    }
    assert told["headers"]["x-thing"] == "a"
    assert told["headers"]["traceparent"] == "00-1"
    assert told["read_only"] == "on"
    assert told["timeout"] == "8s"


def test_nothing_is_left_for_the_next_request(server: RestServer) -> None:
    client = server.client("service_role")
    for _ in range(3):
        assert client.post("/rpc/leaves").status_code == 204
        told = server.client(None).get("/rpc/who").json()
        assert (told["role"], told["left_over"]) == ("anon", None)


@pytest.mark.parametrize(
    ("role", "status", "code"),
    [
        ("nobody", 401, "22023"),
        ("postgres", 403, "42501"),
        ("supabase_admin", 403, "42501"),
        ("supabase_auth_admin", 403, "42501"),
        ("pg_read_all_data", 403, "42501"),
        ("none", 401, "PGRST303"),
        ('anon"; set role postgres; --', 401, "22023"),
        ("", 200, None),
    ],
)
def test_role_of_the_token_must_be_one_that_may_be_taken(
    server: RestServer, role: str, status: int, code: str | None
) -> None:
    response = server.client(role).get("/rpc/who")
    assert response.status_code == status, response.text
    if code is None:
        assert response.json()["role"] == "anon"
    else:
        assert response.json()["code"] == code


@pytest.mark.parametrize("role", ["service_role", "postgres", "authenticator", "none"])
def test_function_cannot_become_another_role_for_good(
    server: RestServer, role: str
) -> None:
    client = server.client()
    client.post("/rpc/becomes", json={"role": role})
    assert client.get("/rpc/who").json()["role"] == "authenticated"
    assert server.client(None).get("/rpc/who").json()["role"] == "anon"


def test_column_privileges_hold(server: RestServer) -> None:
    client = server.client()
    assert client.get("/secrets?select=id,open").json() == [{"id": 1, "open": "o"}]
    for path in (
        "/secrets",
        "/secrets?select=hidden",
        "/secrets?select=id&hidden=eq.h",
    ):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (403, "42501")
    row = {"id": 2, "open": "a", "hidden": "b"}
    prefer = {"Prefer": "return=representation"}
    refused = client.post("/secrets", json=row, headers=prefer)
    assert refused.status_code == 403
    allowed = client.post("/secrets?select=open", json=row, headers=prefer)
    assert (allowed.status_code, allowed.json()) == (201, [{"open": "a"}])
    assert client.post("/secrets", json={"id": 3}).status_code == 201


def test_statement_of_one_role_does_not_serve_another(server: RestServer) -> None:
    for _ in range(4):
        assert server.client().get("/secrets?select=open").status_code == 200
        assert server.client(None).get("/secrets?select=open").status_code == 401


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.",
        mint(
            {"role": "service_role"}, "another-secret-that-is-not-the-right-one-at-all"
        ),
    ],
)
def test_forged_tokens_are_401(server: RestServer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    response = server.client(None).get("/notes", headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "PGRST301")
    assert response.headers["WWW-Authenticate"].startswith(
        'Bearer error="invalid_token"'
    )
    assert response.headers["Proxy-Status"] == "PostgREST; error=PGRST301"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1}, "JWT expired"),
        ({"nbf": FAR_FUTURE}, "JWT not yet valid"),
        ({"iat": FAR_FUTURE}, "JWT issued at future"),
        ({"exp": "soon"}, "The JWT 'exp' claim must be a number"),
        ({"role": 5}, "Parsing claims failed"),
    ],
)
def test_tokens_with_bad_claims_are_401(
    server: RestServer, claims: dict[str, Any], message: str
) -> None:
    response = server.client(**{"role": "authenticated", **claims}).get("/notes")
    assert (response.status_code, response.json()["code"]) == (401, "PGRST303")
    assert response.json()["message"] == message


def test_clocks_may_differ_by_half_a_minute(server: RestServer) -> None:
    now = int(time.time())
    for claims, status in (
        ({"exp": now - 15}, 200),
        ({"exp": now - 60}, 401),
        ({"nbf": now + 15, "iat": now + 15}, 200),
        ({"nbf": now + 60}, 401),
        ({"iat": now + 60}, 401),
    ):
        client = server.client(**{"role": "authenticated", **claims})
        assert client.get("/notes").status_code == status, claims


def test_schemas_that_are_not_exposed_cannot_be_reached(server: RestServer) -> None:
    client = server.client("service_role")
    for schema in ("private", "auth", "pg_catalog", 'public"; --'):
        response = client.get("/vault", headers={"Accept-Profile": schema})
        assert (response.status_code, response.json()["code"]) == (406, "PGRST106")
        response = client.post("/vault", json={}, headers={"Content-Profile": schema})
        assert (response.status_code, response.json()["code"]) == (406, "PGRST106")
    for name in ("vault", "private.vault", "pg_authid", "users", "secrets--"):
        response = client.get(f"/{name}")
        assert (response.status_code, response.json()["code"]) == (404, "PGRST205")


def test_profile_chooses_the_schema(serve: Serve) -> None:
    client = serve(
        "create schema api; grant usage on schema api to authenticated;"
        "create table api.t (id int primary key); grant all on api.t to authenticated;"
        "create function api.f() returns int immutable language sql as 'select 7';"
        "create table t (id int); insert into t values (1)",
        db_schemas="public,api",
    ).client()
    profile = {"Accept-Profile": "api", "Content-Profile": "api"}
    assert client.post("/t", json={"id": 5}, headers=profile).status_code == 201
    found = client.get("/t", headers=profile)
    assert (found.json(), found.headers["Content-Profile"]) == ([{"id": 5}], "api")
    plain = client.get("/t")
    assert (plain.json(), plain.headers["Content-Profile"]) == ([{"id": 1}], "public")
    assert client.get("/rpc/f", headers=profile).json() == 7
    assert client.get("/rpc/f").status_code == 404


def test_settings_of_a_role_hold_for_its_requests_only(serve: Serve) -> None:
    server = serve(
        "create function wait(s float) returns int stable language sql as"
        " $$ select 1 from pg_sleep(s) $$"
    )
    role = f'alter role anon in database "{server.database.dbname}"'
    server.sql(f"{role} set statement_timeout = '50ms'", user="supabase_admin")
    slow = server.client("anon").get("/rpc/wait?s=5")
    assert (slow.status_code, slow.json()["code"]) == (500, "57014")
    assert server.client().get("/rpc/wait?s=0.1").json() == 1


def test_more_requests_than_connections_wait_for_their_turn(serve: Serve) -> None:
    server = serve(
        "create function wait(s float) returns int stable language sql as"
        " $$ select 1 from pg_sleep(s) $$",
        db_pool=2,
    )
    client = server.client()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.get("/rpc/wait?s=0.02"), range(24)))
    assert [answer.json() for answer in answers] == [1] * 24


PRE_REQUEST = """
  create function check_request() returns void language plpgsql as $$
    begin
      if current_setting('request.headers')::json ->> 'x-block' = 'yes' then
        raise 'blocked' using errcode = 'PT429', hint = 'wait';
      end if;
      perform set_config('response.headers', '[{"X-Checked": "1"}]', true);
      perform set_config('test.by', current_user, true);
    end
  $$;
  create function by() returns text stable language sql as
    $$ select current_setting('test.by', true) $$;
"""


@pytest.mark.parametrize("name", ["public.check_request", '"public"."check_request"'])
def test_pre_request_runs_before_each_request(serve: Serve, name: str) -> None:
    client = serve(PRE_REQUEST, db_pre_request=name).client()
    response = client.get("/rpc/by")
    assert response.json() == "authenticated"
    assert response.headers["X-Checked"] == "1"
    blocked = client.post("/rpc/by", headers={"X-Block": "yes"})
    assert (blocked.status_code, blocked.json()["hint"]) == (429, "wait")


def test_pre_request_may_be_set_in_the_database(serve: Serve) -> None:
    server = serve(PRE_REQUEST)
    login = f'alter role authenticator in database "{server.database.dbname}"'
    setting = "set pgrst.db_pre_request = 'public.check_request'"
    server.sql(f"{login} {setting}", user="supabase_admin")
    assert server.client().get("/rpc/by").json() == "authenticated"
