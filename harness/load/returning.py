"""Brings subscribers back whose connection was lost, as the official clients do.

Only loads with faults ask for it: in any other a lost connection is the server's
fault, and so is what its subscriber misses.  What is sent between the loss and the
moment when the subscriber is live again is excused; whoever does not come back is
excused from nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from harness.errors import HarnessError
from harness.load.history import SequenceCheck
from harness.load.phoenix_client import PhoenixClient
from harness.load.workload import Member, Outgoing

__all__ = ["Returning"]

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
HANDSHAKES_AT_ONCE = 64


class Returning:
    """The subscribers of a pool that are away; ``returned`` counts those of a step."""

    def __init__(
        self, url: str, members: Sequence[Member], clients: Sequence[PhoenixClient]
    ) -> None:
        self.returned = 0
        self._url = url
        self._members = members
        self._gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        self._since: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._checks: Sequence[SequenceCheck] = ()
        self._streams: Sequence[int] = ()
        self._outgoing = Outgoing()
        for client in clients:
            client.on_lost = self._lost

    def begin_step(
        self,
        checks: Sequence[SequenceCheck],
        streams: Sequence[int],
        outgoing: Outgoing,
    ) -> None:
        """Judge by ``checks``, by member, from now on; who is away misses the start."""
        self.returned = 0
        self._checks = checks
        self._streams = streams
        self._outgoing = outgoing
        self._since = dict.fromkeys(self._since, 0)

    async def close(self) -> None:
        """Bring nobody back any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    def _lost(self, client: PhoenixClient) -> None:
        index = client.index
        self._since[index] = self._checks[index].next_number if self._checks else 0
        task = asyncio.create_task(self._bring_back(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring_back(self, client: PhoenixClient) -> None:
        member = self._members[client.index]
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self._gate:
                    await client.connect(self._url)
                    await client.join(member.config, member.access_token)
            except HarnessError:
                # Still unreachable; if for good, all that is sent counts as lost.
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                break
        self.returned += 1
        since = self._since.pop(client.index)
        if not self._checks:
            return  # nothing was sent yet
        sent = self._outgoing.sent.get(self._streams[client.index], 0)
        self._checks[client.index].excuse(since, sent)
