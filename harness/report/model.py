"""A run as its events tell it: what the writers that need the whole picture read.

The model judges nothing.  Counts come from the events, and the verdict from the last
one; a run whose end is missing was cut short, and its verdict is ``unknown``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.events import (
    CheckFinished,
    DecisionCell,
    Event,
    FaultInjected,
    Finding,
    LoadStepFinished,
    PhaseFinished,
    PhaseStarted,
    RequirementShown,
    RunFinished,
    RunStarted,
    StackStarted,
    Undecided,
    Verdict,
)

__all__ = ["SEVERITIES", "Phase", "RunModel", "one_line", "plural"]

SEVERITIES = ("critical", "high", "medium", "low", "note")  # the gravest first
CellKey = tuple[str, str, str, str]


@dataclass(slots=True)
class Phase:
    """A part of the run: times are seconds since the run started."""

    name: str
    title: str
    started_s: float
    took_s: float | None = None
    summary: str = ""


@dataclass(slots=True)
class RunModel:
    """Everything a run said, sorted by kind; fed by :meth:`add`."""

    started: RunStarted | None = None
    stack: StackStarted | None = None
    finished: RunFinished | None = None
    phases: list[Phase] = field(default_factory=list)
    checks: list[CheckFinished] = field(default_factory=list)
    undecided: list[Undecided] = field(default_factory=list)
    steps: list[LoadStepFinished] = field(default_factory=list)
    injected: list[FaultInjected] = field(default_factory=list)
    requirements: list[RequirementShown] = field(default_factory=list)
    cells: dict[CellKey, DecisionCell] = field(default_factory=dict)
    last_at_s: float = 0.0
    _findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunModel:
        """Return the model of a complete stream."""
        model = cls()
        for event in events:
            model.add(event)
        return model

    def add(self, event: Event) -> None:
        """Take the next event."""
        self.last_at_s = max(self.last_at_s, event.at)
        match event:
            case RunStarted():
                self.started = event
            case StackStarted():
                self.stack = event
            case PhaseStarted():
                self.phases.append(Phase(event.phase, event.title, event.at))
            case PhaseFinished():
                self._finish_phase(event)
            case CheckFinished():
                self.checks.append(event)
            case Finding():
                self._findings.append(event)
            case Undecided():
                self.undecided.append(event)
            case DecisionCell():
                key = (event.relation, event.command, event.persona, event.scope)
                self.cells[key] = event
            case LoadStepFinished():
                self.steps.append(event)
            case FaultInjected():
                self.injected.append(event)
            case RequirementShown():
                self.requirements.append(event)
            case RunFinished():
                self.finished = event

    @property
    def has_begun(self) -> bool:
        """Whether anything came after the start: a stack, a phase, a result."""
        seen = (self.phases, self.checks, self._findings, self.undecided, self.steps)
        return self.stack is not None or self.finished is not None or any(seen)

    @property
    def verdict(self) -> Verdict:
        """The run's own verdict; ``unknown`` when it never ended."""
        return self.finished.verdict if self.finished else "unknown"

    @property
    def findings(self) -> list[Finding]:
        """The findings, gravest first, otherwise in the order they came."""
        return sorted(self._findings, key=lambda f: SEVERITIES.index(f.severity))

    @property
    def faults(self) -> int:
        """How many findings count: all but notes."""
        return sum(finding.severity != "note" for finding in self._findings)

    @property
    def decisions(self) -> int:
        """Executed decisions: those behind the checks or those of the matrix."""
        checked = sum(check.decisions for check in self.checks)
        pictured = sum(cell.allowed + cell.denied for cell in self.cells.values())
        return max(checked, pictured)

    @property
    def outcomes(self) -> Counter[str]:
        """Checks by outcome."""
        return Counter(check.outcome for check in self.checks)

    @property
    def took_s(self) -> float:
        """Seconds the run took, or was seen to take."""
        return self.finished.took_s if self.finished else self.last_at_s

    @property
    def what(self) -> str:
        """What was run."""
        return self.started.what if self.started else "run"

    @property
    def headline(self) -> str:
        """One sentence that counts everything."""
        outcomes = self.outcomes
        notes = len(self._findings) - self.faults
        parts = [
            plural(self.faults, "finding"),
            *([plural(notes, "note")] if notes else []),
            f"{len(self.undecided):,} undecided",
            f"{plural(len(self.checks), 'check')}: {outcomes['passed']:,} passed,"
            f" {outcomes['failed'] + outcomes['errored']:,} failed,"
            f" {outcomes['skipped']:,} skipped",
        ]
        if self.decisions:
            parts.append(plural(self.decisions, "decision"))
        if self.steps:
            parts.append(f"{sum(s.delivered for s in self.steps):,} deliveries")
        return "; ".join(parts)

    def _finish_phase(self, event: PhaseFinished) -> None:
        for phase in reversed(self.phases):
            if phase.name == event.phase and phase.took_s is None:
                phase.took_s, phase.summary = event.took_s, event.summary
                return
        started_s = max(0.0, event.at - event.took_s)
        self.phases.append(
            Phase(event.phase, event.phase, started_s, event.took_s, event.summary)
        )


def plural(count: int, noun: str) -> str:
    """Return ``1 finding``, ``2 findings``, ``1,000 findings``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def one_line(text: str) -> str:
    """Return ``text`` without line breaks, so that it can be pasted and grepped."""
    return " ".join(text.split())
