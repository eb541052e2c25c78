"""Auth by the official Python client, ``supabase_auth``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from supabase_auth import AsyncGoTrueClient
from supabase_auth.errors import (
    AuthApiError,
    AuthSessionMissingError,
    AuthWeakPasswordError,
)

from harness.stack.project import Project

pytestmark = pytest.mark.conformance

PASSWORD = "correct horse battery"
# The client's typed dictionaries are unions that mypy cannot tell apart.
MakeClient = Callable[[str], Any]


@pytest.fixture
async def client_with(project: Project) -> AsyncIterator[MakeClient]:
    """Give a function that makes a client with a key."""
    async with httpx.AsyncClient(timeout=20) as http:

        def make(key: str) -> AsyncGoTrueClient:
            return AsyncGoTrueClient(
                url=f"{project.url}/auth/v1",
                headers={"apikey": key, "Authorization": f"Bearer {key}"},
                auto_refresh_token=False,
                http_client=http,
            )

        yield make


@pytest.fixture
def client(client_with: MakeClient, project: Project) -> Any:
    """Make a client with the publishable key."""
    return client_with(project.publishable_key)


async def test_a_session_lives_through_refresh_and_ends(client: Any) -> None:
    credentials = {"email": "ada@example.test", "password": PASSWORD}
    signed_up = await client.sign_up({**credentials, "options": {"data": {"a": 1}}})
    assert signed_up.user.user_metadata["a"] == 1
    assert signed_up.session.user.id == signed_up.user.id
    refreshed = await client.refresh_session()
    assert refreshed.session.refresh_token != signed_up.session.refresh_token
    assert (await client.get_user()).user.id == signed_up.user.id
    await client.sign_out()
    assert await client.get_session() is None
    with pytest.raises(AuthApiError) as gone:
        await client.refresh_session(refreshed.session.refresh_token)
    # A code of the service that the type of the client does not list.
    assert str(gone.value.code) == "refresh_token_not_found"
    again = await client.sign_in_with_password(credentials)
    assert again.user.id == signed_up.user.id


async def test_refusals_are_the_errors_of_the_client(client: Any) -> None:
    credentials = {"email": "ada@example.test", "password": PASSWORD}
    await client.sign_up(credentials)
    with pytest.raises(AuthApiError) as taken:
        await client.sign_up(credentials)
    assert (taken.value.status, taken.value.code) == (422, "user_already_exists")
    with pytest.raises(AuthApiError) as wrong:
        await client.sign_in_with_password({**credentials, "password": "wrong"})
    assert (wrong.value.status, wrong.value.code) == (400, "invalid_credentials")
    with pytest.raises(AuthWeakPasswordError) as weak:
        await client.sign_up({"email": "eve@example.test", "password": "tiny"})
    assert weak.value.reasons == ["length"]
    with pytest.raises(AuthApiError) as off:
        await client.sign_in_with_otp({"email": "ada@example.test"})
    assert (off.value.status, off.value.code) == (422, "otp_disabled")
    with pytest.raises(AuthApiError) as off:
        await client.reset_password_for_email("ada@example.test")
    assert off.value.code == "email_provider_disabled"


async def test_an_anonymous_user_becomes_permanent(client: Any) -> None:
    signed_in = await client.sign_in_anonymously()
    assert signed_in.user.is_anonymous
    updated = await client.update_user(
        {"email": "ada@example.test", "password": PASSWORD}
    )
    assert updated.user.id == signed_in.user.id
    assert not updated.user.is_anonymous
    assert (await client.get_user_identities()).identities[0].provider == "email"


async def test_claims_are_read_from_the_token(client: Any) -> None:
    await client.sign_up({"email": "ada@example.test", "password": PASSWORD})
    claims = (await client.get_claims())["claims"]
    assert (claims["role"], claims["email"]) == ("authenticated", "ada@example.test")


async def test_the_secret_key_administers(
    client: Any, client_with: MakeClient, project: Project
) -> None:
    admin = client_with(project.secret_key).admin
    for number in range(3):
        created = await admin.create_user(
            {
                "email": f"u{number}@example.test",
                "password": PASSWORD,
                "email_confirm": True,
                "app_metadata": {"number": number},
            }
        )
    assert created.user.app_metadata["number"] == 2
    page = await admin.list_users(page=2, per_page=2)
    assert [user.email for user in page] == ["u0@example.test"]
    await admin.update_user_by_id(created.user.id, {"user_metadata": {"x": 1}})
    found = await admin.get_user_by_id(created.user.id)
    assert found.user.user_metadata["x"] == 1
    signed_in = await client.sign_in_with_password(
        {"email": "u2@example.test", "password": PASSWORD}
    )
    await admin.sign_out(signed_in.session.access_token, "global")
    with pytest.raises((AuthApiError, AuthSessionMissingError)):
        await client.get_user(signed_in.session.access_token)
    await admin.delete_user(created.user.id)
    with pytest.raises(AuthApiError) as gone:
        await admin.get_user_by_id(created.user.id)
    assert gone.value.code == "user_not_found"
    with pytest.raises(AuthApiError) as off:
        await admin.generate_link({"type": "magiclink", "email": "u0@example.test"})
    assert off.value.code == "email_provider_disabled"
    with pytest.raises(AuthApiError) as refused:
        await client.admin.list_users()
    assert refused.value.code == "not_admin"
