"""What a report writer is, and the stream that feeds all of them.

Writers know nothing of each other and nothing of what produced the events.  An event
goes to every writer in order; a writer whose file cannot be written stops the run
with a :class:`harness.errors.ReportError` instead of passing in silence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from harness.clock import Clock
from harness.errors import ReportError
from harness.events import Event

__all__ = ["EventStream", "Writer"]


class Writer(Protocol):
    """Reads the events of one run and writes them in one form."""

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        ...

    def close(self) -> None:
        """Finish; also called when the run was cut short, and then without an end."""
        ...


class EventStream:
    """Stamps events with the time since the run started and hands them to writers."""

    def __init__(self, writers: Sequence[Writer], clock: Clock) -> None:
        self._writers = list(writers)
        self._clock = clock
        self._started_s = clock.monotonic_s()

    def emit(self, event: Event) -> None:
        """Hand ``event`` to every writer; ``at`` is set unless the sender set it."""
        stamped = event if event.at else self._stamp(event)
        for writer in self._writers:
            try:
                writer.on_event(stamped)
            except OSError as exc:
                raise _not_written(exc) from exc

    def close(self) -> None:
        """Close every writer, then raise what the first of them could not write."""
        failures: list[OSError] = []
        for writer in self._writers:
            try:
                writer.close()
            except OSError as exc:
                failures.append(exc)
        if failures:
            raise _not_written(failures[0]) from failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stamp(self, event: Event) -> Event:
        elapsed_s = self._clock.monotonic_s() - self._started_s
        return dataclasses.replace(event, at=round(elapsed_s, 6))


def _not_written(exc: OSError) -> ReportError:
    where = f" {exc.filename}" if exc.filename else ""
    return ReportError(
        f"cannot write the report{where}: {exc.strerror or exc}",
        hint="choose another folder with --reports DIR, or free some space",
    )
