"""Clients that mean harm: what they send costs them, and nobody else."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import secrets
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Received, Wire, until

TOPIC = "realtime:t"
ALL = {"event": "*", "schema": "public", "table": "t"}
PRIVATE = {"private": True}
TABLE = (
    "create table public.t (id int primary key, a text)",
    "grant select on public.t to anon, authenticated",
    "alter publication supabase_realtime add table public.t",
)
OPEN = (
    "create policy open on realtime.messages to public using (true) with check (true)",
)
HUGE = "1" * 30  # makes the parser that keeps long numbers read the frame


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail when the server or its event loop logs an error."""
    yield
    errors = [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    assert errors == []


def nested(depth: int, kind: str = "list") -> str:
    """Return JSON with ``depth`` containers, one in the other."""
    if kind == "list":
        return "[" * depth + "]" * depth
    return '{"a":' * depth + "1" + "}" * depth


EVENTS = ("broadcast", "presence", "phx_join", "access_token", "phx_leave")


@pytest.mark.parametrize("depth", [200, 260, 1000, 100_000])
async def test_deep_nesting_is_carried_or_ignored(
    server: RealtimeServer, depth: int
) -> None:
    async with Wire(server) as wire, Wire(server) as other:
        await other.join(TOPIC)
        for event, kind in itertools.product(EVENTS, ("list", "map")):
            text = nested(depth, kind)
            await wire.join(TOPIC)
            payload = f'{{"event":"track","payload":{{"x":{text}}}}}'
            if event == "phx_join":
                payload = f'{{"config":{{"postgres_changes":[{text}],"x":{text}}}}}'
            for ref in ('"7"', HUGE, text):
                await wire.socket.send(f'["1",{ref},"{TOPIC}","{event}",{payload}]')
            await wire.socket.send(f'["1","7",{text},"{event}",{payload}]')
            assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"
        heard = [m for m in await other.settle() if isinstance(m, Received)]
        broadcasts = sum(message.event == "broadcast" for message in heard)
        assert broadcasts == (6 if depth == 200 else 0)


@pytest.mark.parametrize("number", ["1", HUGE])
@pytest.mark.parametrize(
    "text",
    [
        r'["1",N,"realtime:\ud800","phx_join",{"config":{}}]',
        r'["1",N,"realtime:t","broadcast",{"event":"\udfff","payload":{}}]',
        r'["1",N,"realtime:t","presence",{"event":"track","payload":{"\ud800":1}}]',
        r'["\ud800",N,"realtime:t","phx_join",{"config":{"broadcast":{"ack":true}}}]',
        r'["1",N,"realtime:t","access_token",{"access_token":"\ud800"}]',
    ],
)
async def test_half_characters_are_ignored(
    server: RealtimeServer, text: str, number: str
) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC)
        await wire.socket.send(text.replace("N", number))
        assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"
        assert server.service.metrics.malformed_messages == 1


async def test_topic_with_a_nul_spoils_no_other_private_join(
    server: RealtimeServer,
) -> None:
    await server.sql(*OPEN)
    async with Wire(server) as bad, Wire(server) as good:
        for turn in range(20):
            topic = f"realtime:\0{turn}"
            refs = [
                await bad.send(topic, "phx_join", {"config": PRIVATE}),
                await good.send(f"realtime:{turn}", "phx_join", {"config": PRIVATE}),
            ]
            refused = await bad.expect(event="phx_reply", ref=refs[0])
            assert refused.payload["response"]["reason"].startswith("Unauthorized")
            joined = await good.expect(event="phx_reply", ref=refs[1])
            assert joined.payload["status"] == "ok"


@pytest.mark.parametrize(
    "binding",
    [
        {"schema": "pub\0lic"},
        {"schema": "public", "table": "\0"},
        {"schema": "public", "table": "t", "filter": "a=eq.\0"},
        {"schema": "public", "table": "t", "filter": "\0=eq.1"},
        {"schema": "public", "table": "t", "select": ["\0"]},
    ],
)
async def test_binding_with_a_nul_is_refused(
    server: RealtimeServer, binding: dict[str, Any]
) -> None:
    await server.sql(*TABLE)
    async with Wire(server) as wire:
        await wire.join(TOPIC, postgres_changes=[{"event": "*", **binding}])
        refused = (await wire.expect(event="system")).payload
        assert refused["status"] == "error"
        assert refused["message"].startswith("Unable to subscribe to changes")


