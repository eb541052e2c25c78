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
    parse_fault,
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
