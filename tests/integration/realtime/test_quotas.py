"""What clients see when a quota trips.  Time is the test's own."""

from __future__ import annotations

import re

import pytest

from harness.clock import ManualClock
from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Wire

TOPIC = "realtime:room"
SHOUT = {"type": "broadcast", "event": "shout", "payload": {}}
BUCKET_S = 5.0
OVER_RATE = re.compile(
    r"Too many database changes per second: (\d+) changes were not delivered"
)


@pytest.fixture
def clock() -> ManualClock:
    """Stand still until moved."""
    return ManualClock()


async def tick(clock: ManualClock, seconds: float = BUCKET_S) -> None:
    for _ in range(int(seconds)):
        await clock.advance(1.0)


async def test_too_many_messages_end_channels_that_see_one(
    serve: Serve, clock: ManualClock
) -> None:
    server = await serve(clock=clock, max_events_per_second=10)
    async with Wire(server) as sender, Wire(server) as receiver:
        await sender.join(TOPIC)
        await receiver.join(TOPIC)
        for _ in range(60):
            await sender.send(TOPIC, "broadcast", SHOUT)
        for _ in range(60):
            await receiver.expect(event="broadcast")
        await tick(clock)
        await sender.send(TOPIC, "broadcast", SHOUT)
        for wire in (sender, receiver):
            system = await wire.expect(event="system")
            assert system.payload["message"] == "Too many messages per second"
            assert (await wire.expect(event="phx_close")).topic == TOPIC
        await receiver.join(TOPIC)
        await tick(clock, 60)
        await sender.join(TOPIC)
        await sender.send(TOPIC, "broadcast", SHOUT)
        await receiver.expect(event="broadcast")


async def test_too_many_joins_close_the_socket(
    serve: Serve, clock: ManualClock
) -> None:
    server = await serve(clock=clock, max_joins_per_second=2)
    async with Wire(server) as wire, Wire(server) as other:
        for number in range(10):
            await wire.join(f"realtime:{number}")
        await tick(clock)
        reply = await other.ask(TOPIC, "phx_join", {"config": {}})
        assert reply["response"] == {
            "reason": "ClientJoinRateLimitReached: Too many joins per second"
        }
        assert (await other.closed())[0] == 1001


async def test_too_many_presences_end_the_channel(
    serve: Serve, clock: ManualClock
) -> None:
    server = await serve(
        clock=clock,
        max_presence_events_per_second=1,
        max_client_presence_events_per_window=1000,
    )
    async with Wire(server) as wire:
        await wire.join(TOPIC)
        for number in range(5):
            track = {"event": "track", "payload": {"n": number}}
            await wire.ask(TOPIC, "presence", track)
        await tick(clock)
        await wire.send(TOPIC, "presence", {"event": "track", "payload": {"n": 9}})
        system = await wire.expect(event="system")
        assert system.payload["message"] == "Too many presence messages per second"
        await wire.expect(event="phx_close")


async def test_silent_client_is_closed(serve: Serve, clock: ManualClock) -> None:
    server = await serve(clock=clock, idle_timeout_s=60)
    async with Wire(server) as silent, Wire(server) as alive:
        await tick(clock, 40)
        await alive.ask("phoenix", "heartbeat", {})
        await tick(clock, 25)
        assert (await silent.closed())[0] == 1000
        assert (await alive.ask("phoenix", "heartbeat", {}))["status"] == "ok"


async def test_socket_without_a_channel_is_dropped(
    serve: Serve, clock: ManualClock
) -> None:
    server = await serve(clock=clock, idle_timeout_s=1000, no_channel_timeout_s=30)
    async with Wire(server) as idle, Wire(server) as joined:
        await joined.join(TOPIC)
        await tick(clock, 32)
        assert (await idle.closed())[0] == 1006
        await joined.ask(TOPIC, "phx_leave", {})
        await tick(clock, 32)
        assert (await joined.closed())[0] == 1006


async def test_changes_over_the_rate_are_counted_and_told(
    serve: Serve, clock: ManualClock
) -> None:
    server: RealtimeServer = await serve(clock=clock, max_events_per_second=10)
    await server.sql(
        "create table public.t (id int primary key)",
        "alter publication supabase_realtime add table public.t",
        "grant select on public.t to anon",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, {"event": "*", "schema": "public", "table": "t"})
        await server.sql("insert into t select generate_series(1, 100)")
        for number in range(1, 101):
            assert (await wire.change())["record"] == {"id": number}
        await tick(clock)
        await server.sql("insert into t select generate_series(101, 103)")
        # A statement's changes may come in several batches, each told by itself.
        told = 0
        while told < 3:
            system = await wire.expect(event="system")
            assert system.payload["status"] == "error"
            count = OVER_RATE.fullmatch(system.payload["message"])
            assert count is not None
            told += int(count[1])
        assert told == 3
