"""The event stream: stamps, fans out, and never swallows a write that failed."""

import asyncio
import dataclasses
import errno

import pytest

from harness.clock import ManualClock
from harness.errors import ReportError
from harness.events import Event, PhaseStarted
from harness.report.writers import EventStream

PHASE = PhaseStarted(phase="p", title="P")


class Memory:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = False

    def on_event(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class FullDisk(Memory):
    """Fails as a full disk does."""

    def on_event(self, event: Event) -> None:
        """Fail."""
        raise OSError(errno.ENOSPC, "No space left on device", "events.jsonl")

    def close(self) -> None:
        """Fail."""
        raise OSError(errno.ENOSPC, "No space left on device", "index.html")


def test_events_are_stamped_with_the_time_since_the_start() -> None:
    clock, memory = ManualClock(), Memory()
    with EventStream([memory], clock) as stream:
        asyncio.run(clock.advance(2.5))
        stream.emit(PHASE)
        stream.emit(dataclasses.replace(PHASE, at=1.0))
    assert [event.at for event in memory.events] == [2.5, 1.0]
    assert memory.closed


def test_a_full_disk_is_an_error_with_a_hint() -> None:
    stream = EventStream([FullDisk()], ManualClock())
    with pytest.raises(ReportError, match=r"events\.jsonl: No space left") as caught:
        stream.emit(PHASE)
    assert "--reports" in (caught.value.hint or "")


def test_every_writer_is_closed_though_one_fails() -> None:
    memory = Memory()
    stream = EventStream([FullDisk(), memory], ManualClock())
    with pytest.raises(ReportError, match=r"index\.html"):
        stream.close()
    assert memory.closed
