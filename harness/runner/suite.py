"""The scenario suites: pytest in a process of its own, read along as events.

pytest gets the running stack by ``HARNESS_STACK`` and writes one event a test to
``HARNESS_EVENTS``; its own words go to a log in the report folder.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.events import CheckFinished, Event, Progress, decode_event
from harness.stack.environment import child_environment

__all__ = ["run_suite"]

READ_INTERVAL_S = 0.05
NO_TESTS = 5
# pytest: 0 all passed, 1 some failed, 5 none collected.
ORDINARY_EXITS = (0, 1, NO_TESTS)
LOG_TAIL_LINES = 30


async def run_suite(
    folder: Path,
    *,
    descriptor: Path,
    report_dir: Path,
    emit: Callable[[Event], None],
    phase: str,
    seed: int,
    cache_dir: Path,
    workers: int = 0,
    schema: Sequence[str] = (),
    select: str | None = None,
) -> None:
    """Run the pytest files of ``folder`` on the stack that ``descriptor`` names.

    ``schema`` replaces the schema folders that the suite declares (for a draft).
    Raises :class:`HarnessError` where pytest itself breaks down.
    """
    events_path = report_dir / f"{phase}-suite.jsonl"
    events_path.touch()
    log_path = report_dir / f"{phase}-suite.log"
    argv = _pytest_command(folder, report_dir, seed, workers, select)
    environment = child_environment(
        os.environ,
        cache_dir,
        HARNESS_STACK=str(descriptor),
        HARNESS_EVENTS=str(events_path),
        HARNESS_SCHEMA=",".join(schema),
    )
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment,
        )  # fmt: skip
        try:
            await _read_along(process, events_path, emit, phase)
        finally:
            await _end(process)
    if process.returncode not in ORDINARY_EXITS:
        raise HarnessError(
            f"the suite of {folder.name} broke down (pytest exit {process.returncode})",
            hint=_tail(log_path),
        )


def _pytest_command(
    folder: Path, report_dir: Path, seed: int, workers: int, select: str | None
) -> list[str]:
    argv = [
        sys.executable, "-m", "pytest", str(folder),
        "-p", "no:cacheprovider", "-q", "--no-header", "--color=no", "--tb=short",
        f"--alluredir={report_dir / 'allure'}",
        f"--hypothesis-seed={seed}",
    ]  # fmt: skip
    if workers:
        argv += ["-n", str(workers), "--dist", "loadgroup"]
    if select:
        argv += ["-k", select]
    return argv


async def _read_along(
    process: asyncio.subprocess.Process,
    path: Path,
    emit: Callable[[Event], None],
    phase: str,
) -> None:
    rest = b""
    with path.open("rb") as source:
        while True:
            ended = process.returncode is not None
            *lines, rest = (rest + source.read()).split(b"\n")
            for line in lines:
                _pass_on(decode_event(line), emit, phase)
            if ended:
                return
            waiter = asyncio.ensure_future(process.wait())
            await asyncio.wait([waiter], timeout=READ_INTERVAL_S)
            waiter.cancel()


def _pass_on(event: Event, emit: Callable[[Event], None], phase: str) -> None:
    if isinstance(event, CheckFinished | Progress):
        emit(dataclasses.replace(event, phase=phase))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


def _tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])
