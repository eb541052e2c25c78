"""One line of JSON for every request and every operation a service reports.

A line is written with one system call on a file opened for appending, so that it is
there when the answer is, and whole when several writers share the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

__all__ = ["AccessLog"]


class AccessLog:
    """Appends records to a file; without a path it is off and costs nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self._fd = -1
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o600)

    @property
    def enabled(self) -> bool:
        """Whether records go anywhere."""
        return self._fd >= 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Append ``record`` as one line."""
        if self._fd >= 0:
            line = orjson.dumps(record, default=str, option=orjson.OPT_APPEND_NEWLINE)
            os.write(self._fd, line)

    def close(self) -> None:
        """Close the file; later records go nowhere."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
