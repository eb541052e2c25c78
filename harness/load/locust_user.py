"""The Locust side: one user a worker process, which owns a pool on a real thread.

The user's greenlet only looks in twice a second: it moves the latencies into Locust's
statistics and passes progress and results on as Locust messages, so that a master sees
all of it.  :mod:`harness.load.worker` sets ``job`` and runs the user headless.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import gevent
import locust
from gevent import monkey
from locust.stats import StatsEntry

from harness.load.pool_thread import PoolJob, PoolThread
from harness.load.step_report import PoolProgress

__all__ = ["FAILED", "GO", "LIVE", "PROGRESS", "REPORTS", "PoolUser"]

LOOK_S = 0.1
STOP_TIMEOUT_S = 20.0
LIVE = "pool_live"
GO = "pool_go"
PROGRESS = "pool_progress"
REPORTS = "pool_reports"
FAILED = "pool_failed"


class PoolUser(locust.User):
    """The one user of a worker; ``running`` are the pools of this process."""

    fixed_count = 1
    wait_time = locust.constant(0)
    job: ClassVar[PoolJob]
    running: ClassVar[list[PoolThread]] = []

    def on_start(self) -> None:
        """Start the pool."""
        self.pool = PoolThread(self.job)
        self.running.append(self.pool)
        self._was_live = False
        self.environment.runner.register_message(GO, self._on_go)
        # Under Locust's own command the module's names are greenlets; this one never.
        self.pool.start(monkey.get_original("_thread", "start_new_thread"))

    def on_stop(self) -> None:
        """Cancel a pool that still runs, and wait until it has cleaned up."""
        self.pool.cancel()
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while not self.pool.is_done and time.monotonic() < deadline_s:
            gevent.sleep(LOOK_S)

    @locust.task
    def look_in(self) -> None:
        """Move what the pool has to say, until it is done."""
        gevent.sleep(LOOK_S)
        pool, send = self.pool, self.environment.runner.send_message
        if pool.is_live and not self._was_live:
            self._was_live = True
            send(LIVE, {})
        while pool.progress:
            progress = pool.progress.popleft()
            self._count(progress.slice_ms)
            send(PROGRESS, _progress_record(progress))
        if not pool.is_done:
            return
        if pool.failure is not None:
            failure = pool.failure
            record = {"message": str(failure), "hint": failure.hint}
            send(FAILED, {**record, "exit_code": failure.exit_code})
        elif pool.reports is not None:
            send(REPORTS, {"reports": [r.to_record() for r in pool.reports]})
        raise locust.exception.StopUser

    def _on_go(self, environment: Any, msg: Any) -> None:
        self.pool.begin_steps()

    def _count(self, slice_ms: Mapping[int, int]) -> None:
        if not slice_ms:
            return
        stats = self.environment.stats
        piece = _stats_piece(stats, self.job.profile.name, slice_ms)
        stats.get(self.job.profile.name, "WS").extend(piece)
        stats.total.extend(piece)


def _progress_record(progress: PoolProgress) -> dict[str, Any]:
    return {
        "step": progress.step,
        "steps": progress.steps,
        "elapsed_s": progress.elapsed_s,
        "duration_s": progress.duration_s,
        "delivered": progress.delivered,
        "p99_ms": progress.p99_ms,
    }


def _stats_piece(stats: Any, name: str, slice_ms: Mapping[int, int]) -> Any:
    """Return Locust's own record of many responses at once."""
    now_s = time.time()
    piece = StatsEntry(stats, name, "WS")
    piece.num_requests = sum(slice_ms.values())
    piece.total_response_time = sum(ms * count for ms, count in slice_ms.items())
    piece.min_response_time = min(slice_ms)
    piece.max_response_time = max(slice_ms)
    piece.response_times.update(slice_ms)
    piece.num_reqs_per_sec[int(now_s)] = piece.num_requests
    piece.last_request_timestamp = now_s
    return piece
