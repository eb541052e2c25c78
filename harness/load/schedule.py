"""When messages are meant to be sent: an open model.

Arrivals are laid down before the run and do not wait for answers, as real users do
not; latency counts from the intended time, so that a stall of the server shows in
every message that was due meanwhile, and not in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from harness.errors import UsageError

__all__ = ["Arrival", "Step", "arrivals", "ramp"]

Arrival = Literal["constant", "poisson"]


@dataclass(frozen=True, slots=True)
class Step:
    """``rate_per_s`` messages sent a second, for ``duration_s``."""

    rate_per_s: float
    duration_s: float

    def __post_init__(self) -> None:
        """Refuse what is no rate or no duration."""
        if self.rate_per_s <= 0 or self.duration_s <= 0:
            raise UsageError("a load step needs a rate and a duration above zero")


def arrivals(step: Step, arrival: Arrival, random: Random) -> Iterator[float]:
    """Yield the intended times of a step in seconds from its start.

    ``constant`` spaces them evenly, ``poisson`` draws the gaps, as independent users
    would make them.
    """
    if arrival == "constant":
        count = round(step.rate_per_s * step.duration_s)
        yield from (i / step.rate_per_s for i in range(count))
        return
    at_s = random.expovariate(step.rate_per_s)
    while at_s < step.duration_s:
        yield at_s
        at_s += random.expovariate(step.rate_per_s)


def ramp(
    first_per_s: float, last_per_s: float, *, steps: int, step_s: float
) -> tuple[Step, ...]:
    """Return ``steps`` steps whose rates grow by a constant factor."""
    if steps == 1:
        return (Step(last_per_s, step_s),)
    factor = (last_per_s / first_per_s) ** (1 / (steps - 1))
    return tuple(Step(first_per_s * factor**i, step_s) for i in range(steps))
