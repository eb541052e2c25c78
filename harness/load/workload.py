"""What one kind of load does: who joins what, what is sent, whose messages they are.

A workload numbers its streams; a stream of a step belongs to that step alone, so that
a straggler of one step is never taken for a message of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.load.histogram import LatencyHistogram

__all__ = ["Member", "Outgoing", "Workload"]


@dataclass(frozen=True, slots=True)
class Member:
    """A subscriber to be: its topic, the config of its join, and its token."""

    topic: str
    config: Mapping[str, Any]
    access_token: str = ""


@dataclass(slots=True)
class Outgoing:
    """What a step sent: messages by stream, and how late the generator was.

    ``ended_at`` has the streams whose subscriber lost the right to them, with the
    number of the first message that was sent afterwards.
    """

    sent: dict[int, int] = field(default_factory=dict)
    ended_at: dict[int, int] = field(default_factory=dict)
    lag: LatencyHistogram = field(default_factory=LatencyHistogram)

    def next_number(self, stream: int) -> int:
        """Return the number of the next message of ``stream`` and count it."""
        number = self.sent.get(stream, 0)
        self.sent[stream] = number + 1
        return number

    def end(self, stream: int) -> None:
        """Note that nobody has a right to what ``stream`` carries from now on."""
        self.ended_at[stream] = self.sent.get(stream, 0)

    @property
    def total(self) -> int:
        """How many messages were sent."""
        return sum(self.sent.values())


class Workload(Protocol):
    """One kind of load, made for one profile and target."""

    members: Sequence[Member]

    async def prepare(self) -> None:
        """Make what the load needs (tables, policies) before anybody joins."""
        ...

    async def connect_senders(self) -> None:
        """Open what sends, once every member is live."""
        ...

    def stream_of(self, step: int, member: int) -> int:
        """Return the only stream that ``member`` may see in ``step``."""
        ...

    async def send(
        self, step: int, due_s: Sequence[float], start_ns: int, outgoing: Outgoing
    ) -> None:
        """Send one message at each due time after ``start_ns`` (monotonic clock)."""
        ...

    def heartbeat(self) -> None:
        """Keep the senders' connections alive; called every few seconds."""
        ...

    async def close(self) -> None:
        """Close the senders and remove what :meth:`prepare` made."""
        ...
