"""Hooks: what functions of the database may change and refuse."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.servers.auth.hooks import Hooks

MakeAuth = Callable[..., Awaitable[Any]]
Refused = Callable[..., None]


@pytest.fixture
def hooked(make_auth: MakeAuth) -> Callable[..., Awaitable[Any]]:
    """Give a function that makes a project one hook of which has this body."""

    async def make(name: str, body: str, *, granted: bool = True) -> Any:
        uri = "pg-functions://postgres/public/my_hook"
        auth = await make_auth({"password_hash_cost": 4, "hook": {name: uri}})
        await auth.sql(
            "create function public.my_hook(event jsonb) returns jsonb "
            f"language plpgsql as $$ begin {body} end $$"
        )
        await auth.sql("revoke execute on function public.my_hook from public")
        if granted:
            await auth.sql(
                "grant execute on function public.my_hook to supabase_auth_admin"
            )
        return auth

    return make


async def test_claims_are_those_that_the_hook_returns(hooked: Any) -> None:
    auth = await hooked(
        "custom_access_token",
        """return jsonb_set(event, '{claims,seen}', jsonb_build_object(
             'user', event -> 'user_id', 'by', event -> 'authentication_method'));""",
    )
    session = await auth.sign_up()
    refreshed = (await auth.refresh(session["refresh_token"])).json()
    keyset = auth.project.keys.keyset()
    seen = [
        keyset.verify(each["access_token"], now=time.time())["seen"]
        for each in (session, refreshed)
    ]
    user_id = session["user"]["id"]
    assert seen == [
        {"user": user_id, "by": "password"},
        {"user": user_id, "by": "token_refresh"},
    ]
    user = await auth.call("GET", "/user", token=refreshed["access_token"])
    assert user.json()["id"] == user_id


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("return jsonb_build_object('error', jsonb_build_object("
         "'http_code', 403, 'message', 'not you'));", 403, "unknown"),
        ("return '{}';", 500, "unexpected_failure"),
        ("return event #- '{claims,role}';", 500, "unexpected_failure"),
        ("return '[]';", 500, "unexpected_failure"),
        ("raise 'broken';", 500, "unexpected_failure"),
        ("perform pg_sleep(10); return event;", 500, "unexpected_failure"),
    ],
)  # fmt: skip
async def test_without_sound_claims_nobody_signs_in(
    hooked: Any, refused: Refused, body: str, status: int, code: str
) -> None:
    auth = await hooked("custom_access_token", body)
    refused(await auth.call("POST", "/signup", {}), status, code)
    assert await auth.sql("select id from auth.users") == []


async def test_a_hook_needs_the_right_to_be_called(
    hooked: Any, refused: Refused
) -> None:
    auth = await hooked("custom_access_token", "return event;", granted=False)
    refused(await auth.call("POST", "/signup", {}), 500, "unexpected_failure")


async def test_a_hook_may_refuse_users_before_they_are(
    hooked: Any, refused: Refused
) -> None:
    auth = await hooked(
        "before_user_created",
        """if event #>> '{user,email}' like '%@example.test' then return '{}'; end if;
           return '{"error": {"http_code": 400, "message": "not from there"}}';""",
    )
    await auth.sign_up()
    body = {"email": "eve@else.test", "password": "long enough"}
    refused(await auth.call("POST", "/signup", body), 400, "unknown")
    refused(await auth.call("POST", "/signup", {}), 400, "unknown")
    assert len(await auth.sql("select id from auth.users")) == 1


async def test_a_hook_may_refuse_tries_and_end_sessions(
    hooked: Any, refused: Refused
) -> None:
    auth = await hooked(
        "password_verification_attempt",
        """if (event ->> 'valid')::boolean then return '{"decision": "continue"}';
           end if;
           return '{"decision": "reject", "message": "no", "should_logout_user": true}'
           ;""",
    )
    session = await auth.sign_up()
    email = session["user"]["email"]
    assert (await auth.sign_in(email)).status_code == 200
    wrong = await auth.sign_in(email, "wrong")
    refused(wrong, 400, "invalid_credentials")
    assert wrong.json()["message"] == "no"
    assert await auth.sql("select id from auth.sessions") == []


@pytest.mark.parametrize(
    "hook",
    [
        {"custom_access_token": "https://example.test/hook"},
        {"send_email": "pg-functions://postgres/public/f"},
        {"custom_access_token": 5},
    ],
)
def test_hooks_that_cannot_be_called_are_a_mistake(hook: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        Hooks.of(hook)
