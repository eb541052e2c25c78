"""Who manages, and what tokens carry."""

from __future__ import annotations

import json

import pytest

from harness.policies.personas import Persona, User, persona_of


def user(**details: object) -> User:
    return User(name="u", id="0" * 8, clan="c", **details)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", ["admin", "moderator", "is_admin", "staff", "editor"])
def test_role_that_manages_is_told_by_its_name(power: str) -> None:
    assert persona_of(user(power=power)).manages


@pytest.mark.parametrize(
    "power", ["premium_user", "pro", "student", "not is_active", ""]
)
def test_tier_or_plain_user_manages_nothing(power: str) -> None:
    assert not persona_of(user(power=power)).manages


def test_token_carries_the_claims_of_a_real_one() -> None:
    claims = persona_of(user(app_metadata={"org": "x"})).claims
    assert claims["role"] == claims["aud"] == "authenticated"
    assert claims["app_metadata"] == {"provider": "email", "org": "x"}
    assert claims["is_anonymous"] is False


def test_claims_are_json_for_the_database() -> None:
    persona = Persona(name="anon", role="anon", kind="anon", claims={"role": "anon"})
    assert json.loads(persona.claims_json) == {"role": "anon"}
    assert persona.sub == ""
