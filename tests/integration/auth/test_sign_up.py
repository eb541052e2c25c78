"""Sign-up: what a new user is, in the answer, the token and the tables."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Refused = Callable[[httpx.Response, int, str], None]


async def test_sign_up_returns_a_session_of_a_confirmed_user(auth: Any) -> None:
    session = await auth.sign_up(email="Ada@Example.test", data={"name": "Ada"})
    user = session["user"]
    assert session["token_type"] == "bearer"
    assert session["expires_in"] == 3600
    assert abs(session["expires_at"] - time.time() - 3600) < 30
    assert user["email"] == "ada@example.test"
    assert user["role"] == user["aud"] == "authenticated"
    assert user["email_confirmed_at"].endswith("Z")
    assert user["confirmed_at"] == user["email_confirmed_at"]
    assert user["last_sign_in_at"]
    assert user["is_anonymous"] is False
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert user["user_metadata"] == {
        "name": "Ada",
        "email": "ada@example.test",
        "email_verified": True,
        "phone_verified": False,
        "sub": user["id"],
    }
    [identity] = user["identities"]
    assert identity["provider"] == "email"
    assert identity["id"] == identity["user_id"] == user["id"]
    assert identity["identity_data"]["email"] == identity["email"] == user["email"]
    assert uuid.UUID(identity["identity_id"]).version == 4


async def test_access_token_has_the_official_claims(auth: Any) -> None:
    session = await auth.sign_up(data={"team": "blue"})
    claims = auth.project.keys.keyset().verify(session["access_token"], now=time.time())
    user = session["user"]
    assert claims.pop("exp") - claims.pop("iat") == 3600
    [method] = claims.pop("amr")
    assert method["method"] == "password"
    assert abs(method["timestamp"] - time.time()) < 30
    assert str(uuid.UUID(claims.pop("session_id")))
    assert claims == {
        "iss": f"{auth.project.url}/auth/v1",
        "sub": user["id"],
        "aud": "authenticated",
        "email": user["email"],
        "phone": "",
        "app_metadata": user["app_metadata"],
        "user_metadata": user["user_metadata"],
        "role": "authenticated",
        "aal": "aal1",
        "is_anonymous": False,
    }


async def test_an_empty_body_makes_an_anonymous_user(auth: Any) -> None:
    response = await auth.call("POST", "/signup", {"data": {"colour": "green"}})
    session = response.json()
    user = session["user"]
    claims = auth.project.keys.keyset().verify(session["access_token"], now=time.time())
    assert user["is_anonymous"] is claims["is_anonymous"] is True
    assert user["email"] == user["phone"] == claims["email"] == ""
    assert user["user_metadata"] == {"colour": "green"}
    assert user["app_metadata"] == {}
    assert user["identities"] == []
    assert claims["amr"][0]["method"] == "anonymous"
    assert claims["role"] == "authenticated"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "a@b.test"}, 400, "validation_failed"),
        ({"email": "a@b.test", "password": ""}, 400, "validation_failed"),
        ({"email": "a@b.test", "password": "short"}, 422, "weak_password"),
        ({"email": "a@b.test", "password": "x" * 73}, 400, "validation_failed"),
        ({"email": "a@b.test", "password": "nul\0nul"}, 400, "bad_json"),
        ({"email": "no address", "password": "longenough"}, 400, "validation_failed"),
        ({"email": "a@b.test\nx", "password": "longenough"}, 400, "validation_failed"),
        ({"email": "ä@b.test", "password": "longenough"}, 400, "validation_failed"),
        ({"email": "a" * 250 + "@b.test", "password": "longenough"}, 400,
         "validation_failed"),
        ({"email": 7, "password": "longenough"}, 400, "bad_json"),
        ({"email": "a@b.test", "password": ["longenough"]}, 400, "bad_json"),
        ({"email": "a@b.test", "password": "longenough", "data": []}, 400, "bad_json"),
        ({"email": "a@b.test", "password": "longenough", "data": {"x": "\0"}}, 400,
         "bad_json"),
        ({"phone": "+15550000000", "password": "longenough"}, 422,
         "phone_provider_disabled"),
    ],
)  # fmt: skip
async def test_bad_sign_up_is_refused_and_leaves_nobody(
    auth: Any, refused: Refused, body: Any, status: int, code: str
) -> None:
    refused(await auth.call("POST", "/signup", body), status, code)
    assert await auth.sql("select id from auth.users") == []


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\xff", "null"])
async def test_a_body_that_is_no_object_is_bad_json(
    auth: Any, refused: Refused, content: str
) -> None:
    response = await auth.http.post(
        "/signup",
        content=content.encode("latin-1"),
        headers={"X-Supabase-Api-Version": "2024-01-01"},
    )
    refused(response, 400, "bad_json")


async def test_a_weak_password_names_its_reasons(auth: Any) -> None:
    response = await auth.call(
        "POST", "/signup", {"email": "a@b.test", "password": "tiny"}
    )
    assert response.json() == {
        "code": "weak_password",
        "message": "Password should be at least 6 characters.",
        "weak_password": {"reasons": ["length"]},
    }


async def test_the_same_address_in_any_case_is_refused(
    auth: Any, refused: Refused
) -> None:
    await auth.sign_up(email="ada@example.test")
    body = {"email": "ADA@example.test", "password": "another password"}
    refused(await auth.call("POST", "/signup", body), 422, "user_already_exists")


async def test_older_clients_get_the_older_error_body(auth: Any) -> None:
    response = await auth.http.post("/signup", json={"email": "a@b.test"})
    assert response.status_code == 400
    assert response.json() == {
        "code": 400,
        "error_code": "validation_failed",
        "msg": "Signup requires a valid password",
    }
    assert response.headers["x-sb-error-code"] == "validation_failed"


@pytest.mark.parametrize(
    ("settings", "body", "code"),
    [
        ({"enable_signup": False}, {"email": "a@b.test", "password": "longenough"},
         "signup_disabled"),
        ({"enable_anonymous_sign_ins": False}, {}, "anonymous_provider_disabled"),
        ({"email": {"enable_signup": False}},
         {"email": "a@b.test", "password": "longenough"}, "email_provider_disabled"),
        ({"minimum_password_length": 12},
         {"email": "a@b.test", "password": "eleven char"}, "weak_password"),
        ({"password_requirements": "lower_upper_letters_digits_symbols"},
         {"email": "a@b.test", "password": "NoSymbol1"}, "weak_password"),
    ],
)  # fmt: skip
async def test_settings_of_the_project_hold(
    make_auth: Callable[..., Awaitable[Any]],
    refused: Refused,
    settings: dict[str, Any],
    body: dict[str, str],
    code: str,
) -> None:
    auth = await make_auth(settings)
    refused(await auth.call("POST", "/signup", body), 422, code)


async def test_jwt_expiry_is_the_life_of_tokens(
    make_auth: Callable[..., Awaitable[Any]],
) -> None:
    auth = await make_auth({"jwt_expiry": 77})
    session = await auth.sign_up()
    claims = auth.project.keys.keyset().verify(session["access_token"], now=time.time())
    assert claims["exp"] - claims["iat"] == session["expires_in"] == 77


async def test_unconfirmed_users_have_no_session_where_confirmation_is_asked(
    make_auth: Callable[..., Awaitable[Any]], refused: Refused
) -> None:
    auth = await make_auth({"email": {"enable_confirmations": True}})
    body = {"email": "ada@example.test", "password": "correct horse battery"}
    first = (await auth.call("POST", "/signup", body)).json()
    again = (await auth.call("POST", "/signup", body)).json()
    assert "access_token" not in first
    assert "email_confirmed_at" not in first
    # The second answer does not tell that the address is taken, but by no identity.
    assert again["email"] == first["email"]
    assert again["id"] != first["id"]
    assert (first["identities"] != [], again["identities"]) == (True, [])
    refused(await auth.sign_in("ada@example.test"), 400, "email_not_confirmed")


async def test_a_failing_trigger_on_users_fails_the_sign_up(
    auth: Any, refused: Refused
) -> None:
    await auth.sql(
        "create function public.no_more() returns trigger language plpgsql as "
        "$$ begin raise exception 'full'; end $$"
    )
    await auth.sql(
        "create trigger full_house after insert on auth.users "
        "for each row execute function public.no_more()"
    )
    body = {"email": "a@b.test", "password": "longenough"}
    response = await auth.call("POST", "/signup", body)
    refused(response, 500, "unexpected_failure")
    assert response.json()["message"] == "Database error saving new user"


async def test_triggers_see_the_insert_then_the_confirmation(auth: Any) -> None:
    await auth.sql(
        "create table public.seen (event text, name text, confirmed boolean)"
    )
    await auth.sql(
        "create function public.note() returns trigger language plpgsql "
        "security definer set search_path = '' as $$ begin "
        "insert into public.seen values (tg_op, new.raw_user_meta_data ->> 'name', "
        "new.email_confirmed_at is not null); return new; end $$"
    )
    await auth.sql(
        "create trigger noted after insert or update of email_confirmed_at "
        "on auth.users for each row execute function public.note()"
    )
    await auth.sign_up(data={"name": "Ada"})
    rows = await auth.sql("select event, name, confirmed from public.seen")
    assert [tuple(row) for row in rows] == [
        ("INSERT", "Ada", False),
        ("UPDATE", "Ada", True),
    ]
