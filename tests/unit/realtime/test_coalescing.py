"""Callers share an answer only when it was asked for after they came."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from harness.servers.realtime.coalescing import Coalesced


class Work:
    """Counts its calls and waits for the test."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.error: Exception | None = None

    async def __call__(self, key: str) -> int:
        """Return the number of the call once the gate is open."""
        self.calls.append(key)
        number = len(self.calls)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` as the service does."""
        self.tasks.append(asyncio.get_running_loop().create_task(work))


async def started(*asking: Coroutine[Any, Any, int]) -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(one) for one in asking]
    await asyncio.sleep(0)  # let each of them ask
    await asyncio.sleep(0)  # and the work begin
    return tasks


async def test_who_comes_during_a_call_shares_the_next_one() -> None:
    work = Work()
    shared = Coalesced(work, work.spawn)
    first = await started(shared.ask("a"))
    later = await started(shared.ask("a"), shared.ask("a"), shared.ask("b"))
    work.gate.set()
    assert await asyncio.gather(*first, *later) == [1, 3, 3, 2]
    assert work.calls == ["a", "b", "a"]


async def test_an_error_reaches_all_who_waited_and_nobody_else() -> None:
    work = Work()
    shared = Coalesced(work, work.spawn)
    asking = await started(shared.ask("a"), shared.ask("a"))
    work.error = ValueError("no")
    work.gate.set()
    for task in asking:
        with pytest.raises(ValueError, match="no"):
            await task
    work.error = None
    assert await shared.ask("a") == 2
