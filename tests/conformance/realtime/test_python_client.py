"""The official Python client works unchanged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from realtime import AsyncRealtimeChannel, RealtimeSubscribeStates
from realtime.types import RealtimePostgresChangesListenEvent

from tests.conformance.realtime.conftest import Connect
from tests.integration.realtime.server import RealtimeServer

pytestmark = pytest.mark.conformance

TIMEOUT_S = 5.0


async def subscribe(channel: AsyncRealtimeChannel) -> RealtimeSubscribeStates:
    """Subscribe and return the state that the client reports first."""
    states: asyncio.Queue[RealtimeSubscribeStates] = asyncio.Queue()
    await channel.subscribe(lambda state, error: states.put_nowait(state))
    async with asyncio.timeout(TIMEOUT_S):
        return await states.get()


async def received(queue: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        return await queue.get()


async def test_broadcast_reaches_others_and_not_the_sender(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    echoed: asyncio.Queue[Any] = asyncio.Queue()
    out = sender.channel("room").on_broadcast("shout", echoed.put_nowait)
    into = receiver.channel("room").on_broadcast("shout", heard.put_nowait)
    for channel in (out, into):
        assert await subscribe(channel) is RealtimeSubscribeStates.SUBSCRIBED
    await out.send_broadcast("shout", {"words": "é", "number": 12345678901234567890123})
    message = await received(heard)
    assert message["payload"] == {"words": "é", "number": 12345678901234567890123}
    await into.send_broadcast("shout", {"words": "back"})
    assert (await received(echoed))["payload"] == {"words": "back"}
    assert heard.empty()


async def test_self_broadcast_comes_back(connect: Connect) -> None:
    client = await connect()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    channel = client.channel(
        "echo",
        {
            "config": {
                "broadcast": {"ack": True, "self": True},
                "presence": {"key": "", "enabled": False},
                "private": False,
            }
        },
    ).on_broadcast("*", heard.put_nowait)
    assert await subscribe(channel) is RealtimeSubscribeStates.SUBSCRIBED
    await channel.send_broadcast("ping", {"n": 1})
    assert (await received(heard))["payload"] == {"n": 1}


async def test_presence_is_shared_and_leaves_with_the_socket(connect: Connect) -> None:
    first, second = await connect(), await connect()
    joins: asyncio.Queue[str] = asyncio.Queue()
    leaves: asyncio.Queue[str] = asyncio.Queue()
    watching = first.channel("lobby")
    watching.on_presence_join(lambda key, _, new: joins.put_nowait(key))
    watching.on_presence_leave(lambda key, _, left: leaves.put_nowait(key))
    assert await subscribe(watching) is RealtimeSubscribeStates.SUBSCRIBED
    tracking = second.channel(
        "lobby",
        {
            "config": {
                "broadcast": None,
                "presence": {"key": "ada", "enabled": True},
                "private": False,
            }
        },
    )
    assert await subscribe(tracking) is RealtimeSubscribeStates.SUBSCRIBED
    await tracking.track({"mood": "curious"})
    assert await received(joins) == "ada"
    state = watching.presence_state()
    assert state["ada"][0]["mood"] == "curious"
    await second.close()
    assert await received(leaves) == "ada"
    assert watching.presence_state() == {}


async def test_unsubscribed_channel_hears_no_more(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    out = sender.channel("news")
    into = receiver.channel("news").on_broadcast("*", heard.put_nowait)
    await subscribe(out)
    await subscribe(into)
    await receiver.remove_channel(into)
    other = (await connect()).channel("news").on_broadcast("*", heard.put_nowait)
    await subscribe(other)
    await out.send_broadcast("one", {})
    assert (await received(heard))["event"] == "one"
    assert heard.empty()


async def test_changes_arrive_with_row_security(
    server: RealtimeServer, connect: Connect
) -> None:
    owner = "11111111-1111-1111-1111-111111111111"
    await server.sql(
        "create table public.todos (id int primary key, owner uuid, title text)",
        "alter table public.todos enable row level security",
        "create policy own on public.todos using (owner = auth.uid())",
        "grant select on public.todos to anon, authenticated",
        "alter publication supabase_realtime add table public.todos",
    )
    client = await connect("authenticated", sub=owner)
    changes: asyncio.Queue[Any] = asyncio.Queue()
    live: asyncio.Queue[Any] = asyncio.Queue()
    channel = client.channel("todos")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All,
        changes.put_nowait,
        table="todos",
        filter="id=gt.1",
    )
    channel.on_system(live.put_nowait)
    assert await subscribe(channel) is RealtimeSubscribeStates.SUBSCRIBED
    assert (await received(live)).message == "Subscribed to PostgreSQL"
    await server.sql(
        f"insert into todos values (1, '{owner}', 'filtered'), (2, null, 'hidden'),"
        f" (3, '{owner}', 'mine')"
    )
    change = (await received(changes))["data"]
    assert change["record"] == {"id": 3, "owner": owner, "title": "mine"}
    assert changes.empty()


async def test_private_channel_token_and_http_send(
    server: RealtimeServer, connect: Connect
) -> None:
    await server.sql(
        "create policy hear on realtime.messages for select to authenticated"
        " using (true)",
        "create policy speak on realtime.messages for insert to authenticated"
        " with check (true)",
    )
    config: Any = {"config": {"broadcast": None, "presence": None, "private": True}}
    stranger = (await connect()).channel("club", config)
    assert await subscribe(stranger) is not RealtimeSubscribeStates.SUBSCRIBED
    client = await connect()
    await client.set_auth(server.token(sub="11111111-1111-1111-1111-111111111111"))
    heard: asyncio.Queue[Any] = asyncio.Queue()
    member = client.channel("club", config).on_broadcast("*", heard.put_nowait)
    assert await subscribe(member) is RealtimeSubscribeStates.SUBSCRIBED
    await member.http_send("over-http", {"n": 1})
    assert (await received(heard))["payload"] == {"n": 1}
    await server.sql("select realtime.send('{\"n\": 2}', 'stored', 'club')")
    assert (await received(heard))["payload"]["n"] == 2
