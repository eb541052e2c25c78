"""Waiting for a condition with a deadline, instead of for some time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["until"]

POLL_INTERVAL_S = 0.01


async def until(
    condition: Callable[[], object], what: str, *, timeout_s: float = 5.0
) -> Any:
    """Return the first true result of ``condition``, which may be awaitable.

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
