"""Small parts: sizes, quotas, settings, claims."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import ConfigError
from harness.protocols.jwt import ProjectKeys, mint
from harness.servers.realtime.payloads import commit_timestamp
from harness.servers.realtime.quotas import RateMeter
from harness.servers.realtime.settings import RealtimeSettings
from harness.servers.realtime.term_size import exceeds, term_size
from harness.servers.realtime.tokens import RefusedError, TokenVerifier


@pytest.mark.parametrize(
    ("value", "size"),
    [
        # The sizes that erlang:external_size/1 gives.
        ({}, 6),
        ([], 2),
        ("", 6),
        ("é", 8),
        (0, 3),
        (255, 3),
        (256, 6),
        (-1, 6),
        (2**31, 8),
        (2**64, 13),
        (1.5, 10),
        (None, 6),
        (True, 7),
        (False, 8),
        ([1, 2, 3], 7),
        ([256], 12),
        ({"a": "b"}, 18),
    ],
)
def test_term_sizes(value: Any, size: int) -> None:
    assert term_size(value) == size


def test_size_is_measured_only_where_it_may_matter() -> None:
    assert exceeds(10, "x" * 5, 7)
    assert not exceeds(11, "x" * 5, 7)
    assert not exceeds(49, "x" * 5, 7)


def test_commit_timestamps_have_milliseconds() -> None:
    assert commit_timestamp(1_795_267_636_293_999) == "2026-11-21T13:27:16.293Z"


def test_rate_is_judged_at_ticks_over_a_growing_window() -> None:
    meter = RateMeter(10)
    meter.add(49)
    meter.tick()
    assert not meter.exceeded
    meter.add(51)
    assert not meter.exceeded
    meter.tick()
    assert meter.exceeded
    for _ in range(11):
        meter.tick()
    assert meter.average == pytest.approx(51 / 60)
    assert not meter.exceeded
    assert meter.count == 100


@pytest.mark.parametrize(
    "values",
    [
        {"max_users": 1},
        {"max_joins_per_second": "1"},
        {"private_only": 1},
        {"max_joins_per_second": True},
        {"publication": None},
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RealtimeSettings.from_mapping(values)


def test_settings_lie_over_the_defaults() -> None:
    settings = RealtimeSettings.from_mapping({"idle_timeout_s": 5, "compat": True})
    assert settings.idle_timeout_s == 5
    assert settings.max_concurrent_users == 200
    assert settings.max_payload_bytes == 3_000_500


@pytest.mark.parametrize("exp", [float("inf"), float("nan"), 10**400, 1e300])
def test_expiry_that_tells_no_time_is_refused(exp: float) -> None:
    keys = ProjectKeys()
    verifier = TokenVerifier(keys.keyset(), lambda: 0.0, {})
    token = mint({"role": "anon", "exp": exp}, keys.jwt_secret)
    with pytest.raises(RefusedError):
        verifier.verify(token)
