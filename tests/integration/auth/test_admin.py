"""What the service role may do with everybody's account."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Refused = Callable[[httpx.Response, int, str], None]
PASSWORD = "correct horse battery"


async def test_create_makes_a_confirmed_user_with_metadata(auth: Any) -> None:
    response = await auth.admin(
        "POST",
        "/users",
        {
            "email": "Ada@Example.test",
            "password": PASSWORD,
            "email_confirm": True,
            "app_metadata": {"role": "admin"},
            "user_metadata": {"name": "Ada"},
        },
    )
    user = response.json()
    assert response.status_code == 200
    assert user["email"] == "ada@example.test"
    assert user["email_confirmed_at"]
    assert user["app_metadata"] == {
        "provider": "email", "providers": ["email"], "role": "admin"
    }  # fmt: skip
    assert user["user_metadata"] == {"name": "Ada", "email_verified": True}
    assert [i["provider"] for i in user["identities"]] == ["email"]
    session = (await auth.sign_in("ada@example.test")).json()
    assert session["user"]["app_metadata"]["role"] == "admin"


async def test_create_without_confirmation_cannot_sign_in(
    auth: Any, refused: Refused
) -> None:
    body = {"email": "ada@example.test", "password": PASSWORD}
    user = (await auth.admin("POST", "/users", body)).json()
    assert "email_confirmed_at" not in user
    refused(await auth.sign_in("ada@example.test"), 400, "email_not_confirmed")
    await auth.admin("PUT", f"/users/{user['id']}", {"email_confirm": True})
    assert (await auth.sign_in("ada@example.test")).status_code == 200


async def test_create_takes_an_id_a_role_and_a_hash(auth: Any) -> None:
    chosen = str(uuid.uuid4())
    hashed = (
        await auth.sql("select extensions.crypt('p', extensions.gen_salt('bf', 6))")
    )[0][0]
    body = {"id": chosen, "email": "ada@example.test", "email_confirm": True,
            "password_hash": hashed, "role": "editor"}  # fmt: skip
    user = (await auth.admin("POST", "/users", body)).json()
    assert (user["id"], user["role"]) == (chosen, "editor")
    assert (await auth.sign_in("ada@example.test", "p")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation_failed"),
        ({"email": "nonsense"}, 400, "validation_failed"),
        ({"email": "taken@example.test"}, 422, "email_exists"),
        ({"email": "a@b.test", "id": "7"}, 400, "validation_failed"),
        ({"email": "a@b.test", "id": str(uuid.UUID(int=0))}, 400, "validation_failed"),
        ({"email": "a@b.test", "password": "x", "password_hash": "y"}, 400,
         "validation_failed"),
        ({"email": "a@b.test", "password_hash": "md5"}, 400, "validation_failed"),
        ({"email": "a@b.test", "password": "x" * 100}, 400, "validation_failed"),
        ({"email": "a@b.test", "ban_duration": "soon"}, 400, "validation_failed"),
        ({"email": "a@b.test", "email_confirm": "yes"}, 400, "bad_json"),
        ({"email": "a@b.test", "role": "a\0b"}, 400, "bad_json"),
    ],
)  # fmt: skip
async def test_bad_users_are_refused(
    auth: Any, refused: Refused, body: Any, status: int, code: str
) -> None:
    await auth.sign_up(email="taken@example.test")
    refused(await auth.admin("POST", "/users", body), status, code)
    assert len(await auth.sql("select id from auth.users")) == 1


async def test_ids_and_phones_are_unique(auth: Any, refused: Refused) -> None:
    body = {"phone": "+1555", "phone_confirm": True}
    user = (await auth.admin("POST", "/users", body)).json()
    assert (user["phone"], bool(user["phone_confirmed_at"])) == ("1555", True)
    refused(await auth.admin("POST", "/users", body), 422, "phone_exists")
    again = {"email": "a@b.test", "id": user["id"]}
    refused(await auth.admin("POST", "/users", again), 422, "user_already_exists")


async def test_update_changes_what_is_given(auth: Any) -> None:
    session = await auth.sign_up(email="ada@example.test", data={"a": 1})
    path = f"/users/{session['user']['id']}"
    body = {"email": "new@example.test", "app_metadata": {"plan": "paid"},
            "user_metadata": {"b": 2}, "password": "a new password"}  # fmt: skip
    user = (await auth.admin("PUT", path, body)).json()
    assert user["app_metadata"]["plan"] == "paid"
    assert user["app_metadata"]["provider"] == "email"
    assert (user["user_metadata"]["a"], user["user_metadata"]["b"]) == (1, 2)
    assert [i["email"] for i in user["identities"]] == ["new@example.test"]
    assert (await auth.admin("GET", path)).json() == user
    signed_in = await auth.sign_in("new@example.test", "a new password")
    assert signed_in.status_code == 200
    # Whoever knew the old password is out.
    assert (await auth.refresh(session["refresh_token"])).status_code == 400


async def test_update_to_a_taken_address_is_refused(
    auth: Any, refused: Refused
) -> None:
    await auth.sign_up(email="taken@example.test")
    session = await auth.sign_up(email="ada@example.test")
    path = f"/users/{session['user']['id']}"
    response = await auth.admin("PUT", path, {"email": "taken@example.test"})
    refused(response, 422, "email_exists")


async def test_delete_removes_the_user_and_what_hangs_on_them(
    auth: Any, refused: Refused
) -> None:
    await auth.sql(
        "create table public.profiles "
        "(id uuid primary key references auth.users on delete cascade)"
    )
    session = await auth.sign_up()
    user_id = session["user"]["id"]
    await auth.sql("insert into public.profiles values ($1)", uuid.UUID(user_id))
    response = await auth.admin("DELETE", f"/users/{user_id}")
    assert (response.status_code, response.json()) == (200, {})
    left = await auth.sql(
        "select 1 from auth.users union all select 1 from auth.identities union all "
        "select 1 from auth.sessions union all select 1 from auth.refresh_tokens "
        "union all select 1 from public.profiles"
    )
    assert left == []
    refused(await auth.admin("DELETE", f"/users/{user_id}"), 404, "user_not_found")


async def test_soft_delete_keeps_a_row_that_names_nobody(
    auth: Any, refused: Refused
) -> None:
    session = await auth.sign_up(email="ada@example.test", data={"name": "Ada"})
    path = f"/users/{session['user']['id']}"
    body = {"should_soft_delete": True}
    assert (await auth.admin("DELETE", path, body)).status_code == 200
    kept = (await auth.admin("GET", path)).json()
    assert kept["deleted_at"]
    assert "ada" not in str(kept).lower().replace("metadata", "")
    refused(await auth.sign_in("ada@example.test"), 400, "invalid_credentials")
    # The address is free again.
    await auth.sign_up(email="ada@example.test")


async def test_list_pages_through_everybody_once(auth: Any) -> None:
    await auth.sql(
        "insert into auth.users (id, email, created_at) "
        "select gen_random_uuid(), 'u' || n || '@example.test', "
        "now() - n * interval '1 second' from generate_series(1, 7) n"
    )
    emails: list[str] = []
    for page, link in (
        (1, ['page=2&per_page=3>; rel="next"', 'page=3&per_page=3>; rel="last"']),
        (2, ['page=3&per_page=3>; rel="next"', 'page=3&per_page=3>; rel="last"']),
        (3, ['page=3&per_page=3>; rel="last"']),
    ):
        response = await auth.admin("GET", f"/users?page={page}&per_page=3")
        assert response.headers["x-total-count"] == "7"
        parts = response.headers["link"].split(", ")
        assert [each.partition("?")[2] for each in parts] == link
        assert response.json()["aud"] == "authenticated"
        emails += [user["email"] for user in response.json()["users"]]
    assert emails == [f"u{n}@example.test" for n in range(1, 8)]


async def test_list_filters_by_address_and_beyond_the_end_is_empty(auth: Any) -> None:
    await auth.sign_up(email="ada@example.test", data={"full_name": "Ada L"})
    await auth.sign_up(email="eve@example.test")
    for wanted, count in (("ADA", 1), ("example", 2), ("%", 0), ("da l", 1)):
        response = await auth.admin("GET", f"/users?filter={wanted}")
        assert len(response.json()["users"]) == count
    assert (await auth.admin("GET", "/users?page=99")).json()["users"] == []


@pytest.mark.parametrize("query", ["page=0", "page=-1", "per_page=x", "per_page=1.5"])
async def test_bad_paging_is_refused(auth: Any, refused: Refused, query: str) -> None:
    refused(await auth.admin("GET", f"/users?{query}"), 400, "validation_failed")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_unknown_users_are_not_found(
    auth: Any, refused: Refused, method: str
) -> None:
    body: dict[str, str] | None = None if method == "GET" else {}
    somebody = await auth.admin(method, f"/users/{uuid.uuid4()}", body)
    refused(somebody, 404, "user_not_found")
    nonsense = await auth.admin(method, "/users/me", body)
    refused(nonsense, 404, "validation_failed")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/users"), ("POST", "/users"), ("GET", "/users/x"), ("PUT", "/users/x"),
     ("DELETE", "/users/x")],
)  # fmt: skip
async def test_only_the_service_role_is_an_administrator(
    auth: Any, refused: Refused, method: str, path: str
) -> None:
    session = await auth.sign_up()
    for token in (session["access_token"], auth.project.anon_key):
        response = await auth.call(method, f"/admin{path}", token=token)
        refused(response, 403, "not_admin")
    bare = await auth.http.request(
        method, f"/admin{path}", headers={"X-Supabase-Api-Version": "2024-01-01"}
    )
    refused(bare, 401, "no_authorization")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/recover", 422, "email_provider_disabled"),
        ("POST", "/otp", 422, "otp_disabled"),
        ("POST", "/magiclink", 422, "email_provider_disabled"),
        ("POST", "/resend", 422, "email_provider_disabled"),
        ("POST", "/invite", 422, "email_provider_disabled"),
        ("POST", "/admin/generate_link", 422, "email_provider_disabled"),
        ("GET", "/reauthenticate", 422, "email_provider_disabled"),
        ("GET", "/authorize?provider=github", 400, "provider_disabled"),
        ("POST", "/factors", 422, "mfa_totp_enroll_not_enabled"),
        ("GET", "/admin/users/x/factors", 404, "mfa_totp_enroll_not_enabled"),
        ("DELETE", "/admin/users/x/factors/y", 404, "mfa_totp_enroll_not_enabled"),
        ("POST", "/factors/x/verify", 422, "mfa_totp_enroll_not_enabled"),
        ("POST", "/sso", 404, "sso_provider_not_found"),
        ("GET", "/saml/metadata", 404, "saml_provider_disabled"),
        ("POST", "/verify", 403, "otp_expired"),
        ("DELETE", "/user/identities/x", 404, "manual_linking_disabled"),
    ],
)
async def test_what_is_off_says_so(
    auth: Any, refused: Refused, method: str, path: str, status: int, code: str
) -> None:
    refused(await auth.call(method, path), status, code)


async def test_public_endpoints_answer(auth: Any, refused: Refused) -> None:
    health = await auth.call("GET", "/health")
    assert health.json().keys() == {"version", "name", "description"}
    settings = (await auth.call("GET", "/settings")).json()
    assert settings["mailer_autoconfirm"] is True
    assert settings["disable_signup"] is False
    assert {k for k, on in settings["external"].items() if on} == {
        "anonymous_users",
        "email",
    }
    refused(await auth.call("GET", "/nowhere"), 404, "validation_failed")
    refused(await auth.call("GET", "/signup"), 405, "validation_failed")
    refused(await auth.call("PATCH", "/user"), 405, "validation_failed")
