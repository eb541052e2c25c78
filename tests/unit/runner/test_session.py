"""A run's tally, verdict and requirements follow from its events."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from harness.cli.exit_codes import ExitCode, exit_code_of
from harness.events import (
    CheckFinished,
    Event,
    Finding,
    LatencySummary,
    LoadStepFinished,
    RequirementShown,
    RunFinished,
    Undecided,
    Verdict,
)
from harness.runner.requirements import RequirementLedger
from harness.runner.session import RunSession, Tally

PASSED = CheckFinished(phase="climber.flows", check="t", outcome="passed", took_s=0.1)
FAILED = dataclasses.replace(PASSED, outcome="failed")
SKIPPED = dataclasses.replace(PASSED, outcome="skipped")
FINDING = Finding(phase="policies", check="c", message="m")
NOTE = dataclasses.replace(FINDING, severity="note")
LATENCY = LatencySummary(count=8, p50_ms=1, p90_ms=1, p95_ms=1, p99_ms=1, max_ms=1)
STEP = LoadStepFinished(
    profile="smoke", step=1, subscribers=4, offered_per_s=8, duration_s=1, sent=2,
    expected=8, delivered=8, lost=0, duplicate=0, reordered=0, wrong_recipient=0,
    stale=0, latency=LATENCY, server_cpu_s=0, generator_cpu_s=0,
)  # fmt: skip
UNDECIDED = Undecided(phase="policies", check="c", reason="r")


class Memory:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = 0

    def on_event(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def close(self) -> None:
        """Count the call."""
        self.closed += 1


@pytest.mark.parametrize(
    ("events", "verdict", "code"),
    [
        ([PASSED], "pass", ExitCode.PASSED),
        ([PASSED, NOTE, SKIPPED], "pass", ExitCode.PASSED),
        ([PASSED, FINDING], "fail", ExitCode.FINDINGS),
        ([PASSED, FAILED], "fail", ExitCode.FINDINGS),
        ([PASSED, UNDECIDED], "unknown", ExitCode.FINDINGS),
        ([FINDING, UNDECIDED], "fail", ExitCode.FINDINGS),
        ([SKIPPED], "unknown", ExitCode.NOTHING_RAN),
        ([], "unknown", ExitCode.NOTHING_RAN),
    ],
)
def test_verdict_and_exit_code_of_events(
    events: list[Event], verdict: Verdict, code: ExitCode
) -> None:
    tally = Tally()
    for event in events:
        tally.count(event)
    assert tally.verdict == verdict
    assert exit_code_of(tally.verdict, ran=tally.ran) == code


def session(memory: Memory, command: str = "harness run climber") -> RunSession:
    return RunSession("climber", seed=7, command=command, writers=[memory])


def test_finding_carries_the_command_that_repeats_it() -> None:
    memory = Memory()
    session(memory).emit(FINDING)
    found = memory.events[-1]
    assert isinstance(found, Finding)
    assert found.repeat == "harness run climber --seed 7"


def test_finding_keeps_the_command_that_it_names() -> None:
    memory = Memory()
    session(memory).emit(dataclasses.replace(FINDING, repeat="other"))
    found = memory.events[-1]
    assert isinstance(found, Finding)
    assert found.repeat == "other"


def test_writers_are_closed_once() -> None:
    memory = Memory()
    run = session(memory)
    run.emit(PASSED)
    run.finish(0)
    run.close()
    assert memory.closed == 1
    assert isinstance(memory.events[-1], RunFinished)


def shown(events: Sequence[Event], wanted: str) -> RequirementShown:
    ledger = RequirementLedger()
    for event in events:
        ledger.note(event)
    return next(r for r in ledger.conclude(["climber"]) if r.requirement == wanted)


def test_requirement_is_shown_by_the_tests_that_name_it() -> None:
    check = dataclasses.replace(
        PASSED, check="scenarios/climber/test_a.py::test_b[x]", requirements=("CL-01",)
    )
    row = shown([check, check], "CL-01")
    assert (row.outcome, row.scenario) == ("passed", "test_b")


@pytest.mark.parametrize(
    "kind", ["lost", "duplicate", "reordered", "wrong_recipient", "stale"]
)
def test_any_anomaly_of_a_load_fails_its_requirement_and_its_step(kind: str) -> None:
    step = dataclasses.replace(STEP, **{kind: 1})
    assert shown([STEP], "HX-05").outcome == "passed"
    assert shown([STEP, step], "HX-05").outcome == "failed"
    tally = Tally()
    tally.count(STEP)
    tally.count(step)
    assert tally.passed == 1


def test_one_failure_fails_a_requirement() -> None:
    marked = {"requirements": ("CL-01",)}
    row = shown(
        [dataclasses.replace(PASSED, **marked), dataclasses.replace(FAILED, **marked)],
        "CL-01",
    )
    assert row.outcome == "failed"


def test_requirement_that_nothing_shows_is_skipped_with_the_reason() -> None:
    row = shown([], "CL-01")
    assert (row.outcome, row.reason) == (
        "skipped",
        "no scenario of this run shows it",
    )
