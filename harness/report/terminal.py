"""The run on a terminal or in a pipe.

While it runs, what happens goes to stderr: a progress bar a phase on a terminal, one
line a finished phase elsewhere.  What was found goes to stdout when the run ends:
errors first, one pasteable line each, then their note, hint, witness and the command
that repeats them; then the load figures; the last line counts everything.  Readable
without colour; ``NO_COLOR`` is respected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from harness import events
from harness.events import (
    Event,
    FaultInjected,
    Finding,
    LoadStepFinished,
    RequirementShown,
    Undecided,
    Witness,
)
from harness.load.capacity import estimate_capacity
from harness.report.model import RunModel, one_line, plural

__all__ = ["TerminalWriter"]

VERDICT_WORDS = {"pass": "PASSED", "fail": "FAILED", "unknown": "UNKNOWN"}
VERDICT_STYLES = {"pass": "bold green", "fail": "bold red", "unknown": "bold yellow"}
LABEL_WIDTH = 22
MOMENT_S = 0.05  # what is over sooner has no duration worth telling


class TerminalWriter:
    """Shows a run; ``report`` is printed as the place of the full report."""

    def __init__(
        self,
        out: TextIO,
        log: TextIO,
        *,
        report: Path | None = None,
        verbose: bool = False,
    ) -> None:
        self._out = Console(file=out, highlight=False, soft_wrap=True)
        self._log = Console(file=log, highlight=False, soft_wrap=True)
        self._report = report
        self._verbose = verbose
        self._run = RunModel()
        self._live = LivePhases(self._log) if self._log.is_terminal else None

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        self._run.add(event)
        match event:
            case events.StackStarted():
                self._say(f"{event.api_url} ({event.postgres})", "stack", event.took_s)
            case events.PhaseStarted() if self._live is not None:
                self._live.start(event)
            case events.Progress() if self._live is not None:
                self._live.advance(event)
            case events.PhaseFinished():
                if self._live is not None:
                    self._live.stop(event.phase)
                self._say(event.summary or "done", event.phase, event.took_s)
            case events.CheckFinished() if self._verbose:
                self._say(f"{event.check}: {event.outcome}", event.phase, event.took_s)

    def close(self) -> None:
        """Print the findings, the load figures and the last line."""
        if self._live is not None:
            self._live.close()
        if not self._run.has_begun:
            return
        for finding in self._run.findings:
            self._lines(_finding_lines(finding))
        self._lines(list(_failed_lines(self._run)))
        for item in self._run.undecided:
            self._lines([_undecided_line(item)])
        if self._run.undecided:
            self._lines([Text()])
        self._lines(list(_fault_lines(self._run.injected)))
        for step in self._run.steps:
            self._lines(_load_lines(step))
        self._lines(list(_capacity_lines(self._run.steps)))
        self._lines(list(_requirement_lines(self._run.requirements)))
        if self._report is not None:
            self._lines([_labelled("report:", str(self._report), indent="")])
        self._lines([_last_line(self._run)])

    def _say(self, text: str, phase: str, took_s: float) -> None:
        line = Text.assemble(
            (phase.ljust(LABEL_WIDTH), "bold"),
            f"{took_s:6.2f} s  ",
            one_line(text),
        )
        self._log.print(line)

    def _lines(self, lines: list[Text]) -> None:
        for line in lines:
            self._out.print(line)


class LivePhases:
    """One progress bar for each running phase; gone when the phase has ended."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def start(self, event: events.PhaseStarted) -> None:
        """Show a bar for a phase that began."""
        self._tasks[event.phase] = self._bars.add_task(
            event.phase.ljust(LABEL_WIDTH), total=event.total, note=""
        )
        self._bars.start()

    def advance(self, event: events.Progress) -> None:
        """Move a phase's bar."""
        task = self._tasks.get(event.phase)
        if task is not None:
            # rich takes None as "leave the total as it is".
            self._bars.update(
                task, completed=event.done, total=event.total, note=event.note
            )

    def stop(self, phase: str) -> None:
        """Take a phase's bar away."""
        task = self._tasks.pop(phase, None)
        if task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self._bars.stop()

    def close(self) -> None:
        """Take every bar away."""
        for phase in list(self._tasks):
            self.stop(phase)


def _finding_lines(finding: Finding) -> list[Text]:
    head = Text()
    if finding.where:
        head.append(f"{finding.where}: ", "bold")
    is_note = finding.severity == "note"
    head.append(f"{finding.check}: ", "bold cyan" if is_note else "bold red")
    head.append(one_line(finding.message))
    lines = [head]
    if finding.note:
        lines.append(_labelled("note:", finding.note, style="cyan"))
    if finding.hint:
        lines.append(_labelled("hint:", finding.hint, style="green"))
    if finding.witness is not None:
        lines.extend(_witness_lines(finding.witness))
    if finding.repeat:
        lines.append(_labelled("repeat:", finding.repeat, style="dim"))
    if finding.is_replayable:
        lines.append(_labelled("replay:", f"harness replay {finding.id}", style="dim"))
    return [*lines, Text()]


