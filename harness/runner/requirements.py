"""Which requirement was shown by which scenario, and how that ended.

Suites name requirement ids by marker; the phases of a run show those of the harness
itself.  A requirement that nothing showed is told as skipped, with that reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from harness.events import (
    CheckFinished,
    Event,
    LoadStepFinished,
    RequirementShown,
    StackStarted,
)
from scenarios.requirements import Requirement, load_requirements

__all__ = ["RequirementLedger"]

# What the phases of every run show of the harness itself.
BY_PHASE = {"schema": "HX-02", "policies": "HX-03"}
HARNESS = "harness"
NOT_SHOWN = "no scenario of this run shows it"
GRAVITY = ("passed", "skipped", "failed", "errored")


@dataclass(slots=True)
class RequirementLedger:
    """Collects outcomes by requirement from the events of a run."""

    _checks: dict[str, list[CheckFinished]] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        """Take one event."""
        match event:
            case CheckFinished():
                phase = event.phase.rpartition(".")[2]
                own = (BY_PHASE[phase],) if phase in BY_PHASE else ()
                self._add(event, (*event.requirements, *own))
            case StackStarted():
                check = CheckFinished(
                    phase="stack", check=f"{event.kind} stack",
                    outcome="passed", took_s=event.took_s,
                )  # fmt: skip
                self._add(check, ("HX-01",))
            case LoadStepFinished():
                check = CheckFinished(
                    phase="load", check=event.profile, took_s=event.duration_s,
                    outcome="failed" if event.anomalies else "passed",
                )  # fmt: skip
                self._add(check, ("HX-05",))
            case _:
                pass

    def conclude(self, systems: Iterable[str]) -> Iterator[RequirementShown]:
        """Yield an event for each requirement of ``systems`` and of the harness."""
        wanted = {*systems, HARNESS}
        for requirement in load_requirements().values():
            if requirement.system in wanted:
                yield self._shown(requirement)

    def _add(self, check: CheckFinished, ids: Iterable[str]) -> None:
        for requirement in ids:
            self._checks.setdefault(requirement, []).append(check)

    def _shown(self, requirement: Requirement) -> RequirementShown:
        checks = self._checks.get(requirement.id, [])
        if not checks:
            return RequirementShown(
                requirement=requirement.id,
                title=requirement.title,
                scenario="",
                outcome="skipped",
                reason=NOT_SHOWN,
            )
        # One failure is enough: the gravest outcome stands for all.
        worst = max(checks, key=lambda check: GRAVITY.index(check.outcome))
        return RequirementShown(
            requirement=requirement.id,
            title=requirement.title,
            scenario=", ".join(dict.fromkeys(_name(c) for c in checks)),
            outcome=worst.outcome,
            reason=worst.first_error if worst.outcome != "passed" else "",
        )


def _name(check: CheckFinished) -> str:
    """Return a test's name without its file and parameters."""
    return check.check.rpartition("::")[2].partition("[")[0]
