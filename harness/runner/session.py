"""One run: events go in stamped, to every writer; counts and a verdict come out."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness import __version__
from harness.clock import SystemClock
from harness.events import (
    CheckFinished,
    Event,
    Finding,
    LoadStepFinished,
    PhaseFinished,
    PhaseStarted,
    RunFinished,
    RunStarted,
    Undecided,
    Verdict,
)
from harness.report.writers import EventStream, Writer
from harness.runner.requirements import RequirementLedger

__all__ = ["RunSession", "Tally"]


@dataclass(slots=True)
class Tally:
    """What a run has seen so far."""

    passed: int = 0
    failed: int = 0
    findings: int = 0
    undecided: int = 0
    skipped: int = 0

    def count(self, event: Event) -> None:
        """Add one event."""
        match event:
            case CheckFinished(outcome="passed"):
                self.passed += 1
            case CheckFinished(outcome="skipped"):
                self.skipped += 1
            case CheckFinished():
                self.failed += 1
            case Finding(severity="note"):
                pass
            case Finding():
                self.findings += 1
            case Undecided():
                self.undecided += 1
            case LoadStepFinished(anomalies=0):
                # What went wrong in the others comes as findings of its own.
                self.passed += 1
            case _:
                pass

    @property
    def ran(self) -> int:
        """How many checks came to an end."""
        return self.passed + self.failed + self.findings + self.undecided

    @property
    def verdict(self) -> Verdict:
        """``fail`` over ``unknown`` over ``pass``; nothing run is unknown."""
        if self.failed or self.findings:
            return "fail"
        if self.undecided or not self.passed:
            return "unknown"
        return "pass"


class RunSession:
    """The event stream of one run.

    ``emit`` may be called from any phase; writers get events in that order.
    """

    def __init__(
        self, what: str, *, seed: int, command: str, writers: Sequence[Writer]
    ) -> None:
        self.what = what
        self.seed = seed
        self._repeat = command if "--seed" in command else f"{command} --seed {seed}"
        self.tally = Tally()
        self.requirements = RequirementLedger()
        self._closed = False
        self._clock = SystemClock()
        self._stream = EventStream(writers, self._clock)
        self._began_s = self._clock.monotonic_s()
        self.emit(
            RunStarted(
                what=what,
                seed=seed,
                utc=self._clock.now().isoformat(timespec="seconds"),
                command=command,
                environment=describe_environment(),
            )
        )

    def emit(self, event: Event) -> None:
        """Stamp ``event`` with the time of the run and hand it to every writer."""
        self.tally.count(event)
        self.requirements.note(event)
        if isinstance(event, Finding) and not event.repeat:
            event = dataclasses.replace(event, repeat=self._repeat)
        self._stream.emit(event)

    @contextmanager
    def phase(
        self, name: str, title: str, total: int | None = None
    ) -> Iterator[Callable[[str], None]]:
        """Emit the start and end of a phase; the value given sets its summary."""
        self.emit(PhaseStarted(phase=name, title=title, total=total))
        began_s = self._clock.monotonic_s()
        summary = [""]
        yield lambda text: summary.__setitem__(0, text)
        took_s = self._clock.monotonic_s() - began_s
        self.emit(PhaseFinished(phase=name, took_s=took_s, summary=summary[0]))

    def finish(self, exit_code: int) -> RunFinished:
        """Emit the verdict and close the writers."""
        tally = self.tally
        finished = RunFinished(
            verdict=tally.verdict,
            exit_code=exit_code,
            passed=tally.passed,
            failed=tally.failed + tally.findings,
            undecided=tally.undecided,
            skipped=tally.skipped,
            took_s=self._elapsed_s(),
        )
        self.emit(finished)
        self.close()
        return finished

    def close(self) -> None:
        """Close the writers, also where a run broke off; once."""
        if not self._closed:
            self._closed = True
            self._stream.close()

    def _elapsed_s(self) -> float:
        return self._clock.monotonic_s() - self._began_s


def describe_environment() -> dict[str, str]:
    """Return what a reader needs to know of this machine; no paths, no names."""
    return {
        "harness": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "implementation": sys.implementation.name,
    }
