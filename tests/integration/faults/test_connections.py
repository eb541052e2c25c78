"""The fault proxy on loopback, with real sockets at both ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.faults import LinkConditions, LocalSite, TcpProxy, inject, parse_fault

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
TIMEOUT_S = 10.0


@asynccontextmanager
async def echo_behind_proxy(seed: int = 1) -> AsyncIterator[TcpProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the proxy cut the line, which is what it is for
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with TcpProxy("127.0.0.1", port, seed=seed) as proxy:
            yield proxy
    finally:
        server.close()


async def connect(proxy: TcpProxy) -> Connection:
    return await asyncio.open_connection(proxy.host, proxy.port)


async def round_trip(connection: Connection, data: bytes) -> float:
    reader, writer = connection
    start_s = time.monotonic()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return time.monotonic() - start_s


def run(body: Callable[[TcpProxy], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S), echo_behind_proxy() as proxy:
            await body(proxy)

    asyncio.run(main())


def test_a_good_link_carries_megabytes_unchanged() -> None:
    async def body(proxy: TcpProxy) -> None:
        data = bytes(range(256)) * 8192
        reader, writer = await connect(proxy)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    run(body)


def test_latency_delays_each_direction_and_keeps_order_under_jitter() -> None:
    async def body(proxy: TcpProxy) -> None:
        connection = await connect(proxy)
        async with proxy.changed(latency_s=0.05, jitter_s=0.03):
            lines = b"".join(b"%06d\n" % i for i in range(2000))
            took_s = await round_trip(connection, lines)
        assert took_s >= 2 * 0.02
        assert proxy.conditions == LinkConditions()
        connection[1].close()

    run(body)


def test_rate_limits_the_flow() -> None:
    async def body(proxy: TcpProxy) -> None:
        connection = await connect(proxy)
        proxy.set_conditions(LinkConditions(bytes_per_s=200_000))
        assert await round_trip(connection, b"x" * 40_000) >= 0.2
        connection[1].close()

    run(body)


def test_blackhole_delivers_nothing_until_it_ends_and_then_everything() -> None:
    async def body(proxy: TcpProxy) -> None:
        reader, writer = await connect(proxy)
        async with proxy.changed(is_blackhole=True):
            writer.write(b"lost?")
            waiting = asyncio.create_task(reader.readexactly(5))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
        assert await waiting == b"lost?"
        writer.close()

    run(body)


def test_refuse_closes_new_connections_and_leaves_old_ones() -> None:
    async def body(proxy: TcpProxy) -> None:
        old = await connect(proxy)
        await round_trip(old, b"before")
        async with proxy.changed(is_refusing=True):
            reader, writer = await connect(proxy)
            with pytest.raises(ConnectionError):
                await read_to_end(reader, writer)
            await round_trip(old, b"during")
        new = await connect(proxy)
        await round_trip(new, b"after")
        for _, writer in (old, new):
            writer.close()

    run(body)


async def read_to_end(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Raise what the end of the stream is: an error, or an early end of file."""
    try:
        writer.write(b"x")
        if not await reader.read():
            raise ConnectionResetError("end of file")
    finally:
        writer.close()


@pytest.mark.parametrize("text", ["cut:link", "reset:link"])
def test_cut_ends_every_connection_and_lets_new_ones_in(text: str) -> None:
    async def body(proxy: TcpProxy) -> None:
        connections = [await connect(proxy) for _ in range(3)]
        for connection in connections:
            await round_trip(connection, b"up")
        async with inject(parse_fault(text), LocalSite(links={"link": proxy})):
            for reader, writer in connections:
                with pytest.raises(ConnectionError):
                    await read_to_end(reader, writer)
        again = await connect(proxy)
        await round_trip(again, b"again")
        again[1].close()

    run(body)


def test_injected_conditions_end_with_the_block_even_when_it_fails() -> None:
    async def fail_on(proxy: TcpProxy) -> None:
        site = LocalSite(links={"link": proxy})
        async with inject(parse_fault("latency:link:1s"), site):
            assert proxy.conditions.latency_s == 1.0
            raise RuntimeError("boom")

    async def body(proxy: TcpProxy) -> None:
        with pytest.raises(RuntimeError, match="boom"):
            await fail_on(proxy)
        assert proxy.conditions == LinkConditions()

    run(body)


def test_a_dead_upstream_looks_dead_through_the_proxy() -> None:
    async def main() -> None:
        server = await asyncio.start_server(_never, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(TIMEOUT_S), TcpProxy("127.0.0.1", port) as proxy:
            reader, writer = await connect(proxy)
            with pytest.raises(ConnectionError):
                await read_to_end(reader, writer)

    asyncio.run(main())


def _never(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Coroutine[Any, Any, None]:
    raise AssertionError("nobody listens here")
