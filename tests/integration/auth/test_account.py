"""What users do with their own account, and which tokens are believed."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from harness.protocols.jwt import LOCAL_JWT_SECRET, ProjectKeys, mint

Refused = Callable[[httpx.Response, int, str], None]
PASSWORD = "correct horse battery"


def part(value: dict[str, Any]) -> str:
    text = json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_user_reads_themselves(auth: Any) -> None:
    session = await auth.sign_up()
    response = await auth.call("GET", "/user", token=session["access_token"])
    assert response.json() == session["user"]


async def test_metadata_is_merged_and_a_null_removes(auth: Any) -> None:
    session = await auth.sign_up(data={"a": 1, "b": {"c": 2}})
    token = session["access_token"]
    body = {"data": {"a": None, "b": {"d": 3}, "e": "é"}}
    user = (await auth.call("PUT", "/user", body, token=token)).json()
    kept = {k: v for k, v in user["user_metadata"].items() if k in "abe"}
    assert kept == {"b": {"d": 3}, "e": "é"}
    assert user["user_metadata"]["sub"] == user["id"]
    assert user["updated_at"] > session["user"]["updated_at"]
    refreshed = (await auth.refresh(session["refresh_token"])).json()
    assert refreshed["user"]["user_metadata"] == user["user_metadata"]


async def test_a_new_password_ends_the_other_sessions(
    auth: Any, refused: Refused
) -> None:
    session = await auth.sign_up(email="ada@example.test")
    other = (await auth.sign_in("ada@example.test")).json()
    body = {"password": "a new password"}
    token = session["access_token"]
    assert (await auth.call("PUT", "/user", body, token=token)).status_code == 200
    refused(await auth.refresh(other["refresh_token"]), 400, "refresh_token_not_found")
    assert (await auth.refresh(session["refresh_token"])).status_code == 200
    refused(await auth.sign_in("ada@example.test"), 400, "invalid_credentials")
    new = await auth.sign_in("ada@example.test", "a new password")
    assert new.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"password": PASSWORD}, 422, "same_password"),
        ({"password": "tiny"}, 422, "weak_password"),
        ({"password": "z" * 73}, 400, "validation_failed"),
        ({"email": "taken@example.test"}, 422, "email_exists"),
        ({"email": "nonsense"}, 400, "validation_failed"),
        ({"phone": "+1555"}, 422, "phone_provider_disabled"),
        ({"app_metadata": {"role": "admin"}}, 403, "not_admin"),
        ({"data": "text"}, 400, "bad_json"),
        ({"data": {"deep": ["\0"]}}, 400, "bad_json"),
    ],
)
async def test_bad_changes_are_refused_and_change_nothing(
    auth: Any, refused: Refused, body: Any, status: int, code: str
) -> None:
    await auth.sign_up(email="taken@example.test")
    session = await auth.sign_up(email="ada@example.test")
    token = session["access_token"]
    refused(await auth.call("PUT", "/user", body, token=token), status, code)
    assert (await auth.call("GET", "/user", token=token)).json() == session["user"]


async def test_text_that_looks_like_an_escape_is_kept(auth: Any) -> None:
    session = await auth.sign_up()
    body = {"data": {"path": "C:\\u0000"}}
    response = await auth.call("PUT", "/user", body, token=session["access_token"])
    assert response.json()["user_metadata"]["path"] == "C:\\u0000"


async def test_an_address_changes_at_once_and_signs_in(
    auth: Any, refused: Refused
) -> None:
    session = await auth.sign_up(email="old@example.test")
    body = {"email": "New@Example.test"}
    response = await auth.call("PUT", "/user", body, token=session["access_token"])
    user = response.json()
    assert user["email"] == user["user_metadata"]["email"] == "new@example.test"
    assert [i["email"] for i in user["identities"]] == ["new@example.test"]
    assert (await auth.sign_in("new@example.test")).status_code == 200
    refused(await auth.sign_in("old@example.test"), 400, "invalid_credentials")


async def test_an_anonymous_user_becomes_permanent(auth: Any, refused: Refused) -> None:
    session = (await auth.call("POST", "/signup", {})).json()
    token = session["access_token"]
    alone = await auth.call("PUT", "/user", {"password": PASSWORD}, token=token)
    refused(alone, 422, "validation_failed")
    body = {"email": "ada@example.test", "password": PASSWORD}
    user = (await auth.call("PUT", "/user", body, token=token)).json()
    assert user["id"] == session["user"]["id"]
    assert user["is_anonymous"] is False
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert [i["provider"] for i in user["identities"]] == ["email"]
    assert (await auth.sign_in("ada@example.test")).status_code == 200


def forge(kind: str, session: dict[str, Any]) -> str:
    """Return a token that must not be believed, made from a good session."""
    now = int(time.time())
    good = {
        "sub": session["user"]["id"],
        "role": "authenticated",
        "aud": "authenticated",
        "exp": now + 600,
    }
    head, body, signature = session["access_token"].split(".")
    forged = {
        "other secret": mint(good, "x" * 40),
        "expired": mint({**good, "exp": now - 1}, LOCAL_JWT_SECRET),
        "not yet": mint({**good, "nbf": now + 60}, LOCAL_JWT_SECRET),
        "none": f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(good)}.",
        "None": f"{part({'alg': 'None'})}.{part(good)}.{signature}",
        "no signature": f"{head}.{body}.",
        "changed claims": f"{head}.{part({**good, 'aud': 'x'})}.{signature}",
        "changed header": f"{part({'alg': 'HS512'})}.{body}.{signature}",
        "critical": mint(good, LOCAL_JWT_SECRET, header={"crit": ["b64"]}),
        "unknown kid": mint(good, LOCAL_JWT_SECRET, header={"alg": "ES256"}),
        "expiry text": mint({**good, "exp": "tomorrow"}, LOCAL_JWT_SECRET),
        "two parts": f"{head}.{body}",
        "four parts": f"{session['access_token']}.x",
        "not base64": f"{head}.{body}!.{signature}",
        "words": "let me in",
        "role number": mint({**good, "role": 7}, LOCAL_JWT_SECRET),
        "list": f"{head}.W10.{signature}",
        "subject": mint({**good, "sub": "not a uuid"}, LOCAL_JWT_SECRET),
        "no subject": mint({**good, "sub": None}, LOCAL_JWT_SECRET),
    }
    return forged[kind]


@pytest.mark.parametrize(
    "kind",
    ["other secret", "expired", "not yet", "none", "None", "no signature",
     "changed claims", "changed header", "critical", "unknown kid", "expiry text",
     "two parts", "four parts", "not base64", "words", "role number", "list",
     "subject", "no subject"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/user"), ("GET", "/admin/users"), ("POST", "/logout")]
)
async def test_forged_tokens_are_refused(
    auth: Any, refused: Refused, kind: str, method: str, path: str
) -> None:
    token = forge(kind, await auth.sign_up())
    code = "bad_jwt"
    if path == "/admin/users" and kind in ("subject", "no subject"):
        code = "not_admin"  # the signature is good, the role is no administrator's
    refused(await auth.call(method, path, token=token), 403, code)


async def test_a_user_who_is_gone_is_refused(auth: Any, refused: Refused) -> None:
    session = await auth.sign_up()
    await auth.sql("delete from auth.users")
    token = session["access_token"]
    refused(await auth.call("GET", "/user", token=token), 403, "user_not_found")


async def test_a_session_of_somebody_else_is_refused(
    auth: Any, refused: Refused
) -> None:
    ada, eve = await auth.sign_up(), await auth.sign_up()
    keyset = auth.project.keys.keyset()
    claims = keyset.verify(ada["access_token"], now=time.time())
    claims["session_id"] = keyset.verify(eve["access_token"], now=time.time())[
        "session_id"
    ]
    token = mint(claims, LOCAL_JWT_SECRET)
    refused(await auth.call("GET", "/user", token=token), 403, "session_not_found")


async def test_a_persona_of_the_harness_is_a_user(auth: Any) -> None:
    persona = await auth.project.create_user(user_metadata={"name": "Ada"})
    user = (await auth.call("GET", "/user", token=persona.token)).json()
    assert (user["id"], user["email"]) == (persona.id, persona.email)
    assert user["user_metadata"]["name"] == "Ada"


async def test_without_a_token_there_is_no_user(auth: Any, refused: Refused) -> None:
    response = await auth.http.get(
        "/user", headers={"X-Supabase-Api-Version": "2024-01-01"}
    )
    refused(response, 401, "no_authorization")
    # The anon key is a token too, of nobody in particular.
    refused(await auth.call("GET", "/user"), 403, "bad_jwt")


def es256_key() -> dict[str, Any]:
    key: dict[str, Any] = ECAlgorithm.to_jwk(
        ec.generate_private_key(ec.SECP256R1()), as_dict=True
    )
    return {**key, "kid": str(uuid.uuid4()), "alg": "ES256", "use": "sig"}


def rs256_key() -> dict[str, Any]:
    key: dict[str, Any] = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(65537, 2048), as_dict=True
    )
    key.pop("key_ops")
    return {**key, "kid": str(uuid.uuid4()), "alg": "RS256", "use": "sig"}


@pytest.mark.parametrize("make_key", [es256_key, rs256_key])
async def test_a_signing_key_signs_and_is_published_without_its_secret(
    make_auth: Callable[..., Awaitable[Any]],
    refused: Refused,
    make_key: Callable[[], dict[str, Any]],
) -> None:
    key = make_key()
    auth = await make_auth(keys=ProjectKeys(signing_keys=(key,)))
    session = await auth.sign_up()
    token = session["access_token"]
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert (header["alg"], header["kid"]) == (key["alg"], key["kid"])
    assert (await auth.call("GET", "/user", token=token)).json() == session["user"]
    [public] = (await auth.call("GET", "/.well-known/jwks.json")).json()["keys"]
    assert public["kid"] == key["kid"]
    assert public["key_ops"] == ["verify"]
    secret = {"d", "p", "q", "dp", "dq", "qi", "oth"}
    assert not secret & public.keys()
    # The keys of the roles are signed by it too.
    for role in (auth.project.anon_key, auth.project.service_role_key):
        head = json.loads(base64.urlsafe_b64decode(role.split(".")[0] + "=="))
        assert (head["alg"], head["kid"]) == (key["alg"], key["kid"])
    assert (await auth.admin("GET", "/users")).status_code == 200
    # Tokens of the shared secret stay good: older keys are signed by it.
    old = mint({"role": "service_role"}, LOCAL_JWT_SECRET)
    assert (await auth.call("GET", "/admin/users", token=old)).status_code == 200
    opaque = {"apikey": auth.project.secret_key}
    listed = await auth.call("GET", "/admin/users", headers=opaque)
    assert listed.status_code == 200
    # The public key is no HMAC secret.
    confused = mint({"sub": session["user"]["id"]}, json.dumps(public))
    refused(await auth.call("GET", "/user", token=confused), 403, "bad_jwt")
    other = mint({"sub": session["user"]["id"]}, {**make_key(), "kid": key["kid"]})
    refused(await auth.call("GET", "/user", token=other), 403, "bad_jwt")


async def test_without_signing_keys_the_jwks_is_empty(auth: Any) -> None:
    response = await auth.call("GET", "/.well-known/jwks.json")
    assert response.json() == {"keys": []}
