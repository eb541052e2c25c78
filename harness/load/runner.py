"""Runs a profile in generator processes of its own and turns it into events.

The parent measures nothing: it starts ``python -m harness.load.worker`` (one, or a
Locust master with its workers), passes progress on, and judges the reports.  A history
that is not clean becomes one :class:`Finding` for each kind of anomaly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from harness.errors import HarnessError, StackError, UsageError
from harness.events import (
    CheckFinished,
    Event,
    Finding,
    LoadStepFinished,
    Progress,
)
from harness.faults import TimedFault
from harness.load.fault_plan import FaultPlan
from harness.load.profiles import LoadProfile, find_profile
from harness.load.step_report import StepReport
from harness.load.target import Target
from harness.load.worker import Spec

__all__ = ["conclude", "find_profile", "judge", "run_profile", "run_reports"]

Emit = Callable[[Event], None]
STOP_TIMEOUT_S = 20.0
STDERR_TAIL_BYTES = 4000
LINE_LIMIT_BYTES = 16 * 1024 * 1024
LAG_NOTE_MS = 100.0
CHECKS = {
    "lost": "every_entitled_subscriber_gets_every_message",
    "duplicate": "no_message_arrives_twice",
    "reordered": "messages_arrive_in_the_order_sent",
    "wrong_recipient": "no_message_reaches_a_stranger",
    "stale": "no_message_arrives_after_the_right_ended",
}
GRAVE = {"wrong_recipient", "stale"}


async def run_profile(
    profile: LoadProfile,
    target: Target,
    *,
    seed: int,
    emit: Emit,
    phase: str = "load",
    workers: int = 1,
    faults: Sequence[TimedFault] = (),
) -> LoadStepFinished:
    """Run ``profile`` and emit progress, faults, steps, findings and checks.

    With ``faults`` subscribers come back after a lost connection.  Returns the last
    step.

    Raises :class:`StackError` when clients cannot join or the generator dies, and
    :class:`UsageError` for a fault that cannot be injected here.
    """
    reports = await run_reports(
        profile, target,
        seed=seed, emit=emit, phase=phase, workers=workers, faults=faults,
    )  # fmt: skip
    for report in reports:
        emit(report.finished)
        for finding in judge(report, phase=phase, seed=seed, faults=faults):
            emit(finding)
    for check in conclude(reports, phase=phase):
        emit(check)
    return reports[-1].finished


async def run_reports(
    profile: LoadProfile,
    target: Target,
    *,
    seed: int,
    emit: Emit,
    phase: str = "load",
    workers: int = 1,
    faults: Sequence[TimedFault] = (),
) -> list[StepReport]:
    """Run ``profile`` and return the report of each step, judging nothing."""
    reports: list[StepReport] = []
    plan = FaultPlan(faults, profile, target, phase=phase, seed=seed)

    def take(kind: str, record: dict[str, Any]) -> None:
        if kind == "progress":
            emit(_progress(profile, phase, record))
            if record["step"] == 1:
                plan.begin(record["elapsed_s"])
        elif kind == "report":
            reports.append(StepReport.from_record(record))
        else:
            raise _raised(record)

    try:
        async with plan:
            spec = Spec(
                profile=profile,
                target=plan.target,
                seed=seed,
                name=f"load-{secrets.token_hex(4)}",
                workers=workers,
                reconnects=bool(faults),
            )
            await _run(spec, take)
    except* HarnessError as failed:
        raise _first(failed) from failed
    for fault in plan.injected:
        emit(fault)
    if len(reports) != len(profile.steps):
        raise StackError("the load generator ended early", service="load generator")
    return reports


def conclude(reports: Sequence[StepReport], *, phase: str) -> Iterator[CheckFinished]:
    """Yield the checks of a whole run: one for each kind of anomaly."""
    steps = [report.finished for report in reports]
    expected = sum(step.expected for step in steps)
    for kind, check in CHECKS.items():
        count = sum(getattr(step, kind) for step in steps)
        yield CheckFinished(
            phase=phase,
            check=check,
            outcome="failed" if count else "passed",
            took_s=sum(step.duration_s for step in steps),
            detail=f"{count:,} of {expected:,} deliveries" if count else "",
        )


def judge(
    report: StepReport,
    *,
    phase: str,
    seed: int,
    faults: Sequence[TimedFault] = (),
) -> Iterator[Finding]:
    """Yield a finding for each kind of anomaly, and a note on a slow generator."""
    step = report.finished
    examples = "; ".join((*report.examples, *report.complaints))
    injected = "".join(f" --fault {timed.text}" for timed in faults)
    repeat = f"harness load {step.profile}{injected} --seed {seed}"
    for kind, check in CHECKS.items():
        count = getattr(step, kind)
        if count:
            words = kind.replace("_", " ")
            yield Finding(
                phase=phase,
                check=check,
                message=f"{count:,} of {step.expected:,} deliveries: {words}",
                where=f"profile {step.profile}, step {step.step}",
                severity="critical" if kind in GRAVE else "high",
                note=examples,
                repeat=repeat,
            )
    if report.lag_p99_ms > LAG_NOTE_MS:
        yield Finding(
            phase=phase,
            check="generator_keeps_its_schedule",
            message=(
                f"the generator itself sent {report.lag_p99_ms:.0f} ms late (p99);"
                " the latencies include that"
            ),
            where=f"profile {step.profile}, step {step.step}",
            severity="note",
            hint="use a quieter machine, or more generator processes",
            repeat=repeat,
        )


async def _run(spec: Spec, take: Callable[[str, dict[str, Any]], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="harness-load-") as folder:
        path = Path(folder) / "spec.json"
        path.touch(mode=0o600)  # it holds keys
        path.write_bytes(spec.to_json())
        async with contextlib.aclosing(_generate(path, spec.workers)) as records:
            async for record in records:
                take(record.pop("kind"), record)


def _first(failed: BaseExceptionGroup[HarnessError]) -> HarnessError:
    error = failed.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _progress(profile: LoadProfile, phase: str, record: dict[str, Any]) -> Progress:
    before_s = sum(step.duration_s for step in profile.steps[: record["step"] - 1])
    done_s = before_s + min(record["elapsed_s"], record["duration_s"])
    return Progress(
        phase=phase,
        done=int(done_s) if record["step"] else 0,
        total=int(sum(step.duration_s for step in profile.steps)),
        note=f"{record['delivered']:,} deliveries, p99 {record['p99_ms']:.1f} ms",
    )


async def _generate(spec: Path, workers: int) -> AsyncGenerator[dict[str, Any], None]:
    async with contextlib.AsyncExitStack() as stack:
        if workers == 1:
            chief = await stack.enter_async_context(_process(spec, "--role", "local"))
        else:
            chief = await stack.enter_async_context(_distributed(spec, workers))
        async for record in chief.records():
            yield record


@contextlib.asynccontextmanager
async def _distributed(spec: Path, workers: int) -> AsyncIterator[GeneratorProcess]:
    """Start a master and its workers; a worker that dies takes the run with it."""
    port = str(_free_port())
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as watchers:
        master = ("--role", "master", "--port", port)
        chief = await stack.enter_async_context(_process(spec, *master))
        tasks = []
        for index in range(workers):
            mine = ("--role", "worker", "--port", port, "--index", str(index))
            worker = await stack.enter_async_context(_process(spec, *mine))
            tasks.append(watchers.create_task(worker.check_end()))
        yield chief
        for task in tasks:
            task.cancel()


class GeneratorProcess:
    """A running worker: JSON lines from its stdout, the tail of its stderr."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self._errors = errors

    async def records(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what it says; raises :class:`StackError` if it dies."""
        if self.process.stdout is not None:
            async for line in self.process.stdout:
                yield orjson.loads(line)
        await self.check_end()

    async def check_end(self) -> None:
        """Wait until it has ended; raises :class:`StackError` unless it ended well."""
        if await self.process.wait():
            tail = self._errors.read_bytes()[-STDERR_TAIL_BYTES:]
            raise StackError(
                f"the load generator ended with status {self.process.returncode}",
                service="load generator",
                log_tail=tail.decode(errors="replace"),
            )


@contextlib.asynccontextmanager
async def _process(spec: Path, *arguments: str) -> AsyncIterator[GeneratorProcess]:
    log, log_path = tempfile.mkstemp(dir=spec.parent, suffix=".log")
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "harness.load.worker",
            "--spec",
            str(spec),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_LIMIT_BYTES,
        )
    finally:
        os.close(log)
    try:
        yield GeneratorProcess(process, Path(log_path))
    finally:
        await asyncio.shield(_stop(process))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its standard input, which asks it to clean up; then insist."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _raised(record: dict[str, Any]) -> HarnessError:
    kind = UsageError if record["exit_code"] == UsageError.exit_code else StackError
    return kind(record["message"], hint=record["hint"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
