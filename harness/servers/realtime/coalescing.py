"""One answer for all who ask the same at the same time, and never a stale one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Coalesced"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Coalesced(Generic[K, V]):
    """Calls ``work`` once for all callers that wait for the same key.

    Only those who asked before ``work`` began take its answer or its exception; who
    comes later waits for the next call.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[V]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._work = work
        self._spawn = spawn
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        self._running: set[K] = set()

    async def ask(self, key: K) -> V:
        """Return what ``work`` answers, from a call that begins after this one."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        if key not in self._running:
            self._running.add(key)
            self._spawn(self._serve(key))
        return await answer

    async def _serve(self, key: K) -> None:
        try:
            while waiting := self._waiting.pop(key, None):
                await self._answer(key, waiting)
        finally:
            self._running.discard(key)

    async def _answer(self, key: K, waiting: list[asyncio.Future[V]]) -> None:
        try:
            value = await self._work(key)
        except asyncio.CancelledError:
            for future in waiting:
                future.cancel()
            raise
        except Exception as exc:
            # Whatever went wrong is the callers' to handle: each of them gets it.
            for future in waiting:
                if not future.done():
                    future.set_exception(exc)
            return
        for future in waiting:
            if not future.done():
                future.set_result(value)
