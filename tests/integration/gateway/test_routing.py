"""Which project and service a request reaches, as whom, and what is added to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import websockets

from harness.servers.project import ProjectSettings
from harness.stack.base import Stack
from harness.stack.project import Project

LogReader = Callable[[], list[dict[str, Any]]]


@pytest.fixture
async def default_project(stack: Stack) -> AsyncIterator[Project]:
    project = await stack.serve_default()
    yield project
    await project.drop()


async def issuer(http: httpx.AsyncClient, prefix: str, **headers: str) -> str:
    """Sign up anonymously and return who issued the token."""
    import jwt

    response = await http.post(f"{prefix}/auth/v1/signup", json={}, headers=headers)
    claims = jwt.decode(
        response.json()["access_token"], options={"verify_signature": False}
    )
    return str(claims["iss"])


async def test_a_project_is_chosen_by_prefix_host_or_default(
    http: httpx.AsyncClient, project: Project, default_project: Project
) -> None:
    mine, default = f"{project.url}/auth/v1", f"{default_project.url}/auth/v1"
    assert mine != default
    assert await issuer(http, f"/p/{project.ref}") == mine
    assert await issuer(http, "", Host=f"{project.ref}.localhost:54321") == mine
    assert await issuer(http, "", Host=f"{project.ref.upper()}.localhost") == mine
    assert await issuer(http, "") == default
    assert await issuer(http, "/p/default") == default
    # The prefix is more explicit than the host.
    assert await issuer(http, "/p/default", Host=f"{project.ref}.localhost") == default


async def test_projects_share_nothing(http: httpx.AsyncClient, stack: Stack) -> None:
    one, two = await stack.create_project(), await stack.create_project()
    try:
        body = {"email": "ada@example.test", "password": "correct horse"}
        for project in (one, two):
            response = await http.post(f"{project.url}/auth/v1/signup", json=body)
            assert response.status_code == 200
        token = response.json()["access_token"]
        # The keys are the same here, so the token is good, but its user is elsewhere.
        stranger = await http.get(
            f"{one.url}/auth/v1/user", headers={"Authorization": f"Bearer {token}"}
        )
        assert stranger.status_code == 403
    finally:
        await one.drop()
        await two.drop()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/p/nosuch/rest/v1/", 404),
        ("/p/", 404),
        ("/p/{ref}/nothing", 404),
        ("/p/{ref}/rest/v2/x", 404),
        ("/p/{ref}/graphql/v1", 501),
        ("/p/{ref}/functions/v1/hello", 501),
        ("/p/{ref}/pg/tables", 501),
        ("/p/{ref}/mcp", 501),
        ("/p/{ref}/analytics/v1/x", 501),
        ("/p/{ref}/rest-admin/v1/ready", 200),
        ("/p/{ref}/auth/v1/health", 200),
        ("/p/{ref}/auth/v1", 404),
        ("/p/{ref}/../../etc/passwd", 404),
        ("/p/{ref}/%2e%2e/auth/v1/health", 404),
    ],
)
async def test_paths_have_their_answer(
    http: httpx.AsyncClient, project: Project, path: str, status: int
) -> None:
    # httpx would tidy the path; the gateway must not rely on it.
    target = path.format(ref=project.ref).encode()
    url = httpx.URL(http.base_url).copy_with(raw_path=target)
    response = await http.get(url)
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == "*"
    if status >= 400:
        assert set(response.json()) & {"message", "msg"}


async def test_the_root_lists_what_is_there(
    http: httpx.AsyncClient, project: Project
) -> None:
    everything = (await http.get("/")).json()
    mine = (await http.get(f"/p/{project.ref}/")).json()
    [entry] = mine["projects"]
    assert entry in everything["projects"]
    assert entry["url"] == project.url
    assert entry["services"].keys() == {"auth", "rest", "storage", "realtime"}
    health = await http.get(entry["services"]["auth"] + "/health")
    assert health.status_code == 200
    assert "/graphql/v1" in mine["off"]


@pytest.mark.parametrize(
    ("headers", "role"),
    [
        ({}, "anon"),
        ({"apikey": "{publishable}"}, "anon"),
        ({"apikey": "{secret}"}, "service_role"),
        ({"apikey": "{anon}"}, "anon"),
        ({"apikey": "{service}"}, "service_role"),
        ({"apikey": "{anon}", "Authorization": "Bearer {service}"}, "service_role"),
        ({"apikey": "{service}", "Authorization": "Bearer {anon}"}, "anon"),
        ({"apikey": "{secret}", "Authorization": "Bearer {publishable}"},
         "service_role"),
        ({"apikey": "{secret}", "Authorization": "Bearer {user}"}, "authenticated"),
        ({"Authorization": "Bearer {secret}"}, "service_role"),
        ({"apikey": "{publishable}", "Authorization": "bearer {user}"},
         "authenticated"),
    ],
)  # fmt: skip
async def test_keys_become_the_role_they_stand_for(
    http: httpx.AsyncClient,
    project: Project,
    headers: dict[str, str],
    role: str,
) -> None:
    await run_sql(
        project,
        "create function public.whoami() returns text language sql "
        "as $$ select current_user::text $$",
    )
    known = {
        "publishable": project.publishable_key,
        "secret": project.secret_key,
        "anon": project.anon_key,
        "service": project.service_role_key,
        "user": (await project.create_user()).token,
    }
    sent = {name: value.format(**known) for name, value in headers.items()}
    response = await http.post(f"{project.url}/rest/v1/rpc/whoami", headers=sent)
    assert (response.status_code, response.json()) == (200, role)


@pytest.mark.parametrize("key", ["sb_secret_guess", "sb_publishable_guess", "words"])
async def test_an_unknown_key_is_no_role(
    http: httpx.AsyncClient, project: Project, key: str
) -> None:
    response = await http.get(f"{project.url}/rest/v1/x", headers={"apikey": key})
    assert response.status_code == 401


async def test_services_see_who_called_and_how(
    http: httpx.AsyncClient, project: Project
) -> None:
    await run_sql(
        project,
        "create function public.seen() returns json language sql "
        "as $$ select current_setting('request.headers')::json $$",
    )
    headers = {
        "apikey": project.secret_key,
        "Host": f"{project.ref}.localhost:8000",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Request-Id": "req-1",
    }
    seen = (await http.post("/rest/v1/rpc/seen", headers=headers)).json()
    assert seen["authorization"] == f"Bearer {project.service_role_key}"
    assert seen["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == f"{project.ref}.localhost"
    assert seen["x-forwarded-port"] == "8000"
    assert seen["x-forwarded-path"] == "/rest/v1/rpc/seen"
    assert seen["x-forwarded-prefix"] == "/rest/v1/"
    assert seen["x-real-ip"] == "127.0.0.1"
    assert seen["x-request-id"] == "req-1"


async def test_a_preflight_is_answered_for_every_service(
    http: httpx.AsyncClient, project: Project
) -> None:
    asked = {
        "Origin": "https://app.example.test",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,x-client-info",
    }
    for service in ("auth", "rest", "storage", "realtime", "functions"):
        response = await http.options(f"{project.url}/{service}/v1/x", headers=asked)
        assert response.status_code == 200
        headers = response.headers
        assert headers["access-control-allow-origin"] == "*"
        assert "PATCH" in headers["access-control-allow-methods"].split(",")
        assert headers["access-control-allow-headers"] == "authorization,x-client-info"
        assert int(headers["access-control-max-age"]) > 0


async def test_options_that_are_no_preflight_reach_the_service(
    http: httpx.AsyncClient, project: Project
) -> None:
    response = await http.options(f"{project.url}/storage/v1/upload/resumable")
    assert response.headers["tus-version"] == "1.0.0"


async def test_every_answer_may_be_read_by_a_page_and_has_an_id(
    http: httpx.AsyncClient, project: Project
) -> None:
    ids = set()
    for path in ("/auth/v1/user", "/rest/v1/none", "/storage/v1/bucket", "/nothing"):
        headers = (await http.get(project.url + path)).headers
        assert headers["access-control-allow-origin"] == "*"
        exposed = headers["access-control-expose-headers"].lower()
        assert "content-range" in exposed
        ids.add(headers["x-request-id"])
    assert len(ids) == 4
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-1.2:3", True), ("a" * 128, True), ("a" * 129, False), ("a b", False),
     ("<script>", False), ("", False)],
)  # fmt: skip
async def test_a_sane_request_id_is_kept(
    http: httpx.AsyncClient, project: Project, given: str, kept: bool
) -> None:
    response = await http.get(project.url, headers={"X-Request-Id": given})
    assert (response.headers["x-request-id"] == given) is kept


async def test_each_request_leaves_one_line_also_when_it_is_denied(
    http: httpx.AsyncClient, project: Project, new_log_lines: LogReader
) -> None:
    await run_sql(project, "create table public.secrets (id int)")
    await run_sql(project, "revoke all on public.secrets from anon, authenticated")
    user = await project.create_user()
    before = new_log_lines()
    bearer = {
        "apikey": project.anon_key,
        "Authorization": f"Bearer {user.token}",
        "X-Request-Id": "denied-1",
    }
    await http.get(f"{project.url}/rest/v1/secrets?id=eq.7", headers=bearer)
    await http.get(f"{project.url}/storage/v1/object/none/x", headers=bearer)
    await http.post(f"{project.url}/auth/v1/token?grant_type=password", json={})
    await http.get(f"{project.url}/graphql/v1")
    lines = new_log_lines()[len(before) :]
    assert [(e["service"], e["status"], e["code"]) for e in lines] == [
        ("rest", 403, "42501"),
        ("storage", 400, "NoSuchBucket"),
        ("auth", 400, "validation_failed"),
        ("gateway", 501, "SERVICE_OFF"),
    ]
    denied = lines[0]
    assert denied["request_id"] == "denied-1"
    assert denied["project"] == project.ref
    assert denied["path"] == f"/p/{project.ref}/rest/v1/secrets"
    assert (denied["role"], denied["sub"]) == ("authenticated", user.id)
    assert (denied["method"], denied["remote"]) == ("GET", "127.0.0.1")
    assert denied["took_ms"] > 0
    text = str(lines)
    assert user.token not in text
    assert project.anon_key not in text
    assert "id=eq" not in text


async def test_a_large_body_and_a_long_query_pass(
    http: httpx.AsyncClient, project: Project
) -> None:
    await run_sql(project, "create table public.texts (id int, t text)")
    rows = [{"id": n, "t": "x" * 10_000} for n in range(300)]  # 3 MB
    response = await http.post(f"{project.url}/rest/v1/texts", json=rows)
    assert response.status_code == 201
    wanted = ",".join(str(n) for n in range(100000, 108000))  # 56 kB
    response = await http.get(f"{project.url}/rest/v1/texts?id=in.({wanted})")
    assert (response.status_code, response.json()) == (200, [])


async def run_sql(project: Project, statement: str) -> None:
    connection = await project.connect("postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_service_that_is_switched_off_is_told(
    http: httpx.AsyncClient, stack: Stack
) -> None:
    project = await stack.create_project(
        settings=ProjectSettings(off=("auth", "realtime"))
    )
    try:
        refused = await http.post(f"{project.url}/auth/v1/signup", json={})
        assert (refused.status_code, refused.json()["code"]) == (503, "SERVICE_OFF")
        socket = f"{project.url}/realtime/v1/websocket?vsn=1.0.0".replace("http", "ws")
        with pytest.raises(websockets.InvalidStatus, match="503"):
            await websockets.connect(socket, proxy=None)
        assert (await http.get(f"{project.url}/rest/v1/")).status_code == 200
        (listed,) = (await http.get(f"{project.url}/")).json()["projects"]
        assert list(listed["services"]) == ["rest", "storage"]
    finally:
        await project.drop()
