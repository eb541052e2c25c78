"""The first bytes of a connection: slow, split, huge, broken, pipelined, upgraded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets

from harness.stack.project import Project

LogReader = Callable[[], list[dict[str, Any]]]
DEADLINE_S = 15.0
HANDSHAKE = (
    "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@asynccontextmanager
async def connected(
    project: Project,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(project.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def head_of(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = await head_of(reader)
    length = next(
        int(line.split(":")[1])
        for line in head.lower().split("\r\n")
        if line.startswith("content-length")
    )
    body = await reader.readexactly(length)
    return int(head.split(" ")[1]), json.loads(body) if body else None


async def test_a_head_that_comes_byte_by_byte_is_answered(project: Project) -> None:
    async with connected(project) as (reader, writer):
        for byte in f"GET /p/{project.ref}/auth/v1/health HTTP/1.1\r\nHost: x\r\n\r\n":
            writer.write(byte.encode())
            await writer.drain()
            await asyncio.sleep(0)
        status, body = await answer_of(reader)
        assert (status, body["name"]) == (200, "Auth")


async def test_a_websocket_head_that_comes_in_two_pieces_is_upgraded(
    project: Project,
) -> None:
    target = f"/p/{project.ref}/realtime/v1/websocket?apikey={project.anon_key}"
    head = f"GET {target}&vsn=1.0.0 HTTP/1.1\r\n{HANDSHAKE}"
    async with connected(project) as (reader, writer):
        for piece in (head[:3], head[3:60], head[60:-2], head[-2:]):
            writer.write(piece.encode())
            await writer.drain()
            await asyncio.sleep(0)
        answer = await head_of(reader)
        assert answer.startswith("HTTP/1.1 101 ")
        # The sample key and answer of RFC 6455, section 1.3.
        assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer


async def test_a_frame_right_behind_the_handshake_is_not_lost(
    project: Project,
) -> None:
    target = f"/p/{project.ref}/realtime/v1/websocket?apikey={project.anon_key}"
    head = f"GET {target}&vsn=1.0.0 HTTP/1.1\r\n{HANDSHAKE}"
    text = b'{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"7"}'
    frame = bytes([0x81, 0x80 | len(text)]) + bytes(4) + text  # masked with zeros
    async with connected(project) as (reader, writer):
        writer.write(head.encode() + frame)
        assert (await head_of(reader)).startswith("HTTP/1.1 101 ")
        async with asyncio.timeout(DEADLINE_S):
            first, length = await reader.readexactly(2)
            reply = json.loads(await reader.readexactly(length))
        assert first == 0x81
        assert (reply["event"], reply["ref"]) == ("phx_reply", "7")


async def test_pipelined_requests_are_answered_in_order(project: Project) -> None:
    paths = ("auth/v1/health", "nothing", "auth/v1/settings")
    requests = "".join(
        f"GET /p/{project.ref}/{path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths
    )
    async with connected(project) as (reader, writer):
        writer.write(requests.encode())
        answers = [await answer_of(reader) for _ in paths]
    assert [status for status, _ in answers] == [200, 404, 200]
    assert answers[0][1]["name"] == "Auth"
    assert "external" in answers[2][1]


WEBSOCKET = "GET /realtime/v1/websocket HTTP/1.1\r\n"
LONG = "a" * 70_000


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: x\r\nBroken header\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\nHost: x\r\nX: {LONG}\r\n\r\n", 431),
        (f"GET /{LONG} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (f"{WEBSOCKET}Broken header\r\n\r\n", 400),
        (f"{WEBSOCKET}X: {LONG}\r\n\r\n", 431),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("NONSENSE\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
async def test_a_broken_or_huge_head_is_told_and_not_echoed(
    project: Project, head: str, status: int
) -> None:
    async with connected(project) as (reader, writer):
        writer.write(head.encode("latin-1"))
        told, body = await answer_of(reader)
        assert told == status
        assert body["message"]
        assert "aaaa" not in str(body)
    async with connected(project) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer_of(reader))[0] in (200, 404)


async def test_a_chunked_body_reaches_the_service(project: Project) -> None:
    async with connected(project) as (reader, writer):
        writer.write(
            f"POST /p/{project.ref}/auth/v1/signup HTTP/1.1\r\nHost: x\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for chunk in (b'{"data": {"a', b'": 1}}'):
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        status, session = await answer_of(reader)
    assert (status, session["user"]["user_metadata"]) == (200, {"a": 1})


async def test_a_client_that_waits_for_leave_to_send_gets_it(project: Project) -> None:
    async with connected(project) as (reader, writer):
        writer.write(
            f"POST /p/{project.ref}/auth/v1/signup HTTP/1.1\r\nHost: x\r\n"
            "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode()
        )
        assert (await head_of(reader)).startswith("HTTP/1.1 100 ")
        writer.write(b"{}")
        assert (await answer_of(reader))[0] == 200


async def test_a_request_of_the_oldest_kind_is_answered(project: Project) -> None:
    async with connected(project) as (reader, writer):
        writer.write(f"GET /p/{project.ref}/auth/v1/health HTTP/1.0\r\n\r\n".encode())
        status, body = await answer_of(reader)
        assert (status, body["name"]) == (200, "Auth")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""


async def test_a_client_that_goes_away_harms_nobody(project: Project) -> None:
    for piece in ("G", "GET /p/", "POST /auth/v1/signup HTTP/1.1\r\nContent-Length: 9"):
        async with connected(project) as (_, writer):
            writer.write(piece.encode())
            await writer.drain()
    target = f"/p/{project.ref}/realtime/v1/websocket?apikey={project.anon_key}"
    async with connected(project) as (_, writer):
        writer.write(f"GET {target} HTTP/1.1\r\n{HANDSHAKE}".encode())
        await writer.drain()
    async with connected(project) as (reader, writer):
        writer.write(b"GET /p/none/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer_of(reader))[0] == 404


@pytest.mark.parametrize("key", ["anon_key", "publishable_key", "secret_key"])
async def test_a_websocket_opens_with_any_key_of_the_project(
    project: Project, key: str
) -> None:
    base = project.url.replace("http", "ws", 1)
    apikey = getattr(project, key)
    url = f"{base}/realtime/v1/websocket?apikey={apikey}&vsn=1.0.0"
    async with websockets.connect(url) as socket:
        beat = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "1"}
        await socket.send(json.dumps(beat))
        async with asyncio.timeout(DEADLINE_S):
            reply = json.loads(await socket.recv())
    assert reply["payload"]["status"] == "ok"


async def test_a_websocket_of_no_project_is_not_found(project: Project) -> None:
    base = project.stack.descriptor.api_url.replace("http", "ws", 1)
    url = f"{base}/p/nosuch/realtime/v1/websocket?apikey={project.anon_key}"
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        await websockets.connect(url)
    assert refused.value.response.status_code == 404


async def test_a_websocket_leaves_a_line(
    project: Project, new_log_lines: LogReader
) -> None:
    base = project.url.replace("http", "ws", 1)
    url = f"{base}/realtime/v1/websocket?apikey={project.anon_key}&vsn=1.0.0"
    async with websockets.connect(url):
        pass
    opened = [line for line in new_log_lines() if line.get("operation") == "websocket"]
    assert [(e["service"], e["project"]) for e in opened] == [("realtime", project.ref)]
    assert project.anon_key not in str(opened)
