"""Tokens and callers: what is believed, and for how long."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import ManualClock
from harness.errors import ConfigError
from harness.protocols.jwt import (
    LOCAL_JWT_SECRET,
    BadTokenError,
    KeySet,
    ProjectKeys,
    mint,
)
from harness.servers.api_keys import ApiKeys
from harness.servers.caller import CallerResolver, is_client_role

NOW = 1_700_000_000
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
CLAIMS = st.dictionaries(
    st.text().filter(lambda name: name not in ("exp", "nbf", "iat", "crit")),
    JSON_VALUES,
)


@given(CLAIMS)
def test_minted_claims_are_verified_unchanged_and_by_others_too(
    claims: dict[str, Any],
) -> None:
    token = mint(claims, LOCAL_JWT_SECRET)
    assert KeySet(LOCAL_JWT_SECRET).verify(token, now=NOW) == claims
    payload = pyjwt.api_jws.decode(token, LOCAL_JWT_SECRET, ["HS256"])
    assert json.loads(payload) == claims


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_tokens_of_others_are_believed(algorithm: str) -> None:
    secret = LOCAL_JWT_SECRET * 2
    token = pyjwt.encode({"role": "anon"}, secret, algorithm)
    assert KeySet(secret).verify(token, now=NOW) == {"role": "anon"}


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_token_with_a_changed_byte_is_not_believed(place: int, byte: int) -> None:
    token = mint({"role": "anon", "sub": "somebody"}, LOCAL_JWT_SECRET)
    place %= len(token)
    changed = token[:place] + chr(byte) + token[place + 1 :]
    keyset = KeySet(LOCAL_JWT_SECRET)
    if changed == token or _same_bytes(changed, token):
        return
    with pytest.raises(BadTokenError):
        keyset.verify(changed, now=NOW)


def _same_bytes(one: str, other: str) -> bool:
    """Tell whether only unused bits of the signature's last character differ."""
    head, _, signature = one.rpartition(".")
    same_head, _, same_signature = other.rpartition(".")
    try:
        return head == same_head and base64.urlsafe_b64decode(
            signature + "="
        ) == base64.urlsafe_b64decode(same_signature + "=")
    except ValueError:
        return False


@given(st.text())
def test_any_text_is_refused_as_a_token(text: str) -> None:
    with pytest.raises(BadTokenError):
        KeySet(LOCAL_JWT_SECRET).verify(text, now=NOW)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 5}, "expired"),
        ({"exp": NOW + 0.5}, None),
        ({"nbf": NOW + 1}, "claims"),
        ({"nbf": NOW}, None),
        ({"exp": "soon"}, "claims"),
        ({"exp": True}, "claims"),
        ({"iat": "then"}, "claims"),
        ({"exp": None}, None),
    ],
)
def test_times_of_a_token(claims: dict[str, Any], reason: str | None) -> None:
    token = mint(claims, LOCAL_JWT_SECRET)
    keyset = KeySet(LOCAL_JWT_SECRET)
    if reason is None:
        assert keyset.verify(token, now=NOW) == claims
        return
    with pytest.raises(BadTokenError) as refused:
        keyset.verify(token, now=NOW)
    assert refused.value.reason == reason
    if reason == "expired":
        assert refused.value.expired_for_s == NOW - claims["exp"]


def test_the_keys_of_the_local_stack_are_those_that_everybody_knows() -> None:
    keys = ProjectKeys()
    for token, role in (
        (keys.anon_key, "anon"),
        (keys.service_role_key, "service_role"),
    ):
        claims = keys.keyset().verify(token, now=NOW)
        assert claims == {"iss": "supabase-demo", "role": role, "exp": 1983812996}


def test_keys_survive_their_record_and_unknown_members_are_refused() -> None:
    record = {"jwt_secret": "s" * 32, "s3": {"access_key_id": "a"}}
    keys = ProjectKeys.from_record(json.loads(json.dumps(record)))
    assert keys.jwt_secret == "s" * 32
    assert keys.s3.access_key_id == "a"
    assert keys.s3.region == "local"
    with pytest.raises(ConfigError):
        ProjectKeys.from_record({"jwt-secret": "x"})


