"""The generator processes: Locust alone, Locust distributed, and their ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StackError
from harness.events import CheckFinished, Event, LoadStepFinished, Progress
from harness.load.cpu import process_tree
from harness.load.profiles import find_profile
from harness.load.runner import run_profile
from harness.load.schedule import Step
from harness.load.target import Target
from tests.integration.realtime.server import RealtimeServer

SMALL = replace(find_profile("smoke"), subscribers=8, steps=(Step(40, 1.0),))
ENDLESS = replace(find_profile("smoke"), subscribers=8, steps=(Step(40, 600.0),))


def generators() -> list[int]:
    return [
        pid
        for pid in process_tree((os.getpid(),))
        if b"harness.load.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_profile_runs_in_processes_of_its_own(
    target: Target, workers: int
) -> None:
    events: list[Event] = []
    step = await run_profile(
        SMALL, target, seed=3, emit=events.append, phase="x.load", workers=workers
    )
    assert step.subscribers == 8
    assert (step.expected, step.delivered, step.lost) == (320, 320, 0)
    assert step.latency.count == 320
    assert step.generator_cpu_s > 0
    checks = [event for event in events if isinstance(event, CheckFinished)]
    assert {check.outcome for check in checks} == {"passed"}
    assert len({check.check for check in checks}) == 5
    assert [event for event in events if isinstance(event, LoadStepFinished)] == [step]
    assert {event.phase for event in events if isinstance(event, Progress)} == {
        "x.load"
    }
    assert generators() == []


async def test_a_refusal_crosses_the_process_with_its_hint(target: Target) -> None:
    stranger = replace(target, anon_key="nonsense")
    with pytest.raises(StackError, match="not every client could join") as caught:
        await run_profile(SMALL, stranger, seed=3, emit=print)
    assert caught.value.hint
    assert generators() == []


async def test_cancelling_stops_the_generator_and_cleans_the_database(
    target: Target, server: RealtimeServer
) -> None:
    profile = replace(ENDLESS, kind="changes")
    await _until_sending(profile, target, lambda task: task.cancel(), workers=1)
    assert generators() == []
    await server.sql(
        """do $$ begin
          assert not exists (select from pg_tables where tablename like 'load%'),
            'a table is left';
        end $$"""
    )


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_killed_generator_is_an_error_and_no_result(
    target: Target, workers: int
) -> None:
    def kill_one(task: asyncio.Task[LoadStepFinished]) -> None:
        os.kill(generators()[-1], signal.SIGKILL)

    with pytest.raises(StackError, match=r"generator ended with status -9"):
        await _until_sending(ENDLESS, target, kill_one, workers=workers)
    assert generators() == []


async def _until_sending(
    profile: object,
    target: Target,
    act: Callable[[asyncio.Task[LoadStepFinished]], object],
    *,
    workers: int,
) -> None:
    """Run until deliveries are reported, act, and wait for the end."""
    is_sending = asyncio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.done >= 1:
            is_sending.set()

    running = asyncio.create_task(
        run_profile(profile, target, seed=3, emit=watch, workers=workers)
    )
    async with asyncio.timeout(60):
        await is_sending.wait()
        act(running)
        try:
            await running
        except asyncio.CancelledError:
            assert running.cancelled()
