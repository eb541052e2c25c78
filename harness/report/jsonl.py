"""``events.jsonl``: every event as one line, on disk before the next one happens."""

from __future__ import annotations

from pathlib import Path

from harness.events import Event, Progress, encode_event

__all__ = ["JsonlWriter"]


class JsonlWriter:
    """Appends events to a file, unbuffered: a killed run keeps what it had said."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def on_event(self, event: Event) -> None:
        """Write one line; progress is for the eye only and not kept."""
        if not isinstance(event, Progress):
            self._file.write(encode_event(event))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
