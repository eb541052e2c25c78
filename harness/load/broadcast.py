"""Broadcast load: one publisher a topic, whose messages every member gets."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.load.phoenix_client import PhoenixClient
from harness.load.probe import broadcast_payload
from harness.load.profiles import LoadProfile
from harness.load.target import Target
from harness.load.timer import PreciseTimer
from harness.load.workload import Member, Outgoing

__all__ = ["BroadcastLoad"]

EVENT = "load"
US = 1000


class BroadcastLoad:
    """A public topic for each group of members; ``name`` keeps runs apart."""

    def __init__(self, profile: LoadProfile, target: Target, *, name: str) -> None:
        self._profile = profile
        self._target = target
        self._topics = [f"realtime:{name}-{i}" for i in range(profile.topics)]
        self._publishers: list[PhoenixClient] = []
        config = {"broadcast": {"self": False, "ack": False}}
        self.members: Sequence[Member] = [
            Member(self._topics[i % profile.topics], config)
            for i in range(profile.subscribers)
        ]

    async def prepare(self) -> None:
        """Nothing is needed."""

    async def connect_senders(self) -> None:
        """Join one publisher to each topic; it gets none of its own messages."""
        config = {"broadcast": {"self": False, "ack": False}}
        for index, topic in enumerate(self._topics):
            publisher = PhoenixClient(index, topic, _ignore)
            await publisher.connect(self._target.websocket_url())
            await publisher.join(config)
            self._publishers.append(publisher)

    def stream_of(self, step: int, member: int) -> int:
        """Return the stream of the member's topic in this step."""
        return step * len(self._topics) + member % len(self._topics)

    async def send(
        self, step: int, due_s: Sequence[float], start_ns: int, outgoing: Outgoing
    ) -> None:
        """Push each message when it is due, the topics taking turns."""
        topics = len(self._topics)
        size = self._profile.payload_bytes
        lags_us: list[int] = []
        async with PreciseTimer() as timer:
            for i, due in enumerate(due_s):
                intended_ns = start_ns + round(due * 1e9)
                await timer.until_ns(intended_ns)
                stream = step * topics + i % topics
                number = outgoing.next_number(stream)
                payload = broadcast_payload(stream, number, intended_ns, size)
                self._publishers[i % topics].broadcast(EVENT, payload)
                lags_us.append((time.monotonic_ns() - intended_ns) // US)
        outgoing.lag.record_many_us(lags_us)

    def heartbeat(self) -> None:
        """Keep the publishers' connections alive."""
        for publisher in self._publishers:
            publisher.heartbeat()

    async def close(self) -> None:
        """Close the publishers."""
        for publisher in self._publishers:
            publisher.close()


def _ignore(stream: int, sequence: int, intended_ns: int) -> None:
    """Pass over a message: a publisher is no subscriber."""