@pytest.mark.parametrize(
    ("authorization", "apikey", "sent"),
    [
        ("", "", ""),
        ("Bearer user", "sb_secret", "Bearer user"),
        ("bearer user", "", "bearer user"),
        ("user", "sb_secret", "user"),
        ("", "secret", "Bearer <service>"),
        ("", "publishable", "Bearer <anon>"),
        ("", "legacy.jwt.key", "Bearer legacy.jwt.key"),
        ("Bearer sb_old", "secret", "Bearer <service>"),
        ("Bearer sb_old", "legacy.jwt.key", "Bearer legacy.jwt.key"),
        ("Bearer sb_unknown", "", "Bearer sb_unknown"),
        ("AWS4-HMAC-SHA256 x", "secret", "AWS4-HMAC-SHA256 x"),
    ],
)
def test_key_rules_of_the_gateway(authorization: str, apikey: str, sent: str) -> None:
    keys = ProjectKeys()
    known = {"secret": keys.secret_key, "publishable": keys.publishable_key}
    told = ApiKeys(keys).authorization(authorization, known.get(apikey, apikey))
    names = {keys.anon_key: "<anon>", keys.service_role_key: "<service>"}
    scheme, _, token = told.rpartition(" ")
    assert f"{scheme} {names.get(token, token)}".strip() == sent


def resolver(clock: ManualClock, **options: int) -> CallerResolver:
    return CallerResolver(KeySet(LOCAL_JWT_SECRET), clock, **options)


def test_nobody_is_anon() -> None:
    caller = resolver(ManualClock()).resolve("")
    assert (caller.role, caller.sub, caller.token) == ("anon", "", "")
    assert json.loads(caller.claims_json) == {"role": "anon"}


@pytest.mark.parametrize(
    ("claims", "role", "sub"),
    [
        ({"role": "authenticated", "sub": "x"}, "authenticated", "x"),
        ({"sub": "x"}, "anon", "x"),
        ({"role": None}, "anon", ""),
        ({"role": ""}, "anon", ""),
        ({"role": "a role; drop table x"}, "a role; drop table x", ""),
        ({"sub": 7}, "anon", "7"),
        ({"name": "\u00e9\u0000\U0001f600"}, "anon", ""),
    ],
)
def test_a_caller_is_what_the_claims_say(
    claims: dict[str, Any], role: str, sub: str
) -> None:
    token = mint(claims, LOCAL_JWT_SECRET)
    caller = resolver(ManualClock()).resolve(token)
    assert (caller.role, caller.sub, caller.token) == (role, sub, token)
    assert json.loads(caller.claims_json) == caller.claims == claims


@pytest.mark.parametrize("role", [7, ["anon"], {"x": 1}, "a\0b", False])
def test_a_role_that_is_no_name_is_refused(role: Any) -> None:
    token = mint({"role": role}, LOCAL_JWT_SECRET)
    with pytest.raises(BadTokenError) as refused:
        resolver(ManualClock()).resolve(token)
    assert refused.value.reason == "claims"


@pytest.mark.parametrize("role", ["none", "authenticator", "supabase_storage_admin"])
def test_a_role_that_is_a_login_itself_is_refused(role: str) -> None:
    token = mint({"role": role}, LOCAL_JWT_SECRET)
    with pytest.raises(BadTokenError):
        resolver(ManualClock()).resolve(token)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("anon", True), ("authenticated", True), ("service_role", True), ("editor", True),
     ("postgres", False), ("supabase_admin", False), ("pg_read_all_data", False),
     ("none", False)],
)  # fmt: skip
def test_roles_that_a_superuser_would_become(role: str, allowed: bool) -> None:
    assert is_client_role(role) is allowed


def test_a_remembered_caller_expires_to_the_second() -> None:
    clock = ManualClock()
    callers = resolver(clock)
    token = mint({"exp": int(clock.now().timestamp()) + 60}, LOCAL_JWT_SECRET)
    first = callers.resolve(token)
    asyncio.run(clock.advance(59))
    assert callers.resolve(token) is first
    asyncio.run(clock.advance(1))
    with pytest.raises(BadTokenError) as refused:
        callers.resolve(token)
    assert refused.value.reason == "expired"


def test_memory_is_bounded_and_what_was_forgotten_is_verified_anew() -> None:
    callers = resolver(ManualClock(), cache_size=4)
    tokens = [mint({"sub": str(n)}, LOCAL_JWT_SECRET) for n in range(20)]
    first = [callers.resolve(token) for token in tokens]
    assert len(callers) <= 4
    assert [callers.resolve(token) for token in tokens] == first
