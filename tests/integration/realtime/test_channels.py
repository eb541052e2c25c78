"""Joining, leaving and everything a channel answers, in both versions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Received, Wire

VERSIONS = pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])


@VERSIONS
async def test_heartbeat_is_answered(server: RealtimeServer, vsn: str) -> None:
    async with Wire(server, vsn=vsn) as wire:
        reply = await wire.ask("phoenix", "heartbeat", {})
        assert reply == {"status": "ok", "response": {}}


@VERSIONS
async def test_join_without_bindings_replies_an_empty_list(
    server: RealtimeServer, vsn: str
) -> None:
    async with Wire(server, vsn=vsn) as wire:
        assert await wire.join("realtime:room") == {"postgres_changes": []}


@VERSIONS
async def test_leave_is_answered_and_closed(server: RealtimeServer, vsn: str) -> None:
    async with Wire(server, vsn=vsn) as wire:
        await wire.join("realtime:room")
        assert (await wire.ask("realtime:room", "phx_leave", {}))["status"] == "ok"
        close = await wire.expect(event="phx_close")
        assert (close.topic, close.ref, close.payload) == ("realtime:room", "1", {})


async def test_duplicate_join_closes_the_old_channel(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join("realtime:room")
        await wire.join("realtime:room")
        close = await wire.expect(event="phx_close")
        assert (close.join_ref, close.ref) == ("1", "1")
        ack = {"broadcast": {"ack": True}}
        await wire.join("realtime:room", **ack)
        payload = {"type": "broadcast", "event": "x", "payload": {}}
        assert (await wire.ask("realtime:room", "broadcast", payload))["status"] == "ok"


@VERSIONS
async def test_message_to_a_topic_not_joined_is_unmatched(
    server: RealtimeServer, vsn: str
) -> None:
    async with Wire(server, vsn=vsn) as wire:
        for topic, event in (("realtime:none", "broadcast"), ("other", "phx_join")):
            reply = await wire.ask(topic, event, {})
            assert reply == {
                "status": "error",
                "response": {"reason": "unmatched topic"},
            }
        assert (await wire.ask("realtime:none", "phx_leave", {}))["status"] == "ok"


async def test_leave_with_another_join_ref_is_ignored(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join("realtime:room", broadcast={"ack": True})
        await wire.send("realtime:room", "phx_leave", {}, join_ref="99")
        payload = {"type": "broadcast", "event": "x", "payload": {}}
        # A stale join_ref is fine for everything else.
        ref = await wire.send("realtime:room", "broadcast", payload, join_ref="99")
        reply = await wire.expect(event="phx_reply", ref=ref)
        assert reply.payload == {"status": "ok", "response": {}}


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (
            "realtime:",
            {"config": {}},
            "TopicNameRequired: You must provide a topic name",
        ),
        ("realtime:x", {"config": "x"}, "UnknownErrorOnChannel: "),
        ("realtime:x", [], "UnknownErrorOnChannel: "),
        (
            "realtime:x",
            {"config": {}, "access_token": "nonsense"},
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            "realtime:x",
            {"config": {"broadcast": {"replay": {"since": 1}}}},
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
        (
            "realtime:x",
            {"config": {"private": True, "broadcast": {"replay": {"limit": 5}}}},
            "UnableToReplayMessages: Replay params are not valid",
        ),
        (
            "realtime:x",
            {
                "config": {
                    "private": True,
                    "broadcast": {"replay": {"since": 1, "limit": 26}},
                }
            },
            "UnableToReplayMessages: Replay params are not valid",
        ),
    ],
)
async def test_join_is_refused_with_its_reason(
    server: RealtimeServer, topic: str, payload: Any, reason: str
) -> None:
    async with Wire(server) as wire:
        reply = await wire.ask(topic, "phx_join", payload)
        assert reply["status"] == "error"
        assert reply["response"]["reason"].startswith(reason)
        assert await wire.join("realtime:other") == {"postgres_changes": []}


@pytest.mark.parametrize(
    "payload",
    [
        {"config": {"presence": {"enabled": 1}}},
        {"config": {"broadcast": "x", "presence": [], "postgres_changes": 5}},
        {"config": {"private": "FALSE", "broadcast": {"ack": "true", "self": 7}}},
        {"config": {}, "access_token": 5},
        {"config": {}, "access_token": "sb_publishable_something"},
        {"config": None},
    ],
)
async def test_odd_join_parameters_fall_back_to_defaults(
    server: RealtimeServer, payload: Any
) -> None:
    async with Wire(server) as wire:
        reply = await wire.ask("realtime:x", "phx_join", payload)
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}


async def test_expired_token_is_refused_with_its_age(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        token = server.token("anon", exp=1)
        payload = {"config": {}, "access_token": token}
        reply = await wire.ask("realtime:x", "phx_join", payload)
        reason = reply["response"]["reason"]
        assert reason.startswith("InvalidJWTToken: Token has expired ")
        assert reason.endswith(" seconds ago")


async def test_private_only_project_refuses_public_channels(serve: Serve) -> None:
    server = await serve(private_only=True)
    async with Wire(server) as wire:
        reply = await wire.ask("realtime:x", "phx_join", {"config": {}})
        assert reply["response"] == {
            "reason": "PrivateOnly: This project only allows private channels"
        }


async def test_channels_of_a_client_are_limited(serve: Serve) -> None:
    server = await serve(max_channels_per_client=2)
    async with Wire(server) as wire:
        await wire.join("realtime:a")
        await wire.join("realtime:b")
        reply = await wire.ask("realtime:c", "phx_join", {"config": {}})
        assert reply["response"] == {
            "reason": "ChannelRateLimitReached: Too many channels"
        }
        # Joining again in place of one's own channel takes no more room.
        await wire.join("realtime:a")


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        "[]",
        '["1","1","realtime:x","phx_join"]',
        '["1","1",5,"phx_join",{}]',
        '["1","1","realtime:x",null,{}]',
        "{}",
        "[" * 5000,
        '["1","1","realtime:x","phx_join",{"a":NaN}]',
        b"\x07whatever",
        b"\x03\xff\xff\xff\xff\xff\x01",
        b"",
        b"\x00\x01\x01\x09\x01abc",
    ],
)
async def test_malformed_messages_are_ignored(
    server: RealtimeServer, frame: str | bytes
) -> None:
    async with Wire(server) as wire:
        await wire.socket.send(frame)
        assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"
    assert server.service.metrics.malformed_messages == 1


async def test_invalid_utf8_is_ignored(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.socket.send(b'["1","2","realtime:x","phx_join",{"\xff":1}]', True)
        assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"


async def test_version_one_needs_the_key_ref(server: RealtimeServer) -> None:
    async with Wire(server, vsn="1.0.0") as wire:
        message = {"topic": "phoenix", "event": "heartbeat", "payload": {}}
        await wire.socket.send(orjson.dumps(message).decode())
        await wire.socket.send(orjson.dumps({**message, "ref": None}).decode())
        reply = await wire.receive()
        assert isinstance(reply, Received)
        assert (reply.event, reply.ref) == ("phx_reply", None)


async def test_refs_are_echoed_whatever_they_are(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        for ref in (None, 7, {"a": [1]}, "x" * 300):
            frame = orjson.dumps([ref, ref, "phoenix", "heartbeat", {}])
            await wire.socket.send(frame.decode())
            reply = await wire.receive()
            assert isinstance(reply, Received)
            assert (reply.join_ref, reply.ref) == (ref, ref)


async def test_unknown_events_get_no_reply(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join("realtime:x")
        await wire.send("realtime:x", "whatever", {})
        assert await wire.settle() == []


async def test_payload_that_is_no_object_crashes_the_channel_alone(
    server: RealtimeServer,
) -> None:
    async with Wire(server) as wire:
        await wire.join("realtime:x")
        await wire.join("realtime:y")
        await wire.send("realtime:x", "broadcast", "text")
        error = await wire.expect(event="phx_error")
        assert error.topic == "realtime:x"
        assert error.ref == error.join_ref == "1"
        assert error.payload == {"reason": "channel_crash"}
        reply = await wire.ask("realtime:x", "broadcast", {})
        assert reply["response"] == {"reason": "unmatched topic"}
        assert (await wire.ask("realtime:y", "phx_leave", {}))["status"] == "ok"


async def test_oversized_frame_closes_the_socket(serve: Serve) -> None:
    server = await serve(max_frame_bytes=1000)
    async with Wire(server) as wire:
        await wire.socket.send("x" * 1001)
        assert (await wire.closed())[0] == 1009


async def test_stopped_service_asks_clients_to_leave(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join("realtime:x")
        server.service.disconnect_all()
        system = await wire.expect(event="system")
        assert system == Received(
            None,
            None,
            "realtime:x",
            "system",
            {
                "message": "Server requested disconnect",
                "status": "ok",
                "extension": "system",
            },
        )
        assert (await wire.closed())[0] == 1012


async def test_ten_thousand_joins_on_a_socket_are_answered(serve: Serve) -> None:
    server = await serve()
    async with Wire(server) as wire:
        for number in range(10_000):
            await wire.send(f"realtime:{number}", "phx_join", {"config": {}})
        statuses = []
        for _ in range(10_000):
            message = await wire.receive()
            assert isinstance(message, Received)
            statuses.append(message.payload["status"])
        # Those that are refused need not wait for the database.
        assert sorted(statuses, reverse=True) == ["ok"] * 100 + ["error"] * 9900
    assert len(server.service.buses) <= 100
