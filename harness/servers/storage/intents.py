"""The write-ahead list of bytes that may have no row, and the sweep that settles it.

A version is noted in ``_storage.intents`` in the transaction that permits or records
the change, and taken off when bytes and row agree.  Whatever is noted and not in the
hands of this process belongs to one that died: its bytes go, then its note.  One server
process at a time serves a project.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from harness.clock import Clock
from harness.servers.storage.backend import Backend, ObjectRef
from harness.servers.storage.connections import Connections
from harness.servers.storage.errors import StorageError
from harness.servers.storage.faultpoints import FaultPoints

__all__ = ["Intents"]

logger = logging.getLogger(__name__)

FLUSH_AFTER_S: Final = 0.05  # notes are taken off many at once
SWEEP_AGAIN_S: Final = 5.0  # while something is unsettled

# A server that died may still have a statement running: waiting for its row locks
# decides whether it finished.
SWEEP: Final = """
    select i.version, i.bucket_id, i.name, o.version is not null as in_use
    from _storage.intents i left join storage.objects o
      on o.bucket_id = i.bucket_id and o.name = i.name and o.version = i.version
    where not i.version = any($1)
    limit 500 for update of i
"""


class Intents:
    """What this process is writing or removing, and what others left behind."""

    def __init__(
        self,
        connections: Connections,
        backend: Backend,
        faults: FaultPoints,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._connections = connections
        self._backend = backend
        self._faults = faults
        self._live: set[str] = set()
        self._done: list[str] = []
        self._flushing: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def begin(self, version: str) -> None:
        """Take ``version`` in hand, before the database notes it."""
        self._live.add(version)

    async def note(self, ref: ObjectRef) -> None:
        """Note that ``ref`` will be written, in a transaction of its own."""
        await self._connections.execute(
            "insert into _storage.intents (version, kind, bucket_id, name) "
            "values ($1, 'write', $2, $3) on conflict do nothing",
            ref.version,
            ref.bucket,
            ref.name,
        )

    def forget(self, version: str) -> None:
        """Let go of ``version``: its note is gone, or was never made."""
        self._live.discard(version)

    async def removed(self, refs: Iterable[ObjectRef]) -> None:
        """Remove bytes that are noted for removal, then their notes; now or later."""
        refs = list(refs)
        versions = [ref.version for ref in refs]
        self._live.update(versions)
        try:
            await self._backend.remove(refs)
        except (OSError, StorageError) as exc:
            # What the caller wanted is done; the sweep removes the rest later.
            logger.warning("bytes could not be removed yet: %s", exc)
            self._live.difference_update(versions)
            self.sweep_later()
            return
        self._take_off(versions)

    async def abandon(self, ref: ObjectRef, cause: BaseException) -> None:
        """Give up writing ``ref``: remove its bytes unless it may have succeeded."""
        unsure = isinstance(cause, StorageError) and cause.code == "DatabaseTimeout"
        if unsure or isinstance(cause, asyncio.CancelledError):
            # Only the database knows whether the row was written: the sweep asks it.
            self._live.discard(ref.version)
            self.sweep_later()
            return
        await self.removed([ref])

    async def sweep(self) -> int:
        """Settle what is noted and not in hand; return how many versions that were."""
        settled = 0
        while count := await self._sweep_batch():
            settled += count
        return settled

    async def _sweep_batch(self) -> int:
        async with (
            self._connections.connection() as connection,
            connection.transaction(),
        ):
            rows = await connection.fetch(SWEEP, list(self._live))
            await self._backend.remove(
                ObjectRef(row["bucket_id"], row["name"], row["version"])
                for row in rows
                if not row["in_use"]
            )
            self._faults.hit("sweep.removed")
            await connection.execute(
                "delete from _storage.intents where version = any($1)",
                [row["version"] for row in rows],
            )
        return len(rows)

    def sweep_later(self) -> None:
        """Sweep soon, and again until the database answers."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep_until_settled())

    async def close(self) -> None:
        """Take the last notes off."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping
        if self._flushing is not None:
            self._flushing.cancel()
            with suppress(asyncio.CancelledError):
                await self._flushing
        try:
            await self._flush()
        except StorageError as exc:
            logger.warning("notes stay for the next sweep: %s", exc)

    def _take_off(self, versions: list[str]) -> None:
        self._done.extend(versions)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        await self._clock.sleep(FLUSH_AFTER_S)
        self._flushing = None
        try:
            await self._flush()
        except StorageError as exc:
            logger.warning("notes could not be taken off yet: %s", exc)
            self.sweep_later()

    async def _flush(self) -> None:
        done, self._done = self._done, []
        if not done:
            return
        try:
            await self._connections.execute(
                "delete from _storage.intents where version = any($1)", done
            )
        finally:
            self._live.difference_update(done)

    async def _sweep_until_settled(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_AGAIN_S)
            try:
                await self.sweep()
            except StorageError as exc:
                logger.warning("sweep put off: %s", exc)
                continue
            return
