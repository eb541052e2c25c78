"""A pool on an operating-system thread with an event loop of its own.

Locust's users are greenlets, and a greenlet a client stops at some 11,000 messages a
second and core; so one user owns one thread, and the thread owns all clients.  The two
sides share nothing but this object: progress in a queue, a few flags, one result.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvloop

from harness.errors import HarnessError
from harness.load.pool import LoadPool
from harness.load.profiles import LoadProfile
from harness.load.step_report import PoolProgress, StepReport
from harness.load.target import Target

__all__ = ["PoolJob", "PoolThread"]

StartThread = Callable[[Callable[[], None], tuple[()]], Any]
MAX_PROGRESS = 1000  # a reader that stopped must not fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolJob:
    """What a pool is to do; the fields are those of :class:`LoadPool`."""

    profile: LoadProfile
    target: Target
    seed: int
    name: str
    reconnects: bool = False


class PoolThread:
    """Runs a job; every attribute may be read from any thread.

    ``is_live`` is set once every client has joined, ``is_done`` when nothing runs any
    more; then either ``reports`` or ``failure`` is set, neither after a cancellation.
    """

    def __init__(self, job: PoolJob) -> None:
        self._job = job
        self._loop = uvloop.new_event_loop()
        self._go = asyncio.Event()
        self._task: asyncio.Task[list[StepReport]] | None = None
        self._is_cancelled = False
        self.progress: collections.deque[PoolProgress] = collections.deque(
            maxlen=MAX_PROGRESS
        )
        self.is_live = False
        self.is_done = False
        self.reports: list[StepReport] | None = None
        self.failure: HarnessError | None = None

    def start(self, start_new_thread: StartThread) -> None:
        """Begin; ``start_new_thread`` must start a real thread, not a greenlet."""
        start_new_thread(self._main, ())

    def begin_steps(self) -> None:
        """Let the steps begin; they wait for it once everybody is live."""
        self._loop.call_soon_threadsafe(self._go.set)

    def cancel(self) -> None:
        """Stop early: the pool disconnects and removes what it made."""
        if not self.is_done:
            self._loop.call_soon_threadsafe(self._cancel)

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except HarnessError as exc:
            self.failure = exc
        except asyncio.CancelledError:
            pass  # asked for by cancel()
        except BaseException as exc:
            # No caller sees what this thread raises; it is told instead.
            self.failure = HarnessError(f"the load pool failed: {exc!r}")
            raise
        finally:
            self._loop.close()
            self.is_done = True

    async def _run(self) -> None:
        job = self._job
        pool = LoadPool(
            job.profile,
            job.target,
            seed=job.seed,
            name=job.name,
            progress=self.progress.append,
            all_live=self._wait_for_go,
            reconnects=job.reconnects,
        )
        self._task = asyncio.create_task(pool.run())
        if self._is_cancelled:
            self._task.cancel()
        self.reports = await self._task

    async def _wait_for_go(self) -> None:
        self.is_live = True
        await self._go.wait()

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
