"""Forged, expired and overreaching tokens are refused by every service."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import websockets

from harness.protocols.jwt import LOCAL_JWT_SECRET, mint
from harness.stack.project import Project

LogReader = Callable[[], list[dict[str, Any]]]
DEADLINE_S = 15.0
# What authenticator was not granted: owners, superusers, logins, and nobody at all.
OUT_OF_REACH = (
    "postgres",
    "supabase_admin",
    "supabase_auth_admin",
    "supabase_storage_admin",
    "supabase_realtime_admin",
    "supabase_read_only_user",
    "authenticator",
    "pg_read_all_data",
    "no_such_role",
    "none",
    'anon"; reset role; --',
    "x" * 200,
)
SOON_S = 3600


def token(**claims: Any) -> str:
    return mint({"exp": int(time.time()) + SOON_S, **claims}, LOCAL_JWT_SECRET)


def unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = (
        base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts
    )
    return b".".join(encoded).decode() + "."


def bad_tokens() -> dict[str, str]:
    service = {"role": "service_role", "exp": int(time.time()) + SOON_S}
    good = mint(service, LOCAL_JWT_SECRET)
    return {
        "unsigned": unsigned(service),
        "other secret": mint(service, "another secret of at least 32 characters"),
        "expired": mint({**service, "exp": int(time.time()) - 60}, LOCAL_JWT_SECRET),
        "cut": good[:-2],
        "not a token": "service_role",
    }


@pytest.fixture
async def guarded(project: Project) -> Project:
    """Give a project whose rows only the service role sees, and a way to ask who."""
    connection = await project.connect()
    await connection.execute(
        """
        create table public.guarded (id int primary key);
        alter table public.guarded enable row level security;
        insert into public.guarded values (1);
        create function public.whoami() returns text language sql
            as $$ select current_user::text $$;
        insert into storage.buckets (id, name) values ('guarded', 'guarded');
        create policy members on realtime.messages for select to authenticated
            using (true);
        """
    )
    await connection.close()
    return project


@pytest.mark.parametrize("role", OUT_OF_REACH)
async def test_rest_never_takes_a_role_out_of_reach(
    guarded: Project, http: httpx.AsyncClient, role: str
) -> None:
    bearer = {"Authorization": f"Bearer {token(role=role)}"}
    for method, path in (
        ("GET", "/rest/v1/guarded"),
        ("POST", "/rest/v1/rpc/whoami"),
        ("DELETE", "/rest/v1/guarded?id=eq.1"),
    ):
        response = await http.request(method, guarded.url + path, headers=bearer)
        assert response.status_code in (400, 401, 403), response.text
        assert response.json()["code"] in ("42501", "22023", "PGRST301", "PGRST303")


@pytest.mark.parametrize("role", OUT_OF_REACH)
async def test_storage_never_takes_a_role_out_of_reach(
    guarded: Project, http: httpx.AsyncClient, role: str
) -> None:
    bearer = {"Authorization": f"Bearer {token(role=role)}"}
    listed = await http.get(f"{guarded.url}/storage/v1/bucket", headers=bearer)
    assert listed.status_code >= 400, listed.text
    put = await http.post(
        f"{guarded.url}/storage/v1/object/guarded/x", headers=bearer, content=b"x"
    )
    assert put.status_code >= 400, put.text
    connection = await guarded.connect()
    assert await connection.fetchval("select count(*) from storage.objects") == 0
    await connection.close()


@pytest.mark.parametrize("role", OUT_OF_REACH)
async def test_realtime_never_takes_a_role_out_of_reach(
    guarded: Project, role: str
) -> None:
    reply = await join_privately(guarded, guarded.anon_key, token(role=role))
    assert reply["payload"]["status"] == "error", reply


@pytest.mark.parametrize("kind", sorted(bad_tokens()))
async def test_tokens_that_are_not_good_open_nothing(
    guarded: Project, http: httpx.AsyncClient, kind: str
) -> None:
    bad = bad_tokens()[kind]
    for sent in ({"Authorization": f"Bearer {bad}"}, {"apikey": bad}):
        for path, refusals in (
            ("/rest/v1/guarded", (401,)),
            ("/storage/v1/bucket", (400, 401, 403)),
            ("/auth/v1/user", (401, 403)),
            ("/auth/v1/admin/users", (401, 403)),
        ):
            response = await http.get(guarded.url + path, headers=sent)
            assert response.status_code in refusals, (path, response.text)
            assert "guarded" not in response.text
    reply = await join_privately(guarded, guarded.anon_key, bad)
    assert reply["payload"]["status"] == "error", reply
    base = guarded.url.replace("http", "ws", 1)
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        await websockets.connect(
            f"{base}/realtime/v1/websocket?vsn=1.0.0&apikey={bad.encode().hex()}"
        )
    assert refused.value.response.status_code == 401


async def test_joins_leave_a_line_also_when_they_are_denied(
    guarded: Project, new_log_lines: LogReader
) -> None:
    user = str(uuid.uuid4())
    member = token(role="authenticated", sub=user)
    assert (await join_privately(guarded, guarded.anon_key, member))["payload"][
        "status"
    ] == "ok"
    await join_privately(guarded, guarded.anon_key, token(role="anon"))
    joins = [line for line in new_log_lines() if line.get("operation") == "join"]
    shown = [(e["topic"], e["role"], e["sub"], e["code"]) for e in joins]
    assert shown == [
        ("realtime:room", "authenticated", user, None),
        ("realtime:room", "anon", None, "Unauthorized"),
    ]
    assert {line["project"] for line in joins} == {guarded.ref}


async def join_privately(project: Project, apikey: str, user_token: str) -> Any:
    """Join a private topic as the bearer of a token; return the reply."""
    base = project.url.replace("http", "ws", 1)
    url = f"{base}/realtime/v1/websocket?vsn=1.0.0&apikey={apikey}"
    config = {"private": True, "broadcast": {}, "presence": {}}
    join = {
        "topic": "realtime:room",
        "event": "phx_join",
        "payload": {"config": config, "access_token": user_token},
        "ref": "1",
        "join_ref": "1",
    }
    async with websockets.connect(url) as socket, asyncio.timeout(DEADLINE_S):
        await socket.send(json.dumps(join))
        async for text in socket:
            message = json.loads(text)
            if message["event"] == "phx_reply":
                return message
    raise AssertionError("the socket closed before it replied")
