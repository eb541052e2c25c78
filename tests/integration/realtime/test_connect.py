"""Handshakes: who gets a socket, and what the others are told."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from harness.protocols.jwt import LOCAL_JWT_SECRET, mint
from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import FAR_FUTURE_S, RealtimeServer
from tests.integration.realtime.wire import Wire

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


async def handshake(
    server: RealtimeServer, headers: dict[str, str] | None = None, **query: str
) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(
            f"{server.http_url}/websocket",
            params=query,
            headers={**UPGRADE, **(headers or {})},
        )


@pytest.mark.parametrize(
    ("claims", "secret", "text"),
    [
        (None, "", "API key is missing"),
        ({"role": "anon", "exp": 1}, LOCAL_JWT_SECRET, "Token has expired"),
        (
            {"role": "anon"},
            LOCAL_JWT_SECRET,
            "Fields `role` and `exp` are required in JWT",
        ),
        (
            {"exp": FAR_FUTURE_S},
            LOCAL_JWT_SECRET,
            "Fields `role` and `exp` are required in JWT",
        ),
        ({"role": "anon", "exp": FAR_FUTURE_S}, "x" * 40, "Failed to validate JWT"),
    ],
)
async def test_bad_key_is_refused_with_its_reason(
    server: RealtimeServer, claims: dict[str, Any] | None, secret: str, text: str
) -> None:
    query = {} if claims is None else {"apikey": mint(claims, secret)}
    response = await handshake(server, **query)
    assert response.status_code == 401
    assert response.json()["error"].startswith(text)


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "sb_publishable_x"])
async def test_key_that_is_no_token_is_refused(
    server: RealtimeServer, token: str
) -> None:
    response = await handshake(server, apikey=token)
    assert response.status_code == 401
    assert response.json() == {"error": "The token provided is not a valid JWT"}


async def test_unknown_version_is_forbidden_without_a_word(
    server: RealtimeServer,
) -> None:
    response = await handshake(server, apikey=server.token(), vsn="3.0.0")
    assert (response.status_code, response.content) == (403, b"")


@pytest.mark.parametrize("version", ["8", "14", "13, 14", ""])
async def test_other_version_of_the_protocol_is_told_which_is_spoken(
    server: RealtimeServer, version: str
) -> None:
    told = {"Sec-WebSocket-Version": version}
    response = await handshake(server, told, apikey=server.token())
    assert (response.status_code, response.content) == (426, b"")
    assert response.headers["Sec-WebSocket-Version"] == "13"


async def test_long_header_is_refused(server: RealtimeServer) -> None:
    long = {"X-Long": "x" * 4097}
    response = await handshake(server, long, apikey=server.token())
    assert (response.status_code, response.content) == (431, b"")


async def test_key_header_wins_over_the_query(server: RealtimeServer) -> None:
    response = await handshake(
        server, {"x-api-key": "nonsense"}, apikey=server.token("anon")
    )
    assert response.status_code == 401


async def test_suspended_project_takes_no_socket(serve: Serve) -> None:
    server = await serve(suspend=True)
    response = await handshake(server, apikey=server.token())
    assert response.status_code == 403
    assert response.json() == {"error": "Realtime was disabled for this tenant"}


async def test_token_may_be_encoded_and_wrapped(server: RealtimeServer) -> None:
    token = server.token("anon")
    async with Wire(server, f"%20{token[:9]}%0A{token[9:]}") as wire:
        assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"


async def test_limit_of_users_counts_sockets_with_a_channel(serve: Serve) -> None:
    server = await serve(max_concurrent_users=1)
    async with Wire(server) as first, Wire(server) as second:
        await first.join("realtime:a")
        refused = await handshake(server, apikey=server.token())
        assert refused.status_code == 429
        assert refused.json() == {"error": "Too many connected users"}
        reply = await second.ask("realtime:a", "phx_join", {"config": {}})
        assert reply["response"] == {
            "reason": "ConnectionRateLimitReached: Too many connected users"
        }
        await first.join("realtime:b")
        await first.ask("realtime:a", "phx_leave", {})
        await first.ask("realtime:b", "phx_leave", {})
        await second.join("realtime:a")


async def test_handshake_answer_follows_the_standard(server: RealtimeServer) -> None:
    response_head = await _raw_handshake(server)
    assert response_head.startswith(b"HTTP/1.1 101 ")
    # The key and its answer are the example of RFC 6455, section 1.3.
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in response_head


async def _raw_handshake(server: RealtimeServer) -> bytes:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    target = f"/realtime/v1/websocket?apikey={server.token('anon')}"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head


async def test_refusal_is_json(server: RealtimeServer) -> None:
    response = await handshake(server)
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.content) == {"error": "API key is missing"}
