"""Frozen records of a run: the one stream that every report writer reads.

A run is a sequence of events; ``events.jsonl`` holds one JSON object a line, whose
``event`` key names the class.  A wrong answer of the system under test is a
:class:`Finding`; what could not be decided is :class:`Undecided`; both make the
verdict other than ``pass``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from harness.errors import ReportError

__all__ = [
    "CheckFinished",
    "CheckStarted",
    "DecisionCell",
    "Event",
    "Finding",
    "LatencySummary",
    "LoadStepFinished",
    "PhaseFinished",
    "PhaseStarted",
    "Probe",
    "Progress",
    "RequirementShown",
    "RunFinished",
    "RunStarted",
    "StackStarted",
    "Undecided",
    "Verdict",
    "Witness",
    "decode_event",
    "encode_event",
]

Verdict = Literal["pass", "fail", "unknown"]
Outcome = Literal["passed", "failed", "skipped", "errored"]
ProbeKind = Literal["affects", "spares", "succeeds", "raises", "returns", "observed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events; ``at`` is seconds since the run started."""

    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run began: what, with which seed, where; ``environment`` is for the reader."""

    what: str
    seed: int
    utc: str
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStarted(Event):
    """The stack answered on every service."""

    kind: str
    api_url: str
    postgres: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted(Event):
    """A named part of the run (schema, policies, uploads, realtime, load) began."""

    phase: str
    title: str
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished(Event):
    """That part ended."""

    phase: str
    took_s: float
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far a phase is, for whoever watches; shown, not stored with the run."""

    phase: str
    done: int
    total: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStarted(Event):
    """One named check began."""

    phase: str
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFinished(Event):
    """One named check ended; ``decisions`` counts the executed decisions behind it."""

    phase: str
    check: str
    outcome: Outcome
    took_s: float
    decisions: int = 0
    detail: str = ""
    requirements: tuple[str, ...] = ()

    @property
    def first_error(self) -> str:
        """The first error line of pytest's account in ``detail``, or the check."""
        lines = [line for line in self.detail.splitlines() if line.startswith("E ")]
        return lines[0].removeprefix("E ").strip() if lines else self.check


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A case for the probe in the database, and the outcome that shows the fault.

    ``setup`` runs as superuser, ``commands`` and then ``fetch`` as ``role`` with
    ``claims`` and ``settings``, ``observe`` as superuser again.  ``kind`` and ``text``
    are an Expectation's of :mod:`harness.policies.cases`.  ``repaired`` is the function
    for which something missing had to be made up before the fault showed.
    """

    setup: tuple[str, ...] = ()
    role: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    fetch: str = ""
    observe: str = ""
    kind: ProbeKind = "succeeds"
    text: str = ""
    says: str = ""
    repaired: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """The smallest case that shows a finding, in three notations and as a probe."""

    sql: str = ""
    curl: str = ""
    python: str = ""
    rows: int = 0
    identities: int = 0
    statements: int = 0
    probe: Probe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Event):
    """A wrong answer of the system under test.

    ``check`` names what is defended, ``where`` is ``file:line`` or an object name;
    ``schema`` names the folders that were applied.
    """

    phase: str
    check: str
    message: str
    where: str = ""
    severity: Literal["critical", "high", "medium", "low", "note"] = "high"
    note: str = ""
    hint: str = ""
    repeat: str = ""
    witness: Witness | None = None
    requirements: tuple[str, ...] = ()
    schema: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Eight hexadecimal digits: the same fault by the same case has the same."""
        sql = self.witness.sql if self.witness else ""
        told = "\0".join((self.check, self.message, sql))
        return hashlib.sha256(told.encode()).hexdigest()[:8]

    @property
    def is_replayable(self) -> bool:
        """Whether ``harness replay`` can run its case again."""
        return self.witness is not None and self.witness.probe is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided(Event):
    """Something that could not be decided, and why; never a pass."""

    phase: str
    check: str
    reason: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionCell(Event):
    """One cell of the policy matrix: what a persona may do to an object.

    ``scope`` says whose rows: own, other, any; ``allowed``/``denied`` count executed
    decisions.
    """

    relation: str
    command: str
    persona: str
    scope: str
    allowed: int
    denied: int
    judged: Literal["expected", "violation", "unjudged"] = "expected"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySummary:
    """Milliseconds from the intended send time to delivery."""

    count: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStepFinished(Event):
    """One step of a load profile; counts are deliveries, rates are per second.

    ``histogram`` is the base64 HdrHistogram V2 encoding (microseconds). ``timeline``
    has slices: the seconds since the step began at which a slice ended, what arrived
    in it, and its 99th percentile in milliseconds. ``reconnects`` are subscribers that
    lost their connection and came back, ``away`` the deliveries that they were not
    there for, which are not among the expected ones.
    """

    profile: str
    step: int
    subscribers: int
    offered_per_s: float
    duration_s: float
    sent: int
    expected: int
    delivered: int
    lost: int
    duplicate: int
    reordered: int
    wrong_recipient: int
    stale: int
    reconnects: int = 0
    away: int = 0
    latency: LatencySummary
    server_cpu_s: float
    generator_cpu_s: float
    postgres_cpu_s: float = 0.0
    server_rss_mib: float = 0.0
    histogram: str = ""
    timeline: tuple[tuple[float, int, float], ...] = ()

    @property
    def anomalies(self) -> int:
        """How many deliveries went wrong, of whatever kind."""
        rights = self.wrong_recipient + self.stale
        return self.lost + self.duplicate + self.reordered + rights


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected(Event):
    """A fault on purpose: seconds after the first step began, and how long it held."""

    phase: str
    fault: str
    began_s: float
    lasted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementShown(Event):
    """A requirement of a system and the scenario that showed it."""

    requirement: str
    title: str
    scenario: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The verdict; ``exit_code`` is what the command returned."""

    verdict: Verdict
    exit_code: int
    passed: int
    failed: int
    undecided: int
    skipped: int
    took_s: float


EVENT_TYPES: Mapping[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted,
        StackStarted,
        PhaseStarted,
        PhaseFinished,
        Progress,
        CheckStarted,
        CheckFinished,
        Finding,
        Undecided,
        DecisionCell,
        LoadStepFinished,
        FaultInjected,
        RequirementShown,
        RunFinished,
    )
}
_NESTED: Mapping[str, type[Any]] = {
    "witness": Witness,
    "probe": Probe,
    "latency": LatencySummary,
}


def encode_event(event: Event) -> bytes:
    """Return one JSON line (with its newline) for ``events.jsonl``."""
    record = {"event": type(event).__name__, **dataclasses.asdict(event)}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def decode_event(line: bytes) -> Event:
    """Read one line back; raises :class:`ReportError` on anything unknown."""
    try:
        record: dict[str, Any] = orjson.loads(line)
        cls = EVENT_TYPES[record.pop("event")]
        values = {key: _revive(key, value) for key, value in record.items()}
        return cls(**values)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise ReportError(f"not an event of this version: {line[:80]!r}") from exc


def _revive(key: str, value: Any) -> Any:
    if key in _NESTED and value is not None:
        return _NESTED[key](**{name: _revive(name, v) for name, v in value.items()})
    if isinstance(value, list):
        return tuple(tuple(v) if isinstance(v, list) else v for v in value)
    return value
