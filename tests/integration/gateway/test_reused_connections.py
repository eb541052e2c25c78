"""Many requests on one connection: bodies of all kinds between them, then a socket."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from harness.stack.project import Project
from tests.integration.gateway.test_connections import (
    DEADLINE_S,
    HANDSHAKE,
    answer_of,
    connected,
    head_of,
)

LARGE_BYTES = 3 * 1024 * 1024  # more than is read ahead


def request(
    project: Project, method: str, path: str, body: bytes = b"", **headers: str
) -> bytes:
    told = {"Host": "x", "apikey": project.anon_key, **headers}
    if body or method == "POST":
        told["Content-Length"] = str(len(body))
    lines = "".join(f"{name.replace('_', '-')}: {v}\r\n" for name, v in told.items())
    return f"{method} /p/{project.ref}{path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def test_a_websocket_opens_on_a_connection_that_had_requests(
    project: Project,
) -> None:
    async with connected(project) as (reader, writer):
        for _ in range(2):
            writer.write(request(project, "GET", "/auth/v1/health"))
            assert (await answer_of(reader))[0] == 200
        writer.write(request(project, "POST", "/auth/v1/signup", b"{}"))
        assert (await answer_of(reader))[0] == 200
        target = f"/p/{project.ref}/realtime/v1/websocket?apikey={project.anon_key}"
        writer.write(f"GET {target}&vsn=1.0.0 HTTP/1.1\r\n{HANDSHAKE}".encode())
        assert (await head_of(reader)).startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize("told", ["Transfer-Encoding: chunked", "Expect: 100-continue"])
async def test_a_websocket_opens_on_a_connection_that_had_an_unusual_request(
    project: Project, told: str
) -> None:
    key = project.anon_key
    body = b"2\r\n{}\r\n0\r\n\r\n" if "chunked" in told else b"{}"
    length = "" if "chunked" in told else f"Content-Length: {len(body)}\r\n"
    head = f"Host: x\r\napikey: {key}\r\n{told}\r\n{length}\r\n"
    async with connected(project) as (reader, writer):
        for _ in range(2):
            target = f"/p/{project.ref}/auth/v1/signup"
            writer.write(f"POST {target} HTTP/1.1\r\n{head}".encode() + body)
            if "Expect" in told:
                assert (await head_of(reader)).startswith("HTTP/1.1 100 ")
            assert (await answer_of(reader))[0] == 200
        target = f"/p/{project.ref}/realtime/v1/websocket?apikey={key}"
        writer.write(f"GET {target}&vsn=1.0.0 HTTP/1.1\r\n{HANDSHAKE}".encode())
        assert (await head_of(reader)).startswith("HTTP/1.1 101 ")


async def test_a_websocket_of_no_project_is_refused_behind_an_unusual_request(
    project: Project,
) -> None:
    chunked = "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    target = "/p/nosuch/realtime/v1/websocket"
    async with connected(project) as (reader, writer):
        writer.write(f"POST /p/{project.ref}/auth/v1/x HTTP/1.1\r\n{chunked}".encode())
        assert (await answer_of(reader))[0] == 404
        writer.write(f"GET {target} HTTP/1.1\r\n{HANDSHAKE}".encode())
        assert (await answer_of(reader))[0] == 404


async def test_a_websocket_behind_a_request_in_one_packet_opens(
    project: Project,
) -> None:
    target = f"/p/{project.ref}/realtime/v1/websocket?apikey={project.anon_key}"
    handshake = f"GET {target}&vsn=1.0.0 HTTP/1.1\r\n{HANDSHAKE}".encode()
    async with connected(project) as (reader, writer):
        writer.write(request(project, "GET", "/auth/v1/health") + handshake)
        assert (await answer_of(reader))[0] == 200
        assert (await head_of(reader)).startswith("HTTP/1.1 101 ")


async def test_bodies_in_pieces_and_requests_behind_them_are_told_apart(
    project: Project,
) -> None:
    sign_up = request(project, "POST", "/auth/v1/signup", b'{"data": {"n": 1}}')
    health = request(project, "GET", "/auth/v1/health")
    sent = sign_up + health + sign_up + health
    async with connected(project) as (reader, writer):
        for start in range(0, len(sent), 97):
            writer.write(sent[start : start + 97])
            await writer.drain()
            await asyncio.sleep(0)
        answers = [await answer_of(reader) for _ in range(4)]
    assert [status for status, _ in answers] == [200] * 4
    assert answers[2][1]["user"]["user_metadata"] == {"n": 1}
    assert answers[3][1]["name"] == "Auth"


async def test_a_body_that_nobody_reads_does_not_become_the_next_request(
    project: Project,
) -> None:
    # The body is a request itself: taken for one, it would be answered.
    inner = request(project, "GET", "/auth/v1/settings")
    body = inner * (LARGE_BYTES // len(inner))
    async with connected(project) as (reader, writer):
        writer.write(request(project, "POST", "/nowhere", body))
        assert (await answer_of(reader))[0] == 404
        await writer.drain()
        writer.write(request(project, "GET", "/auth/v1/health"))
        status, answer = await answer_of(reader)
    assert (status, answer["name"]) == (200, "Auth")


async def test_a_client_that_leaves_within_a_body_harms_nobody(
    project: Project,
) -> None:
    whole = request(project, "POST", "/auth/v1/signup", b'{"data": {"n": 1}}')
    async with connected(project) as (_, writer):
        writer.write(whole[:-5])
        await writer.drain()
    async with connected(project) as (reader, writer):
        writer.write(whole)
        assert (await answer_of(reader))[0] == 200


async def test_a_client_that_asks_to_close_is_closed(project: Project) -> None:
    async with connected(project) as (reader, writer):
        writer.write(request(project, "GET", "/auth/v1/health", Connection="close"))
        head = await head_of(reader)
        async with asyncio.timeout(DEADLINE_S):
            body = await reader.read()
    assert "connection: close" in head.lower()
    assert json.loads(body)["name"] == "Auth"


async def test_a_large_body_is_read_while_it_comes(
    project: Project, http: httpx.AsyncClient
) -> None:
    keys = {"apikey": project.service_role_key}
    base = f"/p/{project.ref}/storage/v1"
    bucket = await http.post(f"{base}/bucket", json={"name": "large"}, headers=keys)
    assert bucket.status_code == 200
    content = bytes(range(256)) * (LARGE_BYTES // 256)
    path = f"{base}/object/large/file"
    stored = await http.post(path, content=content, headers=keys)
    assert stored.status_code == 200, stored.text
    found = await http.get(path, headers=keys)
    assert found.content == content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_answer_has_its_id_its_length_and_the_cors_headers(
    http: httpx.AsyncClient, method: str
) -> None:
    answer = await http.request(
        method, "/auth/v1/health", headers={"X-Request-Id": "r"}
    )
    assert answer.headers["x-request-id"] == "r"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Content-Range" in answer.headers["access-control-expose-headers"]
    assert int(answer.headers["content-length"]) > 0
    assert {"date", "server"} <= set(answer.headers)
