"""Presence: state, differences, limits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Wire

TOPIC = "realtime:lobby"


def enabled(key: str = "") -> dict[str, Any]:
    return {"presence": {"key": key, "enabled": True}}


def track(payload: Any, event: str = "track") -> dict[str, Any]:
    return {"type": "presence", "event": event, "payload": payload}


async def test_state_is_empty_at_first(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled())
        state = await wire.expect(event="presence_state")
        assert (state.join_ref, state.ref, state.payload) == ("1", None, {})


async def test_join_without_presence_gets_no_state_but_differences(
    server: RealtimeServer,
) -> None:
    async with Wire(server) as plain, Wire(server) as tracker:
        await plain.join(TOPIC)
        assert await plain.settle() == []
        await tracker.join(TOPIC, **enabled("ada"))
        await tracker.ask(TOPIC, "presence", track({"mood": "calm"}))
        diff = await plain.expect(event="presence_diff")
        assert (diff.join_ref, diff.ref) == (None, None)
        assert diff.payload["leaves"] == {}
        (meta,) = diff.payload["joins"]["ada"]["metas"]
        assert meta.pop("phx_ref")
        assert meta == {"mood": "calm"}


async def test_tracking_again_is_one_difference(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled("ada"))
        await wire.ask(TOPIC, "presence", track({"n": 1}))
        first = (await wire.expect(event="presence_diff")).payload["joins"]["ada"]
        reply = await wire.ask(TOPIC, "presence", track({"n": 1}))
        assert reply == {"status": "ok", "response": {}}
        await wire.ask(TOPIC, "presence", track({"n": 2}))
        diff = (await wire.expect(event="presence_diff")).payload
        (joined,) = diff["joins"]["ada"]["metas"]
        assert joined["n"] == 2
        assert joined["phx_ref_prev"] == first["metas"][0]["phx_ref"]
        assert diff["leaves"]["ada"] == first


async def test_one_key_of_several_clients_has_several_metas(
    server: RealtimeServer,
) -> None:
    async with Wire(server) as first, Wire(server) as watcher:
        async with Wire(server) as second:
            for number, wire in enumerate((first, second)):
                await wire.join(TOPIC, **enabled("ada"))
                await wire.ask(TOPIC, "presence", track({"n": number}))
            await watcher.join(TOPIC, **enabled())
            state = (await watcher.expect(event="presence_state")).payload
            assert [meta["n"] for meta in state["ada"]["metas"]] == [0, 1]
        diff = (await watcher.expect(event="presence_diff")).payload
        assert [meta["n"] for meta in diff["leaves"]["ada"]["metas"]] == [1]
        await first.ask(TOPIC, "phx_leave", {})
        diff = (await watcher.expect(event="presence_diff")).payload
        assert [meta["n"] for meta in diff["leaves"]["ada"]["metas"]] == [0]
        assert diff["joins"] == {}


async def test_untrack_leaves(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled("ada"))
        await wire.expect(event="presence_state")
        await wire.ask(TOPIC, "presence", track({}))
        await wire.expect(event="presence_diff")
        reply = await wire.ask(TOPIC, "presence", {"event": "UNTRACK"})
        assert reply == {"status": "ok", "response": {}}
        assert "ada" in (await wire.expect(event="presence_diff")).payload["leaves"]
        await wire.ask(TOPIC, "presence", {"event": "untrack"})
        assert await wire.settle() == []


async def test_key_is_made_when_none_is_given(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled())
        await wire.ask(TOPIC, "presence", {"event": "track"})
        diff = (await wire.expect(event="presence_diff")).payload
        (key,) = diff["joins"]
        assert len(key) == 36


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        ({}, {"status": "ok", "response": {}}),
        ({"event": "dance"}, {"status": "error", "response": {}}),
        (
            track("text"),
            {
                "status": "error",
                "response": {"reason": "Presence track payload must be a map"},
            },
        ),
    ],
)
async def test_odd_presence_messages(
    server: RealtimeServer, payload: Any, reply: Any
) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled())
        assert await wire.ask(TOPIC, "presence", payload) == reply


async def test_client_that_tracks_too_often_is_shut_down(
    server: RealtimeServer,
) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled("ada"))
        for number in range(5):
            await wire.ask(TOPIC, "presence", track({"n": number}))
        await wire.send(TOPIC, "presence", track({"n": 6}))
        system = await wire.expect(event="system")
        assert system.payload == {
            "status": "error",
            "extension": "system",
            "message": "Client presence rate limit exceeded",
            "channel": "lobby",
        }
        assert (await wire.expect(event="phx_close")).topic == TOPIC


async def test_large_track_is_shut_down(serve: Serve) -> None:
    server = await serve(max_payload_size_in_kb=1)
    async with Wire(server) as wire:
        await wire.join(TOPIC, **enabled())
        await wire.send(TOPIC, "presence", track({"x": "y" * 2000}))
        system = await wire.expect(event="system")
        assert system.payload["message"] == "Track message size exceeded"
        await wire.expect(event="phx_close")
