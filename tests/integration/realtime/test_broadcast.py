"""Broadcasts between clients, over HTTP, and their limits."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Wire

TOPIC = "realtime:room"
ACK = {"broadcast": {"ack": True}}
ECHO = {"broadcast": {"self": True}}


def shout(payload: Any) -> dict[str, Any]:
    return {"type": "broadcast", "event": "shout", "payload": payload}


def binary_push(topic: str, event: str, payload: bytes, *, is_json: bool) -> bytes:
    names = [b"1", b"9", topic.encode(), event.encode(), b'{"k":1}']
    return bytes([3, *map(len, names), int(is_json)]) + b"".join(names) + payload


def binary_broadcast(
    topic: str, event: str, payload: bytes, *, is_json: bool, meta: bytes = b""
) -> bytes:
    names = [topic.encode(), event.encode(), meta]
    return bytes([4, *map(len, names), int(is_json)]) + b"".join(names) + payload


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_payload_is_relayed_verbatim(server: RealtimeServer, vsn: str) -> None:
    payload = {"any": [1, 1.5, None, "é\u2028"], "big": 2**80, "extra": {}}
    async with Wire(server, vsn=vsn) as sender, Wire(server) as receiver:
        await sender.join(TOPIC)
        await receiver.join(TOPIC)
        await sender.send(TOPIC, "broadcast", payload)
        message = await receiver.expect(event="broadcast")
        assert message == (None, None, TOPIC, "broadcast", payload)
        assert await sender.settle() == []


async def test_json_broadcast_frames_reach_both_versions(
    server: RealtimeServer,
) -> None:
    async with (
        Wire(server) as sender,
        Wire(server) as two,
        Wire(server, vsn="1.0.0") as one,
    ):
        for wire in (sender, two, one):
            await wire.join(TOPIC)
        payload = b'{ "spaced" : 1 }'
        await sender.socket.send(binary_push(TOPIC, "shout", payload, is_json=True))
        expected = binary_broadcast(TOPIC, "shout", payload, is_json=True)
        assert await two.expect_binary() == expected
        message = await one.expect(event="broadcast")
        assert message.payload == {
            "type": "broadcast",
            "event": "shout",
            "payload": {"spaced": 1},
        }


async def test_binary_payload_has_no_version_one_form(server: RealtimeServer) -> None:
    async with (
        Wire(server) as sender,
        Wire(server) as two,
        Wire(server, vsn="1.0.0") as one,
    ):
        for wire in (sender, two, one):
            await wire.join(TOPIC)
        payload = bytes(range(256))
        await sender.socket.send(binary_push(TOPIC, "raw", payload, is_json=False))
        expected = binary_broadcast(TOPIC, "raw", payload, is_json=False)
        assert await two.expect_binary() == expected
        assert await one.settle() == []


async def test_acknowledged_broadcast_is_answered(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **ACK)
        reply = await wire.ask(TOPIC, "broadcast", shout({}))
        assert reply == {"status": "ok", "response": {}}
        await wire.socket.send(binary_push(TOPIC, "shout", b"{}", is_json=True))
        reply = (await wire.expect(event="phx_reply", ref="9")).payload
        assert reply == {"status": "ok", "response": {}}


@pytest.mark.parametrize(("length", "status"), [(1420, "ok"), (1450, "error")])
async def test_size_limit_follows_the_term_format(
    serve: Serve, length: int, status: str
) -> None:
    server = await serve(max_payload_size_in_kb=1)
    async with Wire(server) as wire:
        await wire.join(TOPIC, **ACK)
        reply = await wire.ask(TOPIC, "broadcast", shout({"x": "y" * length}))
        assert reply["status"] == status
        assert reply["response"] == ({} if status == "ok" else "payload_size_exceeded")


async def test_oversized_broadcast_without_ack_is_dropped(serve: Serve) -> None:
    server = await serve(max_payload_size_in_kb=1)
    async with Wire(server) as wire:
        await wire.join(TOPIC, **ECHO)
        await wire.send(TOPIC, "broadcast", shout("y" * 2000))
        await wire.send(TOPIC, "broadcast", shout("small"))
        assert (await wire.expect(event="broadcast")).payload == shout("small")


@pytest.mark.parametrize("workers", [0, 2])
async def test_order_is_kept_among_many_messages(serve: Serve, workers: int) -> None:
    server = await serve(workers=workers)
    async with Wire(server) as sender, Wire(server) as receiver:
        await sender.join(TOPIC, **ECHO)
        await receiver.join(TOPIC)
        for number in range(2000):
            await sender.send(TOPIC, "broadcast", shout(number))
        for wire in (receiver, sender):
            seen = [
                (await wire.expect(event="broadcast")).payload["payload"]
                for _ in range(2000)
            ]
            assert seen == list(range(2000))


async def test_late_member_does_not_hear_what_came_before(
    server: RealtimeServer,
) -> None:
    async with Wire(server) as sender, Wire(server) as late:
        await sender.join(TOPIC)
        # All in one turn of the server's loop: publish, join, publish.
        await sender.send(TOPIC, "broadcast", shout("early"))
        await sender.settle()
        await late.join(TOPIC)
        await sender.send(TOPIC, "broadcast", shout("late"))
        assert (await late.expect(event="broadcast")).payload == shout("late")


async def test_long_names_work_as_text(server: RealtimeServer) -> None:
    topic = "realtime:" + "x" * 300
    async with Wire(server) as sender, Wire(server) as receiver:
        await sender.join(topic)
        await receiver.join(topic)
        response = await post(
            server, f"/api/broadcast/{'x' * 300}/events/e", json={"a": 1}
        )
        assert response.status_code == 202
        message = await receiver.expect(event="broadcast")
        assert message.payload["payload"] == {"a": 1}


# HTTP ---------------------------------------------------------------------------------


async def post(server: RealtimeServer, path: str, **arguments: Any) -> httpx.Response:
    arguments.setdefault("headers", {"Authorization": f"Bearer {server.token('anon')}"})
    async with httpx.AsyncClient() as client:
        return await client.post(f"{server.http_url}{path}", **arguments)


async def test_batch_is_broadcast_as_text(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC)
        messages = [
            {"topic": "room", "event": "a", "payload": {"n": 1}},
            {"topic": "room", "event": "b", "payload": {"n": 2}, "id": "7"},
            {"topic": "elsewhere", "event": "c", "payload": {}},
        ]
        response = await post(server, "/api/broadcast", json={"messages": messages})
        assert (response.status_code, response.content) == (202, b"")
        assert response.headers["x-rate-limit"] == "1000000"
        first = await wire.expect(event="broadcast")
        assert first.payload == {"type": "broadcast", "event": "a", "payload": {"n": 1}}
        second = await wire.expect(event="broadcast")
        assert second.payload["meta"] == {"id": "7"}


async def test_single_message_goes_out_as_a_binary_frame(
    server: RealtimeServer,
) -> None:
    async with Wire(server) as two, Wire(server, vsn="1.0.0") as one:
        await two.join(TOPIC)
        await one.join(TOPIC)
        path = "/api/broadcast/room/events/hello%20you"
        assert (await post(server, path, json={"n": 1})).status_code == 202
        frame = await two.expect_binary()
        assert frame == binary_broadcast(TOPIC, "hello you", b'{"n":1}', is_json=True)
        message = await one.expect(event="broadcast")
        assert message.payload["payload"] == {"n": 1}
        headers = {"Authorization": f"bearer {server.token('anon')}"}
        await post(
            server,
            path,
            content=b"[1]",
            headers={**headers, "Content-Type": "application/json"},
        )
        message = await one.expect(event="broadcast")
        assert message.payload["payload"] == {"_json": [1]}
        await two.expect_binary()
        await post(
            server,
            path,
            content=b"\x00\xff",
            headers={**headers, "Content-Type": "application/octet-stream"},
        )
        frame = await two.expect_binary()
        assert frame == binary_broadcast(TOPIC, "hello you", b"\x00\xff", is_json=False)


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({}, ["can't be blank"]),
        ({"messages": []}, ["can't be blank"]),
        ({"messages": "x"}, ["is invalid"]),
        (
            {"messages": [{"topic": "a", "event": "b", "payload": {}}, {"event": 5}]},
            [
                {},
                {
                    "topic": ["can't be blank"],
                    "event": ["is invalid"],
                    "payload": ["can't be blank"],
                },
            ],
        ),
        (
            {"messages": [{"topic": "a", "event": "b", "payload": {"x": "y" * 2000}}]},
            [{"payload": ["Payload size exceeds tenant limit"]}],
        ),
    ],
)
async def test_wrong_batch_is_refused_by_field(
    serve: Serve, body: Any, messages: Any
) -> None:
    server = await serve(max_payload_size_in_kb=1)
    response = await post(server, "/api/broadcast", json=body)
    assert response.status_code == 422
    assert response.json() == {"errors": {"messages": messages}}


async def test_http_refusals(server: RealtimeServer) -> None:
    bad = await post(server, "/api/broadcast", json={}, headers={"apikey": "nonsense"})
    assert (bad.status_code, bad.json()) == (401, {"message": "Unauthorized"})
    token = {"apikey": server.token("anon"), "content-type": "application/json"}
    broken = await post(server, "/api/broadcast", content=b"{", headers=token)
    assert (broken.status_code, broken.text) == (400, "Bad Request")
    plain = {**token, "content-type": "text/plain"}
    text = await post(server, "/api/broadcast", content=b"{}", headers=plain)
    assert text.status_code == 422
    path = "/api/broadcast/a/events/b"
    media = await post(server, path, content=b"{}", headers=plain)
    assert media.status_code == 415
    large = await post(server, "/api/broadcast", content=b"x" * 8_000_001)
    assert large.status_code == 413


async def test_suspended_project_broadcasts_nothing(serve: Serve) -> None:
    server = await serve(suspend=True)
    response = await post(server, "/api/broadcast", json={})
    assert response.status_code == 403
    assert response.json() == {"message": "Tenant is suspended"}


async def test_large_batch_is_refused_by_the_rate(serve: Serve) -> None:
    server = await serve(max_events_per_second=3)
    message = {"topic": "a", "event": "b", "payload": {}}
    response = await post(server, "/api/broadcast", json={"messages": [message] * 4})
    assert response.status_code == 429
    assert response.json()["message"].startswith("Too many messages to broadcast")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_long_polling_is_refused_in_words(
    server: RealtimeServer, method: str
) -> None:
    url = f"{server.http_url}/longpoll?apikey={server.token('anon')}&vsn=2.0.0"
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, url)
    assert answer.status_code == 404
    assert answer.json() == {
        "message": "Long polling is not offered: connect with a WebSocket"
    }


async def test_health_tenant_and_metrics(server: RealtimeServer) -> None:
    async with httpx.AsyncClient() as client:
        base = server.http_url
        ping = await client.get(f"{base}/api/ping")
        assert ping.json() == {"message": "Success"}
        assert (await client.head(f"{base}/api/ping")).status_code == 200
        assert (await client.get(f"{base}/healthcheck")).text == "ok"
        assert (await client.get(f"{base}/nowhere")).status_code == 404
        url = f"{base}/api/tenants/realtime-dev"
        assert (await client.get(url)).status_code == 403
        client.headers["Authorization"] = f"Bearer {server.token('service_role')}"
        assert (await client.get(url)).json()["data"]["external_id"] == "realtime-dev"
        health = (await client.get(f"{url}/health")).json()["data"]
        assert health["healthy"] is True
        assert health["db_connected"] is True
        assert health["connected_cluster"] == 0
        metrics = (await client.get(f"{base}/metrics")).text
        assert 'realtime_connections_total{project="test"} 0' in metrics
