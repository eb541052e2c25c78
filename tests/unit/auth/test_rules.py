"""Passwords, limits, settings and parameters of Auth, apart from the network."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import ManualClock
from harness.errors import ConfigError
from harness.servers.auth.parameters import (
    Parameters,
    ban_duration,
    email_address,
)
from harness.servers.auth.passwords import PasswordHasher, is_hash, weakness
from harness.servers.auth.rate_limit import FailureLimit
from harness.servers.auth.refusals import Refusal, render
from harness.servers.auth.settings import AuthSettings
from harness.servers.auth.users import merged, timestamp


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_hashes_of_every_bcrypt_maker_match(prefix: str) -> None:
    async def check() -> tuple[bool, bool]:
        hasher = PasswordHasher(4)
        hashed = prefix + (await hasher.hash("pässword"))[4:]
        assert is_hash(hashed)
        answers = (
            await hasher.matches("pässword", hashed),
            await hasher.matches("password", hashed),
        )
        hasher.close()
        return answers

    assert asyncio.run(check()) == (True, False)


@pytest.mark.parametrize("hashed", [None, "", "plain", "$1$md5", "$2a$10$short"])
def test_without_a_usable_hash_nothing_matches(hashed: str | None) -> None:
    async def check() -> bool:
        hasher = PasswordHasher(4)
        matches = await hasher.matches(hashed or "", hashed)
        # Not even the password behind the decoy.
        matches = matches or await hasher.matches("decoy", hashed)
        hasher.close()
        return matches

    assert asyncio.run(check()) is False


def test_a_longer_password_matches_a_hash_that_was_cut() -> None:
    async def check() -> bool:
        hasher = PasswordHasher(4)
        hashed = await hasher.hash("x" * 72)
        matches = await hasher.matches("x" * 80, hashed)
        hasher.close()
        return matches

    assert asyncio.run(check()) is True


@pytest.mark.parametrize(
    ("requirements", "password", "reasons"),
    [
        ("", "abcdef", []),
        ("", "abcde", ["length"]),
        ("letters_digits", "abcdef", ["characters"]),
        ("letters_digits", "abcde1", []),
        ("lower_upper_letters_digits", "abcde1", ["characters"]),
        ("lower_upper_letters_digits", "aBcde1", []),
        ("lower_upper_letters_digits_symbols", "aBcde1", ["characters"]),
        ("lower_upper_letters_digits_symbols", "aBcde1!", []),
        ("letters_digits", "a1", ["length"]),
        ("letters_digits", "a", ["length", "characters"]),
    ],
)
def test_weakness_names_its_reasons(
    requirements: str, password: str, reasons: list[str]
) -> None:
    settings = AuthSettings(password_requirements=requirements)
    assert weakness(password, settings)[1] == reasons


def test_failures_are_limited_by_key_and_refill() -> None:
    clock = ManualClock()
    limit = FailureLimit(clock, per_5_minutes=3)
    for _ in range(3):
        assert limit.wait_s("ada") == 0
        limit.fail("ada")
    assert limit.wait_s("ada") == pytest.approx(100)
    assert limit.wait_s("eve") == 0
    asyncio.run(clock.advance(99))
    assert limit.wait_s("ada") == pytest.approx(1)
    asyncio.run(clock.advance(1))
    assert limit.wait_s("ada") == 0
    limit.fail("ada")
    assert limit.wait_s("ada") == pytest.approx(100)


def test_the_memory_of_failures_is_bounded_and_keeps_the_worst() -> None:
    clock = ManualClock()
    limit = FailureLimit(clock, per_5_minutes=2, buckets=100)
    for _ in range(2):
        limit.fail("guesser")
    for number in range(1000):
        limit.fail(f"once-{number}")
    assert len(limit) <= 100
    assert limit.wait_s("guesser") > 0


@pytest.mark.parametrize(
    "auth",
    [
        {"jwt_expiry": "3600"},
        {"jwt_expiry": 0},
        {"jwt_expiry": True},
        {"enable_signup": "yes"},
        {"jwt_issuer": 7},
        {"minimum_password_length": 73},
        {"password_requirements": "strong"},
        {"email": []},
        {"rate_limit": {"sign_in_sign_ups": 0}},
    ],
)
def test_wrong_settings_are_configuration_errors(auth: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AuthSettings.from_mapping(auth)


def test_settings_that_concern_others_are_passed_by() -> None:
    auth = {"site_url": "http://x", "external": {"github": {}}, "hook": {}}
    assert AuthSettings.from_mapping(auth) == AuthSettings()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Ada@Example.Test", "ada@example.test"),
        ("a.b+c_d'e@sub.example.test", "a.b+c_d'e@sub.example.test"),
        ("a@localhost", "a@localhost"),
    ],
)
def test_good_addresses_are_kept_in_lower_case(given: str, kept: str) -> None:
    assert email_address(given) == kept


@pytest.mark.parametrize(
    "given",
    ["", "a", "@b", "a@", "a@b@c", "a b@c.test", "a@-b.test", "a@b..test", "a@b.test ",
     "a@b.test\n", "a@" + "b" * 64 + ".test", "\uff41@b.test", "a\0@b.test"],
)  # fmt: skip
def test_bad_addresses_are_refused(given: str) -> None:
    with pytest.raises(Refusal) as refused:
        email_address(given)
    assert refused.value.code == "validation_failed"


@pytest.mark.parametrize(
    ("given", "duration"),
    [
        ("none", None),
        ("24h", timedelta(hours=24)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5s", timedelta(seconds=1.5)),
        ("300ms", timedelta(milliseconds=300)),
        ("876600h", timedelta(hours=876000)),  # a hundred years is for ever
        ("9" * 400 + "h", timedelta(hours=876000)),
    ],
)
def test_ban_durations(given: str, duration: timedelta | None) -> None:
    assert ban_duration(given) == duration


@pytest.mark.parametrize("given", ["", "1", "h", "1d", "-1h", "1h ", "\uff11h"])
def test_bad_ban_durations_are_refused(given: str) -> None:
    with pytest.raises(Refusal):
        ban_duration(given)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"a": "\0"}, False),
        ({"\0": 1}, False),
        ({"a": ["\\\0"]}, False),
        ({"a": "\\u0000"}, True),
        ({"a": "\\\\u0000"}, True),
        ({}, True),
    ],
)
def test_objects_with_a_nul_do_not_fit_the_database(value: Any, fits: bool) -> None:
    asked = Parameters({"data": value})
    if fits:
        assert asked.table("data") == value
        return
    with pytest.raises(Refusal) as refused:
        asked.table("data")
    assert refused.value.code == "bad_json"


@given(st.dictionaries(st.text(), st.none() | st.integers()))
def test_merging_metadata_sets_and_removes(new: dict[str, int | None]) -> None:
    old = {"kept": 1, "": 2}
    both = merged(old, new)
    assert None not in both.values()
    for name in old.keys() | new.keys():
        wanted = new.get(name, old.get(name)) if name in new else old[name]
        assert both.get(name) == wanted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 120000, UTC), "2026-01-02T03:04:05.12Z"),
        (datetime(2026, 1, 2, 3, 4, 50, tzinfo=UTC), "2026-01-02T03:04:50Z"),
        (
            datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-01T23:00:00Z",
        ),
    ],
)
def test_times_are_told_as_the_service_does(
    value: datetime | None, text: str | None
) -> None:
    assert timestamp(value) == text


@pytest.mark.parametrize(
    ("version", "body"),
    [
        ("", b'{"code":422,"error_code":"weak_password","msg":"weak","why":1}'),
        (
            "2023",
            b'{"code":422,"error_code":"weak_password","msg":"weak","why":1}',
        ),
        ("2024-01-01", b'{"code":"weak_password","message":"weak","why":1}'),
        ("2025-06-01", b'{"code":"weak_password","message":"weak","why":1}'),
    ],
)
def test_a_refusal_has_the_body_of_the_version(version: str, body: bytes) -> None:
    refusal = Refusal(422, "weak_password", "weak", extra={"why": 1})
    response = render(refusal, version)
    assert (response.status, response.body) == (422, body)
    assert response.headers["x-sb-error-code"] == "weak_password"
