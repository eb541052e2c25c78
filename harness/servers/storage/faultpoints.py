"""The places where a crash is interesting, by name; inert unless one is armed.

A test starts the server with ``storage.fault_point`` set to a name of
:data:`FAULT_POINTS`, optionally ``name:N`` for the N-th time it is passed.  The process
then ends as by power loss: SIGKILL, no handlers, no flush.  With the setting
``fault_action`` ``stop`` it halts there instead (SIGSTOP), so that something else, as
the database, can be made to fail before SIGCONT.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from harness.errors import ConfigError

__all__ = ["FAULT_POINTS", "FaultPoints"]

FAULT_POINTS: Final = (
    "upload.permitted",
    "upload.staged",
    "upload.stored",
    "upload.recorded",
    "upload.replaced",
    "copy.permitted",
    "copy.stored",
    "copy.recorded",
    "move.permitted",
    "move.stored",
    "move.recorded",
    "move.removed",
    "delete.recorded",
    "delete.removed",
    "tus.created",
    "tus.patched",
    "tus.noted",
    "multipart.created",
    "multipart.part_stored",
    "multipart.part_recorded",
    "multipart.joined",
    "multipart.completed",
    "sweep.removed",
)
SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class FaultPoints:
    """Counts passages of one armed point and ends or halts the process there."""

    def __init__(self, armed: str = "", action: str = "kill") -> None:
        name, _, nth = armed.partition(":")
        if name and (name not in FAULT_POINTS or not (nth or "1").isdigit()):
            raise ConfigError(f"unknown fault point: {armed!r}")
        if action not in SIGNALS:
            raise ConfigError(f"unknown fault action: {action!r}")
        self._name = name
        self._left = int(nth or "1")
        self._signal = SIGNALS[action]

    def hit(self, name: str) -> None:
        """Pass the point ``name``; once, at the armed one, the process is struck."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)
