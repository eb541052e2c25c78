"""Processes that write in the service's place: nobody can tell, but for the cores."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness.config import Config
from harness.errors import ConfigError
from harness.load.cpu import process_tree, tree_rss_mib
from harness.servers.file_limit import raise_file_limit
from harness.servers.realtime.writer_process import ONE
from harness.servers.realtime.writers import NOBODY, Writer
from harness.stack.embedded import EmbeddedStack
from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Received, Wire, until

TOPIC = "realtime:t"


@pytest.fixture
async def shared(serve: Serve) -> RealtimeServer:
    """Serve with two writers."""
    return await serve(workers=2)


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def processes(server: RealtimeServer) -> list[int]:
    assert server.service.writers is not None
    return server.service.writers.process_ids


async def wires(stack: AsyncExitStack, server: RealtimeServer, count: int) -> Any:
    made = [await stack.enter_async_context(Wire(server)) for _ in range(count)]
    for wire in made:
        await wire.join(TOPIC, broadcast={"ack": True})
    return made


def heard(messages: list[Received | bytes]) -> list[dict[str, Any]]:
    return [
        message.payload
        for message in messages
        if isinstance(message, Received) and message.event == "broadcast"
    ]


async def test_everybody_hears_the_others_in_order(shared: RealtimeServer) -> None:
    async with AsyncExitStack() as stack:
        members = await wires(stack, shared, 7)
        for number in range(50):
            for sender, wire in enumerate(members[:3]):
                await wire.send(TOPIC, "broadcast", {"from": sender, "n": number})
        async with asyncio.timeout(20):
            while shared.service.gauges()["messages_delivered"] < 150 * 7:
                await members[0].ask("phoenix", "heartbeat", {})
        for position, wire in enumerate(members):
            seen = heard(await wire.settle())
            for sender in range(3):
                numbers = [m["n"] for m in seen if m["from"] == sender]
                assert numbers == ([] if sender == position else list(range(50)))


async def test_members_that_come_and_go_are_known_to_the_writers(
    shared: RealtimeServer,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await wires(stack, shared, 2)
        await first.ask(TOPIC, "broadcast", {"n": 1})
        (third,) = await wires(stack, shared, 1)
        await first.ask(TOPIC, "broadcast", {"n": 2})
        await second.ask(TOPIC, "phx_leave", {})
        await first.ask(TOPIC, "broadcast", {"n": 3})
        assert [m["n"] for m in heard(await second.settle())] == [1, 2]
        assert [m["n"] for m in heard(await third.settle())] == [2, 3]


async def test_large_messages_cross_whole(shared: RealtimeServer) -> None:
    text = "x" * 1_500_000
    async with AsyncExitStack() as stack:
        sender, *others = await wires(stack, shared, 4)
        for number in range(3):
            await sender.send(TOPIC, "broadcast", {"n": number, "x": text})
        for wire in others:
            for number in range(3):
                message = await wire.expect(event="broadcast")
                assert message.payload == {"n": number, "x": text}


async def test_what_waits_for_many_is_kept_once(serve: Serve) -> None:
    server = await serve(workers=1, congested_bytes=64_000_000)
    clients, messages, text = 16, 6, "x" * 2_500_000
    async with AsyncExitStack() as stack:
        sender, *others = await wires(stack, server, clients + 1)
        transports: list[Any] = [wire.socket.transport for wire in others]
        for transport in transports:
            transport.pause_reading()
        before = tree_rss_mib(processes(server))
        for number in range(messages):
            await sender.ask(TOPIC, "broadcast", {"n": number, "x": text})
        await until(lambda: all(congested(server)[:clients]))
        # The network took a part; copies of the rest would be several times as much.
        grown_mib = tree_rss_mib(processes(server)) - before
        for transport in transports[1:]:
            transport.abort()
        assert grown_mib < 60
        transports[0].resume_reading()
        for number in range(messages):
            message = await others[0].expect(event="broadcast")
            assert message.payload == {"n": number, "x": text}
        await until(lambda: not any(congested(server)))


def congested(server: RealtimeServer) -> list[bool]:
    """Tell of each client whether much waits for it, those first."""
    return sorted((s.congested for s in server.service.sockets), reverse=True)


async def test_killed_writer_costs_its_own_connections(shared: RealtimeServer) -> None:
    async with AsyncExitStack() as stack:
        members = await wires(stack, shared, 4)
        before = processes(shared)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(shared.service.joined) == 2)
        cut, left = [], []
        for wire in members:
            try:
                await wire.ask("phoenix", "heartbeat", {})
                left.append(wire)
            except ConnectionClosed:
                cut.append(wire)
        assert (len(cut), len(left)) == (2, 2)
        left += await wires(stack, shared, 2)
        await left[0].ask(TOPIC, "broadcast", {"n": 1})
        for wire in left[1:]:
            assert (await wire.expect(event="broadcast")).payload == {"n": 1}
        assert before[0] not in processes(shared)
        assert before[1] in processes(shared)


async def test_full_writer_is_waited_for_among_thousands_of_descriptors() -> None:
    raise_file_limit()
    held = [os.dup(0) for _ in range(1100)]
    try:
        writer = Writer()
        for _ in range(64):
            writer.tell(ONE, 1, NOBODY, bytes(1 << 20))
        writer.end()
        assert await asyncio.to_thread(writer.process.wait, 10.0) == 0
    finally:
        for descriptor in held:
            os.close(descriptor)


async def test_writers_end_with_the_service(shared: RealtimeServer) -> None:
    async with AsyncExitStack() as stack:
        members = await wires(stack, shared, 4)
        ids = processes(shared)
        await shared.service.stop()
        for wire in members:
            assert (await wire.closed())[0] == 1012
    assert not any(map(is_running, ids))


@pytest.mark.slow
async def test_configured_workers_live_as_long_as_the_server() -> None:
    async with EmbeddedStack(Config(realtime_workers=2)) as stack:
        project = await stack.create_project()
        server = (await stack.control.status())["pid"]
        url = project.url.replace("http", "ws") + "/realtime/v1/websocket"
        async with connect(f"{url}?apikey={project.anon_key}&vsn=2.0.0") as socket:
            await socket.send('[null,"1","phoenix","heartbeat",{}]')
            assert "ok" in str(await socket.recv())
            workers = [pid for pid in process_tree([server]) if pid != server]
            assert len(workers) == 2
            os.kill(server, signal.SIGKILL)
            await until(lambda: not any(map(is_running, workers)))


def test_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="realtime_workers"):
        Config(realtime_workers=-1)
