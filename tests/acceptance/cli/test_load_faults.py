"""``harness load --fault``: what goes wrong on purpose, and what it costs."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow
PASSED, FINDINGS = 0, 1


def test_a_reset_link_and_a_paused_database_lose_nothing_but_the_absence(
    harness,
) -> None:
    result = harness(
        *("load", "smoke", "--json", "--seed", "5"),
        *("--fault", "reset:clients@500ms"),
        *("--fault", "pause:postgres@1s+300ms"),
    )
    assert result.returncode == PASSED, result.stderr
    told = json.loads(result.stdout)
    assert [fault["fault"] for fault in told["injected"]] == [
        "reset:clients",
        "pause:postgres",
    ]
    assert told["injected"][1]["lasted_s"] >= 0.3
    (step,) = told["load"]
    assert step["reconnects"] == 20
    assert step["lost"] == step["duplicate"] == 0
    # 100 broadcasts to 20 subscribers: what did not come fell into the absence.
    assert step["delivered"] + step["away"] == 2000
    assert 0 < step["delivered"] == step["expected"]


def test_who_cannot_come_back_has_lost_what_was_sent(harness) -> None:
    result = harness(
        *("load", "smoke", "--json", "--seed", "5"),
        *("--fault", "refuse:clients@500ms+60s"),
        *("--fault", "reset:clients@600ms"),
    )
    assert result.returncode == FINDINGS, result.stderr
    told = json.loads(result.stdout)
    (step,) = told["load"]
    assert step["reconnects"] == 0
    assert step["lost"] > 0
    assert step["delivered"] + step["lost"] == 2000
    (finding,) = told["findings"]
    assert finding["check"] == "every_entitled_subscriber_gets_every_message"
    assert "--fault refuse:clients@500ms+60s" in finding["repeat"]
