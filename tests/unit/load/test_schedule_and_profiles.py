"""Schedules and profiles: data that is checked, named, shared out."""

import random
from dataclasses import replace

import orjson
import pytest

from harness.errors import UsageError
from harness.load.profiles import PROFILES, LoadProfile, find_profile, shard
from harness.load.schedule import Step, arrivals, ramp


def test_constant_arrivals_are_evenly_spaced() -> None:
    times = list(arrivals(Step(4, 1.0), "constant", random.Random(1)))
    assert times == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_repeat_with_the_seed() -> None:
    step = Step(500, 10)
    times = list(arrivals(step, "poisson", random.Random(7)))
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 10
    assert len(times) == pytest.approx(5000, abs=5 * 5000**0.5)
    assert times == list(arrivals(step, "poisson", random.Random(7)))


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (1, 0), (-1, 1)])
def test_a_step_without_rate_or_duration_is_refused(rate: int, duration: int) -> None:
    with pytest.raises(UsageError, match="above zero"):
        Step(rate, duration)


def test_ramp_grows_by_a_constant_factor_to_the_last_rate() -> None:
    rates = [step.rate_per_s for step in ramp(10, 160, steps=5, step_s=1)]
    assert rates == pytest.approx([10, 20, 40, 80, 160])


@pytest.mark.parametrize("name", list(PROFILES))
def test_named_profiles_survive_json_and_say_what_they_are(name: str) -> None:
    profile = find_profile(name)
    record = orjson.loads(orjson.dumps(profile.to_record()))
    assert LoadProfile.from_record(record) == profile
    assert profile.title


def test_an_unknown_profile_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        find_profile("climber-20")
    assert caught.value.hint == "did you mean 'climber-200'?"


@pytest.mark.parametrize("name", ["climber-200", "rooms", "changes-200"])
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shards_add_up_to_the_whole_load(name: str, workers: int) -> None:
    profile = replace(find_profile(name), subscribers=210, topics=1)
    parts = [shard(profile, index, workers) for index in range(workers)]
    assert sum(part.subscribers for part in parts) == 210
    whole = profile.deliveries_per_s(profile.steps[0])
    shared = sum(part.deliveries_per_s(part.steps[0]) for part in parts)
    assert shared == pytest.approx(whole)


def test_more_workers_than_clients_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot share"):
        shard(find_profile("smoke"), 0, 21)


@pytest.mark.parametrize(
    "change", [{"subscribers": 0}, {"topics": 30}, {"steps": ()}, {"payload_bytes": 10}]
)
def test_impossible_profiles_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="profile smoke"):
        replace(find_profile("smoke"), **change)  # type: ignore[arg-type]  # bad data


def test_quotas_cover_the_load() -> None:
    settings = find_profile("fanout-1000").realtime_settings()
    assert settings["max_concurrent_users"] > 1000
    assert settings["max_events_per_second"] > 200 * 1000
