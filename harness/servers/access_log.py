"""One line of JSON for every request and every operation a service reports.

A line is written with one system call on a file opened for appending, so that it is
there when the answer is, and whole when several writers share the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

__all__ = ["AccessLog"]


LINE = orjson.OPT_APPEND_NEWLINE


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
            os.write(self._fd, _line(record))

    def close(self) -> None:
        """Close the file; later records go nowhere."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(record, default=_text, option=LINE)
    except orjson.JSONEncodeError:
        # A header may hold bytes that are no UTF-8; JSON can tell of them in escapes.
        return json.dumps(record, default=_text).encode() + b"\n"


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
