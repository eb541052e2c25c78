"""The places where a crash is interesting, by name; inert unless one is armed.

A test starts the server with ``storage.fault_point`` set to a name of
:data:`FAULT_POINTS`, optionally ``name:N`` for the N-th time it is passed.  The process
then ends as by power loss: SIGKILL, no handlers, no flush.
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


class FaultPoints:
    """Counts passages of one armed point and ends the process at the right one."""

    def __init__(self, armed: str = "") -> None:
        name, _, nth = armed.partition(":")
        if name and (name not in FAULT_POINTS or not (nth or "1").isdigit()):
            raise ConfigError(f"unknown fault point: {armed!r}")
        self._name = name
        self._left = int(nth or "1")

    def hit(self, name: str) -> None:
        """Pass the point ``name``; does not return when it is the armed one."""
        if name != self._name:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
