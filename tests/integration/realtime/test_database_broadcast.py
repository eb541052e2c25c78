"""Broadcasts that start in the database, stored messages, and their partitions."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import orjson
import pytest

from harness.servers.realtime import joining, late
from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Wire

TOPIC = "realtime:feed"
PRIVATE = {"private": True}
OPEN = (
    "create policy hear on realtime.messages for select to authenticated using (true)",
)


@pytest.fixture
async def feed(server: RealtimeServer) -> RealtimeServer:
    """Serve a project whose signed-in users may read every topic."""
    await server.sql(*OPEN)
    return server


def parse_binary(frame: bytes) -> tuple[str, str, Any, bytes]:
    """Return topic, event, metadata and payload of a kind 4 frame."""
    assert frame[0] == 4
    sizes, start, names = frame[1:4], 5, []
    for size in sizes:
        names.append(frame[start : start + size])
        start += size
    meta = orjson.loads(names[2]) if names[2] else None
    return names[0].decode(), names[1].decode(), meta, frame[start:]


async def test_send_reaches_private_subscribers_of_both_versions(
    feed: RealtimeServer,
) -> None:
    async with (
        Wire(feed, feed.token()) as two,
        Wire(feed, feed.token(), vsn="1.0.0") as one,
        Wire(feed) as public,
    ):
        await two.join(TOPIC, **PRIVATE)
        await one.join(TOPIC, **PRIVATE)
        await public.join(TOPIC)
        await feed.sql("select realtime.send('{\"a\": 1}', 'news', 'feed')")
        topic, event, meta, payload = parse_binary(await two.expect_binary())
        assert (topic, event) == (TOPIC, "news")
        assert orjson.loads(payload) == {"a": 1, "id": meta["id"]}
        message = (await one.expect(event="broadcast")).payload
        assert message == {
            "type": "broadcast",
            "event": "news",
            "payload": {"a": 1, "id": meta["id"]},
            "meta": {"id": meta["id"]},
        }
        assert await public.settle() == []


async def test_public_send_reaches_public_subscribers(server: RealtimeServer) -> None:
    async with Wire(server) as wire:
        await wire.join(TOPIC, broadcast={"replication_ready": True})
        system = await wire.expect(event="system")
        assert system.payload["message"] == "Replication connection established"
        await server.sql("select realtime.send('{}', 'news', 'feed', false)")
        assert parse_binary(await wire.expect_binary())[1] == "news"


async def test_channel_that_is_welcomed_before_the_stream_opens_misses_nothing(
    feed: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("PATIENCE_S", "PUBLIC_PATIENCE_S"):
        monkeypatch.setattr(joining, patience, 0.2)
    await feed.sql("select realtime.send('{}', 'before', 'feed')")
    # A slot cannot be made while somebody is writing.
    writing = await asyncpg.connect(**feed.database.connect_args("supabase_admin"))
    try:
        await writing.execute(
            "begin; create table public.held (id int);"
            " select realtime.send('{}', 'begun before', 'feed')"
        )
        async with (
            Wire(feed, feed.token()) as two,
            Wire(feed, feed.token(), vsn="1.0.0") as one,
            Wire(feed) as public,
        ):
            await two.join(TOPIC, **PRIVATE)
            await one.join(TOPIC, **PRIVATE)
            await public.join(TOPIC)
            await feed.sql(
                "select realtime.send('{}', 'after', 'feed')",
                "select realtime.send('{}', 'elsewhere', 'other')",
                "select realtime.send('{}', 'to all', 'feed', false)",
            )
            for wire in (one, two, public):
                assert await wire.settle() == []
            await writing.execute("commit")
            wanted = ["begun before", "after"]
            heard = [parse_binary(await two.expect_binary())[1] for _ in wanted]
            assert heard == wanted
            heard = [(await one.expect(event="broadcast")).payload for _ in wanted]
            assert [payload["event"] for payload in heard] == wanted
            assert parse_binary(await public.expect_binary())[1] == "to all"
            await feed.sql("select realtime.send('{}', 'live', 'feed')")
            assert parse_binary(await two.expect_binary())[1] == "live"
            for wire in (two, public):
                assert await wire.settle() == []
    finally:
        await writing.close()


async def test_channel_is_told_when_what_it_missed_cannot_be_read(
    feed: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "PATIENCE_S", 0.2)
    writing = await asyncpg.connect(**feed.database.connect_args("supabase_admin"))
    try:
        await writing.execute("begin; create table public.held (id int)")
        async with Wire(feed, feed.token()) as wire:
            await wire.join(TOPIC, **PRIVATE)
            monkeypatch.setattr(late, "MISSED_SQL", "select 1 / 0")
            await writing.execute("commit")
            system = (await wire.expect(event="system")).payload
            assert system["status"] == "error"
            assert "since the channel was joined may be missing" in system["message"]
            await feed.sql("select realtime.send('{}', 'news', 'feed')")
            assert parse_binary(await wire.expect_binary())[1] == "news"
    finally:
        await writing.close()


async def test_binary_send(feed: RealtimeServer) -> None:
    async with Wire(feed, feed.token()) as wire:
        await wire.join(TOPIC, **PRIVATE)
        await feed.sql(r"select realtime.send_binary('\x00ff', 'raw', 'feed')")
        frame = await wire.expect_binary()
        assert frame[4] == 0
        assert parse_binary(frame)[3] == b"\x00\xff"


async def test_row_trigger_broadcasts_changes(feed: RealtimeServer) -> None:
    await feed.sql(
        "create table public.posts (id int primary key, title text)",
        """create function public.announce() returns trigger language plpgsql as $$
        begin
            perform realtime.broadcast_changes('feed', tg_op, tg_op, tg_table_name,
                tg_table_schema, new, old);
            return null;
        end $$""",
        "create trigger announce after insert or update or delete on public.posts"
        " for each row execute function public.announce()",
    )
    async with Wire(feed, feed.token()) as wire:
        await wire.join(TOPIC, **PRIVATE)
        await feed.sql(
            "insert into posts values (1, 'a')", "update posts set title = 'b'"
        )
        _, event, meta, payload = parse_binary(await wire.expect_binary())
        assert event == "INSERT"
        assert orjson.loads(payload) == {
            "id": meta["id"],
            "record": {"id": 1, "title": "a"},
            "old_record": None,
            "operation": "INSERT",
            "table": "posts",
            "schema": "public",
        }
        assert parse_binary(await wire.expect_binary())[1] == "UPDATE"


async def test_rolled_back_sends_are_never_heard(feed: RealtimeServer) -> None:
    async with Wire(feed, feed.token()) as wire:
        await wire.join(TOPIC, **PRIVATE)
        await feed.sql(
            "begin; select realtime.send('{}', 'lost', 'feed'); rollback",
            "select realtime.send('{}', 'kept', 'feed')",
        )
        assert parse_binary(await wire.expect_binary())[1] == "kept"


async def test_messages_without_event_are_not_broadcast(feed: RealtimeServer) -> None:
    async with Wire(feed, feed.token()) as wire:
        await wire.join(TOPIC, **PRIVATE)
        row = (
            "insert into realtime.messages (topic, extension, private, payload, event)"
        )
        await feed.sql(
            f"{row} values ('feed', 'broadcast', true, '{{}}', null)",
            f"{row} values ('feed', 'presence', true, '{{}}', 'heard')",
        )
        assert parse_binary(await wire.expect_binary())[1] == "heard"


async def test_send_as_a_user_obeys_the_policies(feed: RealtimeServer) -> None:
    connection = await asyncpg.connect(**feed.database.connect_args("supabase_admin"))
    try:
        warnings: list[str] = []
        connection.add_log_listener(lambda _, m: warnings.append(str(m.message)))
        await connection.execute(
            "begin; set local role authenticated;"
            " select realtime.send('{}', 'e', 'feed'); commit"
        )
        assert "WarnSendingBroadcastMessage" in warnings[0]
        assert await connection.fetchval("select count(*) from realtime.messages") == 0
    finally:
        await connection.close()


# Replay -------------------------------------------------------------------------------


async def test_replay_sends_the_newest_in_order_and_once(feed: RealtimeServer) -> None:
    for number in range(5):
        await feed.sql(f"select realtime.send('{{\"n\": {number}}}', 'e', 'feed')")
    since = int((time.time() - 60) * 1000)
    async with Wire(feed, feed.token()) as wire:
        replay = {"broadcast": {"replay": {"since": since, "limit": 3}}}
        await wire.join(TOPIC, **PRIVATE, **replay)
        await feed.sql("select realtime.send('{\"n\": 5}', 'e', 'feed')")
        messages = [await wire.expect(event="broadcast") for _ in range(3)]
        assert [m.payload["payload"]["n"] for m in messages] == [2, 3, 4]
        assert {m.payload["meta"]["replayed"] for m in messages} == {True}
        assert {m.join_ref for m in messages} == {"1"}
        live = orjson.loads(parse_binary(await wire.expect_binary())[3])
        assert live["n"] == 5
        assert await wire.settle() == []


async def test_replay_skips_what_is_older_or_public(feed: RealtimeServer) -> None:
    await feed.sql(
        "select realtime.send('{}', 'public', 'feed', false)",
        "select realtime.send('{}', 'other', 'elsewhere')",
        "select realtime.send('{}', 'mine', 'feed')",
    )
    hour_ms = 3_600_000
    now_ms = int(time.time() * 1000)
    async with Wire(feed, feed.token()) as wire:
        replay = {"broadcast": {"replay": {"since": now_ms - hour_ms}}}
        await wire.join(TOPIC, **PRIVATE, **replay)
        assert (await wire.expect(event="broadcast")).payload["event"] == "mine"
        later = {"broadcast": {"replay": {"since": now_ms + hour_ms}}}
        await wire.join(TOPIC, **PRIVATE, **later)
        await wire.expect(event="phx_close")
        assert await wire.settle() == []


async def test_replay_that_takes_too_long_refuses_the_join(serve: Serve) -> None:
    server = await serve(statement_timeout_ms=300)
    await server.sql(*OPEN)
    async with Wire(server, server.token()) as wire:
        await wire.join("realtime:other", **PRIVATE)
        locking = await asyncpg.connect(
            **server.database.connect_args("supabase_admin")
        )
        try:
            access = server.service.authorizer.read

            async def then_lock(*arguments: Any, **options: Any) -> Any:
                answer = await access(*arguments, **options)
                await locking.execute("begin; lock table realtime.messages")
                return answer

            server.service.authorizer.read = then_lock  # type: ignore[method-assign]
            replay = {"broadcast": {"replay": {"since": 0}}}
            reply = await wire.ask(TOPIC, "phx_join", {"config": {**PRIVATE, **replay}})
            assert reply["response"]["reason"] == (
                "UnableToReplayMessages: Realtime was unable to replay messages"
            )
        finally:
            await locking.close()


# Partitions ---------------------------------------------------------------------------


async def test_partitions_are_made_ahead_and_dropped_with_age(
    server: RealtimeServer,
) -> None:
    connection = await asyncpg.connect(**server.database.connect_args("supabase_admin"))
    try:
        partitions = (
            "select array_agg(c.relname::text order by c.relname) from pg_inherits i"
            " join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = 'realtime.messages'::regclass"
        )
        before = await connection.fetchval(partitions)
        assert len(before) == 5
        await connection.execute(f"drop table realtime.{before[1]}")
        await connection.execute("select realtime.send('{}', 'e', 't')")
        assert await connection.fetchval("select count(*) from realtime.messages") == 1
        assert await connection.fetchval(partitions) == before
        await connection.execute(
            "create table realtime.messages_2020_01_01 partition of realtime.messages"
            " for values from ('2020-01-01') to ('2020-01-02')"
        )
        await server.service.database.maintain_partitions()
        assert await connection.fetchval(partitions) == before
    finally:
        await connection.close()


async def test_platform_file_can_be_applied_again(server: RealtimeServer) -> None:
    from pathlib import Path

    root = Path(__file__).parents[3]
    path = root / "sql" / "platform" / "00000000000040_realtime.sql"
    await server.sql(path.read_text())
    async with Wire(server) as wire:
        await wire.join("realtime:x")


async def test_channels_are_told_of_broadcasts_lost_with_the_stream(
    feed: RealtimeServer,
) -> None:
    async with Wire(feed, feed.token()) as private, Wire(feed) as public:
        await private.join(TOPIC, **PRIVATE)
        await public.join(TOPIC)
        await feed.sql(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where"
            " application_name = 'realtime_changes' and datname = current_database()"
        )
        for wire in (private, public):
            system = (await wire.expect(event="system")).payload
            assert (system["status"], system["extension"]) == ("error", "system")
            assert "broadcasts of the database committed" in system["message"]
        await feed.sql("select realtime.send('{}', 'news', 'feed')")
        assert parse_binary(await private.expect_binary())[1] == "news"
        assert await private.settle() == []
