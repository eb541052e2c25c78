"""Processes that end or stop at the worst moment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from harness.errors import StackError

__all__ = ["is_running", "kill_processes", "paused"]

KILL_TIMEOUT_S = 10.0
PROC = Path("/proc")


async def kill_processes(pids: Iterable[int]) -> None:
    """End processes with SIGKILL and wait until they are gone or zombies.

    Raises :class:`StackError` if one survives, as in uninterruptible sleep.
    """
    wanted = list(pids)
    for pid in wanted:
        _send(pid, signal.SIGKILL)
    try:
        async with asyncio.timeout(KILL_TIMEOUT_S):
            for pid in wanted:
                await _ended(pid)
    except TimeoutError as exc:
        left = [pid for pid in wanted if is_running(pid)]
        raise StackError(f"processes {left} survived SIGKILL") from exc


@asynccontextmanager
async def paused(pids: Iterable[int]) -> AsyncIterator[None]:
    """Stop processes in place while the block runs, then let them go on."""
    wanted = list(pids)
    try:
        for pid in wanted:
            _send(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in wanted:
            _send(pid, signal.SIGCONT)


def is_running(pid: int) -> bool:
    """Say whether ``pid`` exists and is more than a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    # proc(5): the state follows the command name, which stands in parentheses.
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, number)


async def _ended(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)  # readable once it is a zombie
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