def _witness_lines(witness: Witness) -> Iterator[Text]:
    body = witness.sql or witness.curl or witness.python
    yield _labelled("witness:", witness_size(witness), style="magenta")
    for line in body.strip().splitlines():
        yield Text(f"    {line}".rstrip())


def witness_size(witness: Witness) -> str:
    """Return how small the witness is: ``1 row, 2 identities, 1 statement``."""
    people = "identity" if witness.identities == 1 else "identities"
    return (
        f"{plural(witness.rows, 'row')}, {witness.identities:,} {people},"
        f" {plural(witness.statements, 'statement')}"
    )


def _failed_lines(run: RunModel) -> Iterator[Text]:
    """Yield a line a failed check that left no finding: a scenario of a suite."""
    found = {finding.check for finding in run.findings}
    failed = [
        check
        for check in run.checks
        if check.outcome in ("failed", "errored") and check.check not in found
    ]
    for check in failed:
        yield Text.assemble(
            (f"{check.check}: ", "bold"),
            (f"{check.outcome}: ", "bold red"),
            one_line(check.first_error),
        )
    if failed:
        yield Text()


def _requirement_lines(requirements: Sequence[RequirementShown]) -> Iterator[Text]:
    fallen = [r for r in requirements if r.outcome in ("failed", "errored")]
    if fallen:
        label = f"requirements that fall ({len(fallen)} of {len(requirements)}): "
        names = ", ".join(r.requirement for r in fallen)
        yield Text.assemble((label, "bold red"), names)
        yield Text()


def _undecided_line(item: Undecided) -> Text:
    line = Text()
    if item.where:
        line.append(f"{item.where}: ", "bold")
    line.append(f"{item.check}: ", "bold yellow")
    line.append(f"undecided: {one_line(item.reason)}")
    return line


def _load_lines(step: LoadStepFinished) -> list[Text]:
    latency = step.latency
    wrong = (
        ("lost", step.lost),
        ("duplicate", step.duplicate),
        ("reordered", step.reordered),
        ("wrong recipient", step.wrong_recipient),
        ("stale", step.stale),
    )
    delivered = Text.assemble(
        (f"load {step.profile}: ", "bold"),
        f"{step.subscribers:,} subscribers, {step.duration_s:.1f} s,"
        f" {step.offered_per_s:,.0f}/s offered:"
        f" {step.delivered:,} of {step.expected:,} delivered",
    )
    anomalies = Text.assemble(("  history: ", "bold"))
    for i, (name, count) in enumerate(wrong):
        anomalies.append(", " if i else "")
        anomalies.append(f"{count:,} {name}", "red" if count else "")
    return [
        delivered,
        anomalies,
        _labelled(
            "latency:",
            f"p50 {latency.p50_ms:.2f} ms, p95 {latency.p95_ms:.2f} ms,"
            f" p99 {latency.p99_ms:.2f} ms, max {latency.max_ms:.2f} ms",
            style="bold",
        ),
        _labelled("CPU:", _cpu_sentence(step), style="bold"),
        *_away_lines(step),
        Text(),
    ]


def _away_lines(step: LoadStepFinished) -> Iterator[Text]:
    if step.reconnects:
        sentence = (
            f"{step.reconnects:,} subscribers lost their connection and came back;"
            f" {step.away:,} deliveries fell into their absence"
        )
        yield _labelled("away:", sentence, style="bold")


def _fault_lines(faults: Sequence[FaultInjected]) -> Iterator[Text]:
    for fault in faults:
        began = f"{fault.fault} at {fault.began_s:.2f} s"
        lasted = f" for {fault.lasted_s:.2f} s" if fault.lasted_s >= MOMENT_S else ""
        yield _labelled("fault:", began + lasted, style="bold", indent="")


def _capacity_lines(steps: Sequence[LoadStepFinished]) -> Iterator[Text]:
    for profile in dict.fromkeys(step.profile for step in steps):
        mine = [step for step in steps if step.profile == profile]
        estimate = estimate_capacity(mine)
        if estimate is not None:
            yield Text.assemble((f"capacity {profile}: ", "bold"), str(estimate))


def _cpu_sentence(step: LoadStepFinished) -> str:
    per_message = 1e6 / max(1, step.delivered)
    return (
        f"{step.server_cpu_s * per_message:.2f} us a delivery in the server,"
        f" {step.postgres_cpu_s * per_message:.2f} in PostgreSQL,"
        f" {step.generator_cpu_s * per_message:.2f} in the generator"
    )


def _labelled(label: str, text: str, *, style: str = "", indent: str = "  ") -> Text:
    return Text.assemble(indent, (f"{label} ", style), one_line(text))


def _last_line(run: RunModel) -> Text:
    seed = f" (seed {run.started.seed})" if run.started else ""
    word = VERDICT_WORDS[run.verdict] if run.finished else "CUT SHORT"
    return Text.assemble(
        (f"{word}: ", VERDICT_STYLES[run.verdict]),
        f"{run.headline} in {run.took_s:.1f} s{seed}",
    )
