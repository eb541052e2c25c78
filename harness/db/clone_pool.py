"""Clones of a template made ahead of time, so that taking one costs about nothing.

A background task keeps a few clones ready.  While they wait their names carry the id
of the pool; an advisory lock on that id, held as long as the pool lives, tells other
clients of the server that they are not abandoned, and opening a pool drops those that
are.  Taking a clone renames it: from then on it belongs to who took it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Self

from harness.db.address import DatabaseAddress
from harness.db.templates import TemplateStore, clone_name

__all__ = ["ClonePool"]

POOL_PREFIX = "harness_pool_"
POOL_NAME = re.compile(rf"^{POOL_PREFIX}([0-9a-f]{{8}})_\d+$")
DEFAULT_SIZE = 3
# Pools share the space of advisory locks with builds and migrations.
LOCK_SPACE = 1 << 40


class ClonePool:
    """Ready clones of one template; ``async with ClonePool(store, template)``.

    The pool opens connections of its own: one prepares while another hands out.
    """

    def __init__(
        self, store: TemplateStore, template: str, *, size: int = DEFAULT_SIZE
    ) -> None:
        self._preparer = store.sibling()
        self._giver = store.sibling()
        self._template = template
        self._id = secrets.token_hex(4)
        # One more waits in the task's hands until there is room.
        self._ready: asyncio.Queue[str] = asyncio.Queue(max(1, size - 1))
        self._preparing: asyncio.Task[None] | None = None
        self._handing_out = asyncio.Lock()

    async def open(self) -> None:
        """Clear what dead pools left and begin to prepare clones."""
        await self._preparer.open()
        await self._giver.open()
        await self._giver.try_lock(_lock_key(self._id))
        await self._drop_abandoned()
        self._preparing = asyncio.create_task(self._prepare(), name="clone pool")

    async def close(self) -> None:
        """Stop preparing and drop what was not taken."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
            self._preparing = None
            for name in await self._giver.databases(f"{POOL_PREFIX}{self._id}_"):
                await self._giver.drop(name)
        await self._preparer.close()
        await self._giver.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def take(self, name: str | None = None) -> DatabaseAddress:
        """Return a fresh database (called ``name``), waiting if none is ready.

        Raises what stopped the preparation, if something did.
        """
        waiting = await self._next()
        name = name or clone_name()
        async with self._handing_out:
            await self._giver.rename(waiting, name)
        return self._giver.address(name)

    async def _next(self) -> str:
        if not self._ready.empty():
            return self._ready.get_nowait()
        if self._preparing is None:
            raise RuntimeError("the clone pool is not open")
        arrival = asyncio.create_task(self._ready.get())
        try:
            await asyncio.wait(
                {arrival, self._preparing}, return_when=asyncio.FIRST_COMPLETED
            )
            if not arrival.done():
                self._preparing.result()
            return await arrival
        finally:
            arrival.cancel()

    async def _prepare(self) -> None:
        made = 0
        while True:
            name = f"{POOL_PREFIX}{self._id}_{made}"
            await self._preparer.clone(self._template, name)
            await self._ready.put(name)
            made += 1

    async def _drop_abandoned(self) -> None:
        for name in await self._giver.databases(POOL_PREFIX):
            match = POOL_NAME.match(name)
            if match is None or match[1] == self._id:
                continue
            key = _lock_key(match[1])
            if await self._giver.try_lock(key):
                await self._giver.drop(name)
                await self._giver.unlock(key)


def _lock_key(pool_id: str) -> int:
    return LOCK_SPACE + int(pool_id, 16)
