"""The faults as values, and the short texts that name them.

=============================  ====================================================
``kill:SERVICE``               end the processes of a service at once (SIGKILL)
``pause:SERVICE``              stop them in place (SIGSTOP), later let them go on
``cut:LINK``                   close every connection of a link
``reset:LINK``                 the same with RST, as a crashed peer or a firewall does
``latency:LINK:100ms[~20ms]``  delay all bytes, with a jitter
``rate:LINK:64KiB/s``          let bytes through at this speed
``blackhole:LINK``             take bytes and deliver none
``refuse:LINK``                close new connections at once
``disk-full:DISK[:4KiB]``      leave no room (or that much) on a disk
=============================  ====================================================

``FAULT@5s`` says when it begins, ``FAULT@5s+2s`` also how long it lasts (else 1 s).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import UsageError

__all__ = [
    "Blackhole",
    "Cut",
    "DiskFull",
    "Fault",
    "Kill",
    "Latency",
    "Pause",
    "Rate",
    "Refuse",
    "TimedFault",
    "parse_fault",
    "parse_timed_fault",
]


@dataclass(frozen=True, slots=True)
class Kill:
    """End a service's processes without warning."""

    service: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop a service's processes in place until the fault is undone."""

    service: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connections of a link; new ones are let through."""

    link: str
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Deliver every byte later, by ``delay_s`` give or take ``jitter_s``."""

    link: str
    delay_s: float
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Let ``bytes_per_s`` through in each direction of each connection."""

    link: str
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Accept bytes and connections, deliver nothing."""

    link: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close new connections at once; existing ones go on."""

    link: str


@dataclass(frozen=True, slots=True)
class DiskFull:
    """Leave ``free_bytes`` of room on a disk."""

    disk: str
    free_bytes: int = 0


Fault = Kill | Pause | Cut | Latency | Rate | Blackhole | Refuse | DiskFull

LASTS_S = 1.0


@dataclass(frozen=True, slots=True)
class TimedFault:
    """A fault, the whole text it was read from, when it begins, how long it lasts."""

    fault: Fault
    text: str
    at_s: float
    lasts_s: float = LASTS_S

    @property
    def name(self) -> str:
        """The text without the times."""
        return self.text.rpartition("@")[0]


_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[A-Za-z/]*)")
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_SIZES = {"B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}


def parse_fault(text: str) -> Fault:
    """Read a fault from its short text; raises :class:`UsageError` with a hint."""
    kind, _, rest = text.partition(":")
    place, _, amount = rest.partition(":")
    if kind not in _KINDS:
        close = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"faults: {', '.join(_KINDS)}"
        )
        raise UsageError(f"no fault {kind!r}", hint=hint)
    if not place:
        raise UsageError(f"fault {text!r} does not say where", hint=f"{kind}:NAME")
    return _KINDS[kind](place, amount)


def parse_timed_fault(text: str) -> TimedFault:
    """Read ``FAULT@AT[+FOR]``; raises :class:`UsageError` with a hint."""
    name, sign, time = text.rpartition("@")
    if not sign:
        raise UsageError(f"fault {text!r} does not say when", hint=f"{text}@5s+2s")
    at, plus, lasts = time.partition("+")
    return TimedFault(
        parse_fault(name),
        text,
        _quantity(at, _TIMES),
        _quantity(lasts, _TIMES) if plus else LASTS_S,
    )


def _latency(link: str, amount: str) -> Fault:
    delay, _, jitter = amount.partition("~")
    jitter_s = _quantity(jitter, _TIMES) if jitter else 0.0
    return Latency(link, _quantity(delay, _TIMES), jitter_s)


def _rate(link: str, amount: str) -> Fault:
    return Rate(link, _quantity(amount.removesuffix("/s"), _SIZES))


def _disk_full(disk: str, amount: str) -> Fault:
    return DiskFull(disk, int(_quantity(amount, _SIZES)) if amount else 0)


def _bare(make: Callable[[str], Fault]) -> Callable[[str, str], Fault]:
    def build(place: str, amount: str) -> Fault:
        if amount:
            raise UsageError(f"this fault takes no amount: {amount!r}")
        return make(place)

    return build


_KINDS: Mapping[str, Callable[[str, str], Fault]] = {
    "kill": _bare(Kill),
    "pause": _bare(Pause),
    "cut": _bare(Cut),
    "reset": _bare(lambda link: Cut(link, reset=True)),
    "latency": _latency,
    "rate": _rate,
    "blackhole": _bare(Blackhole),
    "refuse": _bare(Refuse),
    "disk-full": _disk_full,
}


def _quantity(text: str, units: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match["unit"] not in units:
        example = f"a number with one of {', '.join(units)}"
        raise UsageError(f"{text!r} is not an amount", hint=example)
    return float(match["number"]) * units[match["unit"]]
