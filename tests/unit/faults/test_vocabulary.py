"""The short texts of faults."""

import pytest

from harness.errors import UsageError
from harness.faults.vocabulary import (
    Blackhole,
    Cut,
    DiskFull,
    Fault,
    Kill,
    Latency,
    Pause,
    Rate,
    Refuse,
    TimedFault,
    parse_fault,
    parse_timed_fault,
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kill:postgres", Kill("postgres")),
        ("pause:server", Pause("server")),
        ("cut:gateway", Cut("gateway")),
        ("reset:gateway", Cut("gateway", reset=True)),
        ("latency:gateway:100ms", Latency("gateway", 0.1)),
        ("latency:gateway:1.5s~20ms", Latency("gateway", 1.5, 0.02)),
        ("rate:gateway:64KiB/s", Rate("gateway", 65536)),
        ("blackhole:postgres", Blackhole("postgres")),
        ("refuse:postgres", Refuse("postgres")),
        ("disk-full:objects", DiskFull("objects")),
        ("disk-full:objects:4KiB", DiskFull("objects", 4096)),
    ],
)
def test_text_names_a_fault(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("kil:postgres", "no fault 'kil'", "did you mean 'kill'?"),
        ("nonsense", "no fault 'nonsense'", "faults: kill, pause"),
        ("kill", "does not say where", "kill:NAME"),
        ("kill:postgres:2s", "takes no amount", None),
        ("latency:gateway", "'' is not an amount", "us, ms, s, min"),
        ("latency:gateway:10parsec", "not an amount", "us, ms, s, min"),
        ("rate:gateway:fast", "not an amount", "KiB"),
    ],
)
def test_bad_text_is_refused_with_a_hint(
    text: str, message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_fault(text)
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "at_s", "lasts_s"),
    [
        ("pause:server@5s+2s", 5.0, 2.0),
        ("pause:server@1.5s+500ms", 1.5, 0.5),
        ("pause:server@0s", 0.0, 1.0),
    ],
)
def test_a_time_says_when_a_fault_begins_and_how_long_it_lasts(
    text: str, at_s: float, lasts_s: float
) -> None:
    timed = parse_timed_fault(text)
    assert timed == TimedFault(Pause("server"), text, at_s, lasts_s)
    assert timed.name == "pause:server"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pause:server", "does not say when"),
        ("pause:server@", "'' is not an amount"),
        ("pause:server@5", "'5' is not an amount"),
        ("pause:server@5s+", "'' is not an amount"),
        ("stop:server@5s", "no fault 'stop'"),
    ],
)
def test_a_bad_time_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_timed_fault(text)
