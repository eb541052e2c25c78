"""A connection's life: what ends it, and what its end waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from harness.clock import SystemClock
from harness.servers import front
from harness.servers.access_log import AccessLog
from harness.servers.front import FrontFactory
from harness.servers.hosting import ProjectRegistry

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
DEADLINE_S = 10.0


@asynccontextmanager
async def serving(
    handle: Handler,
) -> AsyncIterator[tuple[FrontFactory, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve ``handle`` on a port, and connect to it."""
    registry = ProjectRegistry(
        postgres=("", 0, ""),
        objects_root=Path("nowhere"),
        durability="none",
        clock=SystemClock(),
        access_log=AccessLog(),
    )
    factory = FrontFactory(web.Server(handle), registry, handle)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(factory, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield factory, reader, writer
    finally:
        writer.close()
        listener.close()
        await factory.shutdown(0)
        await listener.wait_closed()


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Return what came until the server closed; a reset is an end too."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def answered(request: web.BaseRequest) -> web.Response:
    return web.Response(body=b"answer")


async def test_a_client_that_says_nothing_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "HEAD_TIMEOUT_S", 0.05)
    async with serving(answered) as (factory, reader, writer):
        writer.write(GET[:-3])
        assert await read_to_end(reader) == b""
    assert not factory.fronts


async def test_a_client_that_asks_nothing_more_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "HEAD_TIMEOUT_S", 0.05)
    monkeypatch.setattr(front, "KEEPALIVE_S", 0.05)
    async with serving(answered) as (_, reader, writer):
        writer.write(GET)
        assert (await read_to_end(reader)).endswith(b"answer")


async def test_the_rest_of_a_body_is_waited_for_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "LINGER_S", 0.05)
    async with serving(answered) as (_, reader, writer):
        writer.write(POST + b"12345")
        assert (await read_to_end(reader)).endswith(b"answer")
    async with serving(answered) as (_, reader, writer):
        writer.write(POST + b"12345")
        await reader.readuntil(b"answer")
        writer.write(b"67890" + GET)
        assert (await reader.readuntil(b"answer")).startswith(b"HTTP/1.1 200 ")


async def test_a_handler_that_is_cancelled_ends_its_connection() -> None:
    async def cancelled(request: web.BaseRequest) -> web.Response:
        raise asyncio.CancelledError

    async with serving(cancelled) as (_, reader, writer):
        writer.write(GET)
        assert await read_to_end(reader) == b""


async def test_a_service_hears_of_a_client_that_leaves_within_a_body() -> None:
    heard: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def reading(request: web.BaseRequest) -> web.Response:
        try:
            await request.read()
        except ConnectionError as exc:
            heard.set_result(exc)
            raise
        return web.Response()

    async with serving(reading) as (_, _, writer):
        writer.write(POST + b"12345")
        await writer.drain()
        writer.close()
        assert isinstance(await heard, ConnectionResetError)


async def test_the_end_waits_for_answers_under_way_within_its_grace() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(body=b"answer")

    async with serving(slow) as (factory, reader, writer):
        writer.write(GET)
        await begun.wait()
        ending = asyncio.create_task(factory.shutdown(DEADLINE_S))
        go_on.set()
        assert (await read_to_end(reader)).endswith(b"answer")
        await ending
    go_on.clear()
    begun.clear()
    async with serving(slow) as (factory, reader, writer):
        writer.write(GET)
        await begun.wait()
        await factory.shutdown(0.05)
        assert await read_to_end(reader) == b""
