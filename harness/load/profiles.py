"""Load profiles as data: what is sent, at which rate, to how many subscribers.

A profile says nothing of sockets or processes.  The named ones are the figures that
people ask for; :func:`find_profile` finds them, ``dataclasses.replace`` varies them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from harness.errors import UsageError
from harness.load.schedule import Arrival, Step, ramp

__all__ = ["PROFILES", "LoadKind", "LoadProfile", "find_profile", "shard"]

LoadKind = Literal["broadcast", "changes", "database_broadcast"]
SPARE_JOINS = 1000
SPARE_EVENTS = 10
PAYLOAD_MIN_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProfile:
    """A workload, in steps of constant or Poisson arrivals.

    ``kind`` is ``broadcast`` (a client pushes, every member of the topic gets it),
    ``changes`` (rows are inserted, the owner policy lets each subscriber see its own)
    or ``database_broadcast`` (``realtime.send`` in SQL, every member gets it).
    ``topics`` share the subscribers evenly (broadcast kinds); ``rows_per_write`` rows
    go into one transaction (changes).  ``leavers`` subscribers lose their right halfway
    through each step, while their rows go on (changes).  ``drain_s`` is how long the
    last message may take before it counts as lost, ``clients_per_s`` how fast clients
    are let in.
    """

    name: str
    title: str
    kind: LoadKind
    subscribers: int
    steps: tuple[Step, ...]
    arrival: Arrival = "constant"
    topics: int = 1
    payload_bytes: int = 128
    rows_per_write: int = 1
    leavers: int = 0
    private: bool = False
    warmup_s: float = 0.5
    drain_s: float = 5.0
    clients_per_s: float = 2000.0

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be run."""
        if self.subscribers < 1 or self.topics < 1 or not self.steps:
            raise UsageError(f"profile {self.name}: no subscribers, topics or steps")
        if self.topics > self.subscribers:
            raise UsageError(f"profile {self.name}: more topics than subscribers")
        if self.payload_bytes < PAYLOAD_MIN_BYTES:
            raise UsageError(f"profile {self.name}: payload under {PAYLOAD_MIN_BYTES}")
        if self.leavers and self.kind != "changes":
            raise UsageError(f"profile {self.name}: only readers of changes can leave")
        if self.leavers > self.subscribers:
            raise UsageError(f"profile {self.name}: more leavers than subscribers")

    def to_record(self) -> dict[str, Any]:
        """Return the profile as plain data for another process."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LoadProfile:
        """Read what :meth:`to_record` gave."""
        steps = tuple(Step(**step) for step in record["steps"])
        return cls(**{**record, "steps": steps})

    @property
    def duration_s(self) -> float:
        """How long all steps take, without connecting and draining."""
        return self.warmup_s + sum(step.duration_s for step in self.steps)

    def deliveries_per_s(self, step: Step) -> float:
        """Return how many deliveries a second ``step`` asks for."""
        if self.kind == "changes":
            return step.rate_per_s
        return step.rate_per_s * self.subscribers / self.topics

    def realtime_settings(self) -> Mapping[str, Any]:
        """Return the quotas that a project needs for this load (see the service)."""
        most = max(self.deliveries_per_s(step) + step.rate_per_s for step in self.steps)
        return {
            "max_concurrent_users": self.subscribers + self.topics + SPARE_JOINS,
            "max_joins_per_second": int(self.clients_per_s) + SPARE_JOINS,
            "max_events_per_second": int(most * SPARE_EVENTS),
        }


PROFILES: Mapping[str, LoadProfile] = {
    profile.name: profile
    for profile in (
        LoadProfile(
            name="smoke",
            title="20 subscribers for 2 seconds, to see that everything answers",
            kind="broadcast",
            subscribers=20,
            steps=(Step(50, 2),),
            drain_s=3.0,
        ),
        LoadProfile(
            name="climber-200",
            title="200 subscribers of one topic for 20 seconds",
            kind="broadcast",
            subscribers=200,
            steps=(Step(50, 20),),
            arrival="poisson",
        ),
        LoadProfile(
            name="changes-200",
            title="inserts that an owner policy shows to one of 200 subscribers each",
            kind="changes",
            subscribers=200,
            steps=(Step(500, 10),),
            arrival="poisson",
            drain_s=10.0,
        ),
        LoadProfile(
            name="changes-10",
            title="inserts that an owner policy shows to one of 10 subscribers each",
            kind="changes",
            subscribers=10,
            steps=(Step(2000, 10),),
            rows_per_write=10,
            drain_s=10.0,
        ),
        LoadProfile(
            name="leavers-100",
            title="inserts for 100 subscribers, of whom 25 lose their right halfway",
            kind="changes",
            subscribers=100,
            leavers=25,
            steps=(Step(1000, 8),),
            arrival="poisson",
            drain_s=10.0,
        ),
        LoadProfile(
            name="fanout-200",
            title="one topic with 200 subscribers, from half load up to the knee",
            kind="broadcast",
            subscribers=200,
            steps=ramp(100, 1000, steps=6, step_s=4),
        ),
        LoadProfile(
            name="fanout-1000",
            title="one topic with 1,000 subscribers, from half load up to the knee",
            kind="broadcast",
            subscribers=1000,
            steps=ramp(20, 200, steps=6, step_s=4),
        ),
        LoadProfile(
            name="rooms",
            title="500 subscribers in 50 topics, arrivals of independent users",
            kind="broadcast",
            subscribers=500,
            topics=50,
            steps=(Step(1000, 10),),
            arrival="poisson",
        ),
        LoadProfile(
            name="database-200",
            title="realtime.send in the database to 200 subscribers of a private topic",
            kind="database_broadcast",
            subscribers=200,
            steps=(Step(50, 10),),
            arrival="poisson",
            private=True,
        ),
    )
}


def find_profile(name: str) -> LoadProfile:
    """Return the named profile, or raise :class:`UsageError` with the nearest name."""
    try:
        return PROFILES[name]
    except KeyError:
        close = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else _all_names()
        raise UsageError(f"no load profile {name!r}", hint=hint) from None


def shard(profile: LoadProfile, index: int, count: int) -> LoadProfile:
    """Return what worker ``index`` of ``count`` carries: its own topics and rate.

    Each worker sends only to its own subscribers, so that clocks and histories of
    different machines are never compared.
    """
    if count == 1:
        return profile
    if profile.subscribers < count:
        raise UsageError(f"{count} workers cannot share {profile.subscribers} clients")
    mine = profile.subscribers // count + (index < profile.subscribers % count)
    topics = max(1, profile.topics // count)
    if profile.kind == "changes":
        factor = mine / profile.subscribers
    else:
        # With fewer members in each topic, a topic carries as many messages as before.
        factor = topics / profile.topics
    steps = tuple(
        replace(step, rate_per_s=step.rate_per_s * factor) for step in profile.steps
    )
    leavers = profile.leavers * mine // profile.subscribers
    return replace(
        profile, subscribers=mine, topics=topics, leavers=leavers, steps=steps
    )


def _all_names() -> str:
    return f"profiles: {', '.join(PROFILES)}"
