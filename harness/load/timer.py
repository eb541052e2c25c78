"""Waits that end within tens of microseconds of their time.

The timers of an event loop count in milliseconds, which would add up to one to every
latency that is measured from the intended send time.  On Linux a ``timerfd`` wakes the
loop through its selector instead; elsewhere the loop's own timer has to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from types import TracebackType
from typing import Self

__all__ = ["PreciseTimer"]

CLOCK_MONOTONIC = 1  # as <time.h> numbers it on Linux
TFD_NONBLOCK = os.O_NONBLOCK
TFD_TIMER_ABSTIME = 1
NS = 1_000_000_000


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class PreciseTimer:
    """Sleeps until a moment of :func:`time.monotonic_ns`; ``async with`` closes it."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True) if _has_timerfd() else None
        self._fd = -1
        self._woken: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        if self._libc is not None:
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
            if self._fd < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), "timerfd")
            asyncio.get_running_loop().add_reader(self._fd, self._wake)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    async def until_ns(self, moment_ns: int) -> None:
        """Wait until the monotonic clock shows ``moment_ns``."""
        left_ns = moment_ns - time.monotonic_ns()
        if left_ns <= 0:
            return
        if self._libc is None:
            await asyncio.sleep(left_ns / NS)
            return
        self._woken = asyncio.get_running_loop().create_future()
        spec = _Itimerspec(0, 0, moment_ns // NS, moment_ns % NS)
        self._libc.timerfd_settime(
            self._fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None
        )
        await self._woken

    def _wake(self) -> None:
        os.read(self._fd, 8)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


def _has_timerfd() -> bool:
    return sys.platform == "linux"
