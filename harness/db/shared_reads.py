"""Reads of many requests over few connections, several of them in one write.

What costs of a small read is not its work but its round trip: two system calls and a
wake-up on either side.  Reads that are asked for in the same turn of the event loop go
out together, each as its own transaction, and their answers come back together.  A read
behind a slow one would have to wait for it, so that only those share a connection whose
statements were brief when they last ran, and only :data:`SHARED` at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from psycopg import pq

from harness.db.pipeline import (
    Batch,
    ConnectionLostError,
    Pipeline,
    PipelinePool,
    PoolTimeoutError,
    Statement,
)

__all__ = ["SharedReads"]

SHARED: Final = 4  # batches a connection is given at once
BRIEF_S: Final = 0.01  # a batch that took longer runs alone the next time
KEPT_BRIEF: Final = 2000  # statements that are known to be brief


class SharedReads:
    """Runs batches that change nothing, and so may be run again, on a pool."""

    def __init__(self, pool: PipelinePool) -> None:
        self._pool = pool
        self._waiting: deque[Batch] = deque()
        self._running: dict[Pipeline, list[Batch]] = {}
        self._began_s: dict[Pipeline, float] = {}
        self._brief: set[str] = set()
        self._soon = False
        self._acquiring: asyncio.Task[None] | None = None

    async def run(
        self, statements: Sequence[Statement], *, scope: str = ""
    ) -> list[pq.abc.PGresult]:
        """Run ``statements`` as one transaction and return one result for each.

        A connection that is found dead is replaced.  Raises what
        :meth:`Pipeline.run` and :meth:`PipelinePool.acquire` raise.
        """
        loop = asyncio.get_running_loop()
        batch = Batch(statements, scope, loop)
        self._waiting.append(batch)
        if not self._soon:
            self._soon = True
            loop.call_soon(self._start_waiting)
        try:
            return await batch.done
        except ConnectionLostError as exc:
            if not exc.reused:
                raise
        except asyncio.CancelledError:
            self._give_up(batch)
            raise
        self._pool.drop_idle()
        async with self._pool.connection() as pipeline:
            return await pipeline.run(statements, scope=scope)

    def _start_waiting(self) -> None:
        """Give the batches that wait to connections that are free."""
        self._soon = False
        while self._waiting:
            pipeline = None if self._pool.contended else self._pool.take()
            if pipeline is None:
                if self._acquiring is None:
                    loop = asyncio.get_running_loop()
                    self._acquiring = loop.create_task(self._acquire())
                return
            self._start(pipeline)

    async def _acquire(self) -> None:
        try:
            pipeline = await self._pool.acquire()
        except (ConnectionLostError, PoolTimeoutError) as exc:
            # Whoever came while the pool was asked would be told the same.
            waiting, self._waiting = self._waiting, deque()
            for batch in waiting:
                if not batch.done.done():
                    batch.done.set_exception(exc)
            return
        finally:
            self._acquiring = None
        self._start(pipeline)
        self._start_waiting()

    def _start(self, pipeline: Pipeline) -> None:
        batches = self._next_batches(pipeline)
        if not batches:
            self._pool.release(pipeline)
            return
        pipeline.on_batch = self._ended
        self._running[pipeline] = list(batches)
        self._began_s[pipeline] = pipeline.loop_time_s()
        pipeline.start(batches)

    def _next_batches(self, pipeline: Pipeline) -> list[Batch]:
        """Take the batch that waits longest, and what may go with it."""
        batches: list[Batch] = []
        waiting = self._waiting
        while waiting and len(batches) < SHARED:
            batch = waiting[0]
            if batch.done.done():
                waiting.popleft()  # nobody waits for it any more
                continue
            alone = not self._may_share(batch, pipeline)
            if alone and batches:
                break
            batches.append(waiting.popleft())
            if alone:
                break
        return batches

    def _may_share(self, batch: Batch, pipeline: Pipeline) -> bool:
        return batch.statements[-1].sql in self._brief and pipeline.has_prepared(batch)

    def _ended(self, pipeline: Pipeline, batch: Batch) -> None:
        now_s = pipeline.loop_time_s()
        self._note(batch.statements[-1].sql, now_s - self._began_s[pipeline])
        self._began_s[pipeline] = now_s
        running = self._running[pipeline]
        running.remove(batch)
        if running:
            return
        pipeline.on_batch = None
        del self._running[pipeline], self._began_s[pipeline]
        self._pool.release(pipeline)
        if self._waiting:
            self._start_waiting()

    def _note(self, sql: str, took_s: float) -> None:
        if took_s > BRIEF_S:
            self._brief.discard(sql)
        elif sql not in self._brief:
            if len(self._brief) >= KEPT_BRIEF:
                self._brief.clear()
            self._brief.add(sql)

    def _give_up(self, batch: Batch) -> None:
        """End the connection of a batch if nobody waits for any other on it."""
        for pipeline, running in list(self._running.items()):
            if batch in running and all(other.done.done() for other in running):
                pipeline.close()
