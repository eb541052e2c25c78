"""Waiting for a condition with a deadline, instead of for some time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["until"]

POLL_INTERVAL_S = 0.01
T = TypeVar("T")


async def until(
    condition: Callable[[], T | Awaitable[T]], what: str, *, timeout_s: float = 5.0
) -> T:
    """Return the first true result of ``condition``.

    Raises :class:`AssertionError` naming ``what`` once ``timeout_s`` have passed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(POLL_INTERVAL_S)
