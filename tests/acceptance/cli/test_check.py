"""``harness check``: the climber's two versions, by folder and by database."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

# Faults of the first version: where the faulty object is defined, what is told of it.
KNOWN_FAULTS = {
    "D-CL-01": ("storage.objects", "no upload to bucket user-avatars can ever succeed"),
    "D-CL-02": ("subscriptions.sql:4", "subscribe_to_user_channel(uuid) fails: column"),
    "D-CL-03": ("functions.sql:14", "calls public.upload_user_avatar for alice"),
    "D-CL-04": ("functions.sql:31", "calls public.delete_user_avatar for alice"),
    "D-CL-05": ("functions.sql:14", "in front of the real one"),
    "D-CL-06": ("functions.sql:41", "may not read"),
    "D-CL-08": ("functions.sql:14", "stores user-avatars/avatars/"),
    "D-CL-19": ("storage.objects", "another user's folder of bucket training-videos"),
    "D-CL-20": ("storage.objects", "and move the file there"),
    "D-CL-26": (
        "channels.sql:12",
        "public.realtime_channels has no row level security",
    ),
    "D-CL-32": (
        "prerequisites.sql:38",
        "public.wearable_data is in publication supabase_realtime without row level",
    ),
}


def findings_of(result) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(result.stdout)["findings"]
    return found


def test_reference_passes_with_nothing_undecided(harness) -> None:
    result = harness("check", "sql/climber", "--seed", "1", "--json")
    summary = json.loads(result.stdout)
    assert (result.returncode, summary["verdict"]) == (0, "pass"), result.stderr
    assert summary["findings"] == []


def test_first_version_shows_every_known_fault(harness) -> None:
    result = harness("check", "sql/climber/draft", "--seed", "1", "--json")
    assert result.returncode == 1
    found = findings_of(result)
    missing = [
        fault
        for fault, (where, words) in KNOWN_FAULTS.items()
        if not any(where in f["where"] and words in f["message"] for f in found)
    ]
    assert missing == []


def test_database_gives_the_findings_of_its_migrations(harness) -> None:
    told = json.loads(
        harness("up", "--detach", "--json", "--project", "sql/climber/draft").stdout
    )
    try:
        by_url = harness("check", told["DB_URL"], "--seed", "1", "--json")
    finally:
        harness("down")
    by_folder = harness("check", "sql/climber/draft", "--seed", "1", "--json")
    wanted = {(f["check"], f["message"]) for f in findings_of(by_folder)}
    assert {(f["check"], f["message"]) for f in findings_of(by_url)} == wanted
