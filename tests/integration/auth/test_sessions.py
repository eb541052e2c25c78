"""Signing in, refreshing and signing out: what a session lives through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Refused = Callable[[httpx.Response, int, str], None]
PASSWORD = "correct horse battery"


async def test_password_grant_returns_a_new_session(auth: Any) -> None:
    first = await auth.sign_up(email="ada@example.test")
    second = (await auth.sign_in("Ada@Example.test")).json()
    keyset = auth.project.keys.keyset()
    sessions = {
        keyset.verify(each["access_token"], now=time.time())["session_id"]
        for each in (first, second)
    }
    assert len(sessions) == 2
    assert second["user"]["id"] == first["user"]["id"]
    assert "weak_password" not in second
    rows = await auth.sql("select user_agent, host(ip) as ip from auth.sessions")
    assert {row["ip"] for row in rows} == {"127.0.0.1"}
    assert all(row["user_agent"].startswith("python-httpx") for row in rows)


@pytest.mark.parametrize(
    ("forwarded", "kept"),
    [
        ("203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", "127.0.0.1"),
        ("'; drop table auth.users; --", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
async def test_the_address_of_a_session_is_the_clients(
    auth: Any, forwarded: str, kept: str
) -> None:
    headers = {"X-Forwarded-For": forwarded, "User-Agent": "a\u00ff"}
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    await auth.call("POST", "/signup", {}, headers=raw)
    [row] = await auth.sql("select host(ip) as ip, user_agent from auth.sessions")
    assert row["ip"] == kept
    assert row["user_agent"].startswith("a")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "ada@example.test", "password": "wrong"}, 400,
         "invalid_credentials"),
        ({"email": "eve@example.test", "password": PASSWORD}, 400,
         "invalid_credentials"),
        ({"email": "ada@example.test"}, 400, "invalid_credentials"),
        ({"password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a\0b", "password": PASSWORD}, 400, "bad_json"),
        ({"email": "' or 1=1 --", "password": PASSWORD}, 400, "invalid_credentials"),
        ({"email": "ada@example.test", "password": "y" * 5000}, 400,
         "invalid_credentials"),
        ({"phone": "+1555", "password": PASSWORD}, 422, "phone_provider_disabled"),
    ],
)  # fmt: skip
async def test_bad_credentials_are_refused_alike(
    auth: Any, refused: Refused, body: Any, status: int, code: str
) -> None:
    await auth.sign_up(email="ada@example.test")
    response = await auth.call("POST", "/token?grant_type=password", body)
    refused(response, status, code)


@pytest.mark.parametrize(
    ("grant", "status", "code"),
    [
        ("", 400, "invalid_credentials"),
        ("client_credentials", 400, "invalid_credentials"),
        ("id_token", 400, "provider_disabled"),
        ("web3", 422, "web3_provider_disabled"),
        ("pkce", 404, "flow_state_not_found"),
    ],
)
async def test_other_grants_are_refused(
    auth: Any, refused: Refused, grant: str, status: int, code: str
) -> None:
    refused(await auth.call("POST", f"/token?grant_type={grant}", {}), status, code)


async def test_a_user_inserted_by_sql_signs_in_with_a_crypt_password(auth: Any) -> None:
    await auth.sql(
        "insert into auth.users (id, email, encrypted_password, email_confirmed_at) "
        "values (gen_random_uuid(), 'Seed@Example.test', "
        "extensions.crypt('p', extensions.gen_salt('bf', 6)), now())"
    )
    session = (await auth.sign_in("seed@example.test", "p")).json()
    assert session["user"]["role"] == session["user"]["aud"] == "authenticated"
    assert session["user"]["identities"] == []
    assert session["weak_password"]["reasons"] == ["length"]
    assert (await auth.refresh(session["refresh_token"])).status_code == 200


async def test_a_banned_user_is_refused_until_the_ban_is_lifted(
    auth: Any, refused: Refused
) -> None:
    session = await auth.sign_up(email="ada@example.test")
    path = f"/users/{session['user']['id']}"
    banned = (await auth.admin("PUT", path, {"ban_duration": "1h30m"})).json()
    assert banned["banned_until"]
    refused(await auth.sign_in("ada@example.test"), 400, "user_banned")
    refused(await auth.refresh(session["refresh_token"]), 400, "user_banned")
    await auth.admin("PUT", path, {"ban_duration": "none"})
    assert (await auth.sign_in("ada@example.test")).status_code == 200


async def test_refresh_rotates_and_keeps_the_session(auth: Any) -> None:
    session = await auth.sign_up()
    response = await auth.refresh(session["refresh_token"])
    refreshed = response.json()
    keyset = auth.project.keys.keyset()
    old, new = (
        keyset.verify(each["access_token"], now=time.time())
        for each in (session, refreshed)
    )
    assert refreshed["refresh_token"] != session["refresh_token"]
    assert new["session_id"] == old["session_id"]
    assert new["amr"] == old["amr"]
    tokens = await auth.sql(
        "select revoked, parent from auth.refresh_tokens order by id"
    )
    assert [tuple(row) for row in tokens] == [
        (True, None),
        (False, session["refresh_token"]),
    ]


async def test_a_client_that_lost_the_answer_gets_the_current_token_again(
    auth: Any,
) -> None:
    session = await auth.sign_up()
    lost = (await auth.refresh(session["refresh_token"])).json()
    again = (await auth.refresh(session["refresh_token"])).json()
    assert again["refresh_token"] == lost["refresh_token"]


async def test_clients_that_refresh_at_once_all_end_on_one_token(auth: Any) -> None:
    session = await auth.sign_up()
    responses = await asyncio.gather(
        *(auth.refresh(session["refresh_token"]) for _ in range(8))
    )
    assert {each.status_code for each in responses} == {200}
    assert len({each.json()["refresh_token"] for each in responses}) == 1


async def test_an_old_token_within_the_interval_still_works(auth: Any) -> None:
    session = await auth.sign_up()
    second = (await auth.refresh(session["refresh_token"])).json()
    await auth.refresh(second["refresh_token"])
    assert (await auth.refresh(session["refresh_token"])).status_code == 200


async def test_an_old_token_after_the_interval_ends_the_family(
    make_auth: Callable[..., Awaitable[Any]], refused: Refused
) -> None:
    auth = await make_auth({"refresh_token_reuse_interval": 0})
    session = await auth.sign_up()
    second = (await auth.refresh(session["refresh_token"])).json()
    third = (await auth.refresh(second["refresh_token"])).json()
    stolen = await auth.refresh(session["refresh_token"])
    refused(stolen, 400, "refresh_token_already_used")
    refused(
        await auth.refresh(third["refresh_token"]), 400, "refresh_token_already_used"
    )


async def test_an_ended_family_has_no_interval_left(
    auth: Any, refused: Refused
) -> None:
    session = await auth.sign_up()
    second = (await auth.refresh(session["refresh_token"])).json()
    third = (await auth.refresh(second["refresh_token"])).json()
    await auth.sql(
        "update auth.refresh_tokens set updated_at = updated_at - interval '1 minute' "
        "where parent is null"
    )
    for each in (session, third, second):
        refused(
            await auth.refresh(each["refresh_token"]), 400, "refresh_token_already_used"
        )


async def test_without_rotation_an_old_token_is_refused_and_the_family_lives(
    make_auth: Callable[..., Awaitable[Any]], refused: Refused
) -> None:
    auth = await make_auth(
        {"refresh_token_reuse_interval": 0, "enable_refresh_token_rotation": False}
    )
    session = await auth.sign_up()
    second = (await auth.refresh(session["refresh_token"])).json()
    third = (await auth.refresh(second["refresh_token"])).json()
    stolen = await auth.refresh(session["refresh_token"])
    refused(stolen, 400, "refresh_token_already_used")
    assert (await auth.refresh(third["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    ("token", "code"),
    [("", "validation_failed"), ("nosuchtoken", "refresh_token_not_found"),
     ("' or true --", "refresh_token_not_found"), ("a\0b", "bad_json")],
)  # fmt: skip
async def test_tokens_that_never_were_are_refused(
    auth: Any, refused: Refused, token: str, code: str
) -> None:
    refused(await auth.refresh(token), 400, code)


async def test_a_session_past_its_end_is_refused(auth: Any, refused: Refused) -> None:
    session = await auth.sign_up()
    await auth.sql("update auth.sessions set not_after = now() - interval '1 second'")
    refused(await auth.refresh(session["refresh_token"]), 400, "session_expired")


@pytest.mark.parametrize(
    ("scope", "alive"), [("global", 0), ("local", 2), ("others", 1), ("", 0)]
)
async def test_log_out_ends_the_sessions_of_its_scope(
    auth: Any, scope: str, alive: int
) -> None:
    mine = await auth.sign_up(email="ada@example.test")
    others = [(await auth.sign_in("ada@example.test")).json() for _ in range(2)]
    stranger = await auth.sign_up()
    path = f"/logout?scope={scope}" if scope else "/logout"
    response = await auth.call("POST", path, token=mine["access_token"])
    assert (response.status_code, response.content) == (204, b"")
    answers = [await auth.refresh(s["refresh_token"]) for s in (mine, *others)]
    assert sum(each.status_code == 200 for each in answers) == alive
    assert (answers[0].status_code == 200) == (scope == "others")
    assert (await auth.refresh(stranger["refresh_token"])).status_code == 200


async def test_a_signed_out_session_is_nobody(auth: Any, refused: Refused) -> None:
    session = await auth.sign_up()
    token = session["access_token"]
    await auth.call("POST", "/logout?scope=local", token=token)
    refused(await auth.call("GET", "/user", token=token), 403, "session_not_found")
    refused(await auth.call("POST", "/logout", token=token), 403, "session_not_found")
    refused(
        await auth.refresh(session["refresh_token"]), 400, "refresh_token_not_found"
    )


async def test_an_unknown_scope_is_refused(auth: Any, refused: Refused) -> None:
    session = await auth.sign_up()
    response = await auth.call(
        "POST", "/logout?scope=all", token=session["access_token"]
    )
    refused(response, 400, "validation_failed")


async def test_guessing_refresh_tokens_is_limited(
    make_auth: Callable[..., Awaitable[Any]], refused: Refused
) -> None:
    auth = await make_auth({"rate_limit": {"token_refresh": 3}})
    session = await auth.sign_up()
    for _ in range(3):
        refused(await auth.refresh("guess"), 400, "refresh_token_not_found")
    limited = await auth.refresh(session["refresh_token"])
    refused(limited, 429, "over_request_rate_limit")
    assert int(limited.headers["Retry-After"]) <= 101


async def test_guessing_passwords_is_limited_and_others_are_not(
    make_auth: Callable[..., Awaitable[Any]], refused: Refused
) -> None:
    auth = await make_auth(
        {"rate_limit": {"sign_in_sign_ups": 5}, "password_hash_cost": 4}
    )
    await auth.sign_up(email="ada@example.test")
    await auth.sign_up(email="eve@example.test")
    for _ in range(5):
        wrong = await auth.sign_in("ada@example.test", "guess")
        refused(wrong, 400, "invalid_credentials")
    limited = await auth.sign_in("ADA@example.test")
    refused(limited, 429, "over_request_rate_limit")
    assert 0 < int(limited.headers["retry-after"]) <= 61
    for _ in range(10):
        assert (await auth.sign_in("eve@example.test")).status_code == 200


async def test_guessing_many_at_once_gains_nothing(
    make_auth: Callable[..., Awaitable[Any]],
) -> None:
    auth = await make_auth(
        {"rate_limit": {"sign_in_sign_ups": 5}, "password_hash_cost": 4}
    )
    await auth.sign_up(email="ada@example.test")
    guesses = [f"guess {n}" for n in range(30)]
    answers = await asyncio.gather(
        *(auth.sign_in("ada@example.test", guess) for guess in guesses)
    )
    told = [answer.status_code for answer in answers]
    assert (told.count(400), told.count(429)) == (5, 25)