@pytest.mark.parametrize(
    "filter_",
    [
        "a=like.x\\",
        "a=ilike.x\\",
        r"a=match.^(.*)(.*)(.*)(.*)(.*)(.*)\1\2\3\4\5\6\1\2\3\4\5\6$",
    ],
)
async def test_filter_that_fails_costs_only_its_own_subscriber(
    serve: Serve, filter_: str
) -> None:
    server = await serve(statement_timeout_ms=1000)
    await server.sql(*TABLE)
    async with Wire(server) as bad, Wire(server) as good:
        await good.watch(TOPIC, ALL)
        await bad.join(TOPIC, postgres_changes=[{**ALL, "filter": filter_}])
        assert (await bad.expect(event="system")).payload["extension"] == (
            "postgres_changes"
        )
        text = "ab" * 2000 + "x"
        await server.sql(f"insert into t values (1, '{text}'), (2, 'b')")
        assert [(await good.change())["record"]["id"] for _ in range(2)] == [1, 2]
        assert await good.settle() == []


async def test_role_that_is_dropped_costs_only_those_who_have_it(
    server: RealtimeServer,
) -> None:
    role = f"passing_{secrets.token_hex(4)}"
    await server.sql(
        *TABLE, f"create role {role}", f"grant {role}, anon to authenticator"
    )
    await server.sql(f"grant anon to {role}")
    async with Wire(server, server.token(role)) as gone, Wire(server) as wire:
        await gone.watch(TOPIC, ALL)
        await wire.watch(TOPIC, ALL)
        await server.sql(f"drop role {role}", "insert into t values (1, 'a')")
        assert (await wire.change())["record"]["id"] == 1
        assert await wire.settle() == []
        lost = (await gone.expect(event="system")).payload
        assert lost["message"] == (
            f'1 changes could not be delivered: role "{role}" does not exist'
        )


async def test_flood_behind_a_waiting_channel_is_held_back(
    server: RealtimeServer,
) -> None:
    """What a client sends while its channel waits stays in its own network buffers."""
    await server.sql(*OPEN)
    lock = await asyncpg.connect(**server.database.connect_args("supabase_admin"))
    message = json.dumps([None, None, TOPIC, "broadcast", {"x": "y" * 100_000}])
    try:
        async with Wire(server) as wire, Wire(server) as other:
            await wire.join(TOPIC, private=True)
            async with lock.transaction():
                await lock.execute("lock table realtime.messages in exclusive mode")

                async def flood() -> None:
                    for _ in range(200):
                        await wire.socket.send(message)

                flooding = asyncio.create_task(flood())
                socket = next(s for s in server.service.sockets if s.channels)
                channel = socket.channels[TOPIC]
                await until(lambda: not socket.transport.is_reading())
                assert not flooding.done()
                assert channel.backlog is not None
                assert len(channel.backlog) * 100_000 < 4_000_000
                assert (await other.ask("phoenix", "heartbeat", {}))["status"] == "ok"
            await flooding
            assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"
    finally:
        await lock.close()


async def test_channel_that_left_asks_no_more(serve: Serve) -> None:
    server = await serve(compat=True)
    database = server.database.dbname
    await server.sql(*TABLE)
    control = await asyncpg.connect(
        **server.database.connect_args("supabase_admin") | {"database": "template1"}
    )
    try:
        async with Wire(server) as wire:
            await control.execute(f'alter database "{database}" allow_connections off')
            await wire.join(TOPIC, postgres_changes=[ALL])
            assert subscribing()
            await wire.ask(TOPIC, "phx_leave", {})
            await control.execute(f'alter database "{database}" allow_connections on')
            await until(lambda: not subscribing())
    finally:
        await control.execute(f'alter database "{database}" allow_connections on')
        await control.close()


