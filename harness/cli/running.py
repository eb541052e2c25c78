"""Running a coroutine as a command: one event loop, Ctrl-C that cleans up.

The first Ctrl-C cancels the task, whose ``async with`` blocks stop the stack.  A second
one ends the process at once; the keeper then does the clean-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

__all__ = ["run_async"]

T = TypeVar("T")


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` on a uvloop event loop and return its result."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