def subscribing() -> bool:
    """Tell whether a subscription is being made in the background."""
    return any("_subscribe" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_number_beyond_every_float_is_ignored(server: RealtimeServer) -> None:
    async with Wire(server) as wire, Wire(server) as other:
        await wire.join(TOPIC)
        await other.join(TOPIC)
        for long in ("1", HUGE):
            payload = f'{{"event":"e","payload":{{"a":{long},"b":1e999}}}}'
            await wire.socket.send(f'["1","7","{TOPIC}","broadcast",{payload}]')
        assert (await wire.ask("phoenix", "heartbeat", {}))["status"] == "ok"
        assert await other.settle() == []


@pytest.mark.parametrize(
    "payload",
    [
        b'0},"event":"phx_close","x":{"y":0',
        b'{"a":1}} ',
        b'{"a":"\xff"}',
        b'{"a":NaN}',
        b"",
        b"\xef\xbb\xbf{}",
    ],
)
async def test_broken_json_of_a_binary_push_is_spliced_into_no_text(
    server: RealtimeServer, payload: bytes
) -> None:
    names = (b"1", b"2", TOPIC.encode(), b"e", b"")
    push = bytes((3, *map(len, names), 1)) + b"".join(names)
    async with Wire(server) as sender, Wire(server, vsn="1.0.0") as old:
        await sender.join(TOPIC)
        await old.join(TOPIC)
        await sender.socket.send(push + payload)
        await sender.socket.send(push + b'{"good":1}')
        heard = await old.expect(event="broadcast")
        assert heard.payload["payload"] == {"good": 1}
        assert await old.settle() == []


async def test_header_that_is_no_text_spoils_no_broadcast_over_http(
    server: RealtimeServer,
) -> None:
    await server.sql(*OPEN)
    message = {"topic": "t", "event": "e", "payload": {"a": 1}, "private": True}
    async with Wire(server, server.token()) as wire, httpx.AsyncClient() as client:
        await wire.join(TOPIC, **PRIVATE)
        answer = await client.post(
            f"{server.http_url}/api/broadcast",
            json={"messages": [message]},
            headers={
                b"Authorization": f"Bearer {server.token()}".encode(),
                b"X-Odd": b"\xff\xfe",
            },
        )
        assert answer.status_code == 202
        heard = await wire.expect(event="broadcast")
        assert heard.payload["payload"] == {"a": 1}


async def test_byte_order_mark_is_not_json_over_http(server: RealtimeServer) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{server.http_url}/api/broadcast/t/events/e",
            content=b'\xef\xbb\xbf{"a":' + HUGE.encode() + b"}",
            headers={
                "Authorization": f"Bearer {server.token()}",
                "Content-Type": "application/json",
            },
        )
    assert answer.status_code == 400


async def test_stored_message_with_a_long_event_spoils_no_replay(
    server: RealtimeServer,
) -> None:
    await server.sql(
        *OPEN,
        "select realtime.send_binary('\\x01', repeat('e', 300), 't')",
        "select realtime.send('{\"a\": 1}', repeat('e', 300), 't')",
        "select realtime.send('{\"b\": 1}', 'short', 't')",
    )
    async with Wire(server, server.token()) as wire:
        replay = {"since": 0, "limit": 25}
        await wire.join(TOPIC, private=True, broadcast={"replay": replay})
        events = []
        for _ in range(2):
            heard = await wire.expect(event="broadcast")
            events.append(heard.payload["event"])
        assert events == ["e" * 300, "short"]


async def test_refused_second_join_closes_the_first(server: RealtimeServer) -> None:
    async with Wire(server, server.token()) as wire:
        await wire.join(TOPIC)
        refused = await wire.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refused["response"]["reason"].startswith("Unauthorized")
        closed = await wire.expect(event="phx_close")
        assert closed.join_ref == "1"


async def test_filter_of_a_date_matches_whatever_style_dates_have(
    server: RealtimeServer,
) -> None:
    await server.sql(
        "create table public.days (id int primary key, d date, at timestamptz)",
        "grant select on public.days to authenticated",
        "alter publication supabase_realtime add table public.days",
        f"alter database \"{server.database.dbname}\" set datestyle = 'German'",
    )
    watch = {"event": "*", "schema": "public", "table": "days"}
    async with Wire(server, server.token()) as wire:
        await wire.watch(TOPIC, {**watch, "filter": "d=eq.2026-01-31"})
        await wire.watch("realtime:u", {**watch, "filter": "at=in.(2026-01-31 10:00Z)"})
        await server.sql(
            "insert into public.days values (1, '2026-01-31', '2026-01-31 10:00Z')"
        )
        topics = {(await wire.expect(event="postgres_changes")).topic for _ in "12"}
        assert topics == {TOPIC, "realtime:u"}
