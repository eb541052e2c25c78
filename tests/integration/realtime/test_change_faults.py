"""What a fault costs, and that those it costs hear of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from harness.db.cluster import Cluster
from harness.db.discovery import PostgresInstallation
from harness.db.schema_files import Schema
from harness.db.templates import TemplateStore
from harness.servers.realtime.batch import TableBatch
from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Wire, until

ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
TOPIC = "realtime:t"
ALL = {"event": "*", "schema": "public", "table": "t"}


async def make(server: RealtimeServer, columns: str, *more: str) -> None:
    await server.sql(
        f"create table public.t ({columns})",
        "grant select on public.t to anon, authenticated",
        "alter publication supabase_realtime add table public.t",
        *more,
    )


async def kill(server: RealtimeServer, application: str) -> None:
    """End the database sessions of one of the service's connections."""
    await server.sql(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        f" where application_name = '{application}' and datname = current_database()"
    )


async def test_policy_that_raises_costs_its_rows_only(server: RealtimeServer) -> None:
    await make(
        server,
        "id int primary key, divisor int",
        "alter table t enable row level security",
        "create policy fragile on t using (10 / divisor > 0)",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql(
            "insert into t select i, case when i in (3, 77) then 0 else 1 end"
            " from generate_series(1, 100) i"
        )
        lost = 0
        while lost < 2:  # the rows may have come in two batches
            system = (await wire.expect(event="system")).payload
            assert system["status"] == "error"
            count, text = system["message"].split(" ", 1)
            assert text == "changes could not be delivered: division by zero"
            lost += int(count)
        seen = [(await wire.change())["record"]["id"] for _ in range(98)]
        assert seen == [i for i in range(1, 101) if i not in (3, 77)]
        await server.sql("insert into t values (200, 1)")
        assert (await wire.change())["record"]["id"] == 200


async def test_policy_that_raises_for_some_costs_only_them(
    server: RealtimeServer,
) -> None:
    await make(
        server,
        "id int primary key",
        "alter table t enable row level security",
        f"create policy fragile on t using (auth.uid() <> '{BOB}' or 1 / (id - 1) = 0)",
    )
    async with (
        Wire(server, server.token(sub=ALICE)) as hers,
        Wire(server, server.token(sub=BOB)) as his,
    ):
        await hers.watch(TOPIC, ALL)
        await his.watch(TOPIC, ALL)
        await server.sql("insert into t values (1), (5)")
        assert [(await hers.change())["record"]["id"] for _ in range(2)] == [1, 5]
        system = (await his.expect(event="system")).payload
        assert system["message"].startswith("1 changes could not be delivered")
        assert (await his.change())["record"]["id"] == 5
        assert await hers.settle() == []


async def test_policy_of_old_rows_that_raises_is_told(server: RealtimeServer) -> None:
    await make(
        server,
        "id int primary key, divisor int",
        "insert into t values (1, 1), (2, 0), (3, 1)",
        "alter table t replica identity full",
        "alter table t enable row level security",
        "create policy fragile on t using (10 / divisor > 0)",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("delete from t")
        assert [(await wire.change())["old_record"]["id"] for _ in range(2)] == [1, 3]
        system = (await wire.expect(event="system")).payload
        assert system["message"] == (
            "1 changes could not be delivered: division by zero"
        )


async def test_slow_policy_costs_those_it_is_slow_for(serve: Serve) -> None:
    server = await serve(statement_timeout_ms=300)
    await make(
        server,
        "id int primary key",
        "alter table t enable row level security",
        f"create policy slow on t using (auth.uid() <> '{BOB}'"
        " or pg_sleep(5)::text = '')",
    )
    async with (
        Wire(server, server.token(sub=ALICE)) as hers,
        Wire(server, server.token(sub=BOB)) as his,
    ):
        await hers.watch(TOPIC, ALL)
        await his.watch(TOPIC, ALL)
        await server.sql("insert into t values (1)")
        system = (await his.expect(event="system")).payload
        assert system["message"] == (
            "1 changes could not be delivered: Query was cancelled, please try again"
        )
        assert (await hers.change())["record"]["id"] == 1


async def test_dropped_table_is_told_and_others_go_on(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    await server.sql(
        "create table public.other (id int primary key)",
        "grant select on public.other to anon",
        "alter publication supabase_realtime add table public.other",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, {"event": "*", "schema": "public"})
        await server.sql(
            "begin; insert into t values (1); insert into other values (1);"
            " drop table t; commit"
        )
        system = (await wire.expect(event="system")).payload
        assert system["message"] == (
            "1 changes could not be delivered: public.t does not exist any more"
        )
        assert (await wire.change())["table"] == "other"


async def test_lost_replication_is_told_and_resumes(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t values (1)")
        assert (await wire.change())["record"] == {"id": 1}
        await kill(server, "realtime_changes")
        lost = (await wire.expect(event="system")).payload
        assert lost["status"] == "error"
        assert lost["message"].startswith("The replication connection was lost")
        again = (await wire.expect(event="system")).payload
        assert again["message"] == "Subscribed to PostgreSQL"
        await server.sql("insert into t values (2)")
        assert (await wire.change())["record"] == {"id": 2}
        assert server.service.metrics.replication_restarts == 1


async def test_loss_is_told_once_after_a_refresh(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        token = server.token("anon", jti="another")
        await wire.send(TOPIC, "access_token", {"access_token": token})
        await wire.expect(event="system")
        await kill(server, "realtime_changes")
        for status in ("error", "ok"):
            assert (await wire.expect(event="system")).payload["status"] == status
        await server.sql("insert into t values (1)")
        assert (await wire.change())["record"] == {"id": 1}
        assert await wire.settle() == []


async def test_lost_visibility_connection_costs_nothing(server: RealtimeServer) -> None:
    await make(
        server,
        "id int primary key",
        "alter table t enable row level security",
        "create policy all_rows on t using (true)",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        for number in range(3):
            await server.sql(f"insert into t values ({number})")
            assert (await wire.change())["record"] == {"id": number}
            await kill(server, "realtime_visibility")
        assert await wire.settle() == []


async def test_question_that_cannot_be_asked_is_told_and_not_repeated(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(
        server,
        "id int primary key",
        "alter table t enable row level security",
        "create policy all_rows on t using (true)",
    )
    key_of = TableBatch.key_of

    def too_long(batch: TableBatch, position: int) -> tuple[str, ...]:
        key = key_of(batch, position)
        return (*key, "more") if key == ("1",) else key

    monkeypatch.setattr(TableBatch, "key_of", too_long)
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t values (1)")
        told = await wire.expect(event="system")
        assert told.payload["message"].startswith("1 changes could not be delivered")
        await server.sql("insert into t values (2)")
        assert (await wire.change())["record"] == {"id": 2}


async def test_unpublished_table_ends_the_subscription(serve: Serve) -> None:
    server = await serve(publication_check_s=0.5)
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("alter publication supabase_realtime drop table t")
        system = (await wire.expect(event="system")).payload
        assert system["status"] == "error"
        assert "Please check Realtime is enabled" in system["message"]


async def test_table_published_later_is_seen_by_a_wildcard(
    server: RealtimeServer,
) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, {"event": "*", "schema": "public"})
        await server.sql(
            "create table public.later (id int primary key)",
            "grant select on public.later to anon",
            "alter publication supabase_realtime add table public.later",
            "insert into later values (1)",
        )
        assert (await wire.change())["table"] == "later"


async def test_publication_made_after_the_stream_is_followed(
    server: RealtimeServer,
) -> None:
    await server.sql("drop publication supabase_realtime")
    async with Wire(server) as wire:
        await wire.join("realtime:first", postgres_changes=[ALL])
        assert (await wire.expect(event="system")).payload["status"] == "error"
        await server.sql("create publication supabase_realtime")
        await make(server, "id int primary key")
        await wire.watch(TOPIC, ALL)
        # The stream began anew for it: who listened before may have missed something.
        told = (await wire.expect(event="system", topic="realtime:first")).payload
        assert (told["status"], told["extension"]) == ("error", "system")
        assert "broadcasts of the database committed before" in told["message"]
        await server.sql("insert into t values (1)")
        assert (await wire.change())["record"] == {"id": 1}


async def test_full_queue_holds_the_stream_back_and_loses_nothing(
    serve: Serve,
) -> None:
    server = await serve(unseen_change_limit=100)
    await make(server, "id int primary key")
    deepest = 0

    def watch_depth() -> bool:
        nonlocal deepest
        deepest = max(deepest, server.service.changes.waiting)
        return server.service.metrics.changes_delivered >= 20_000

    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t select generate_series(1, 20000)")
        await until(watch_depth)
        seen = [(await wire.change())["record"]["id"] for _ in range(20_000)]
        assert seen == list(range(1, 20_001))
    # What one turn of reading brings may come on top of the limit.
    assert deepest <= 100 + 500


async def test_large_rows_are_held_back_by_their_bytes(serve: Serve) -> None:
    server = await serve(unseen_change_bytes=500_000)
    await make(server, "id int primary key, a text")
    deepest = 0

    def watch_depth() -> bool:
        nonlocal deepest
        deepest = max(deepest, server.service.changes.waiting)
        return server.service.metrics.changes_delivered >= 300

    async with Wire(server) as wire:
        await wire.watch(TOPIC, {**ALL, "select": ["id"]})
        await server.sql(
            "insert into t select i, repeat('x', 100000) from generate_series(1, 300) i"
        )
        await until(watch_depth)
        seen = [(await wire.change())["record"]["id"] for _ in range(300)]
        assert seen == list(range(1, 301))
    assert deepest <= 5


@pytest.mark.parametrize("workers", [0, 2])
async def test_slow_client_is_told_cut_and_slows_nobody(
    serve: Serve, workers: int
) -> None:
    server = await serve(
        congested_bytes=300_000, congested_grace_s=0.5, workers=workers
    )
    payload = {"type": "broadcast", "event": "e", "payload": {"x": "y" * 20_000}}
    async with Wire(server) as sender, Wire(server) as quick, Wire(server) as slow:
        for wire in (sender, quick, slow):
            await wire.join(TOPIC)
        transport: Any = slow.socket.transport
        transport.pause_reading()
        count = 0
        while server.service.metrics.cut_clients == 0:
            await sender.send(TOPIC, "broadcast", payload)
            await quick.expect(event="broadcast")
            count += 1
            assert count < 5000
        transport.resume_reading()
        system = (await slow.expect(event="system")).payload
        assert system["message"].startswith("Client reads too slowly")
        assert (await slow.closed())[0] == 1013
        await sender.send(TOPIC, "broadcast", payload)
        await quick.expect(event="broadcast")
        assert len(server.service.joined) == 2


@pytest.mark.parametrize("workers", [0, 2])
async def test_client_that_reads_nothing_is_dropped(serve: Serve, workers: int) -> None:
    server = await serve(
        congested_bytes=300_000, congested_grace_s=0.2, workers=workers
    )
    payload = {"type": "broadcast", "event": "e", "payload": {"x": "y" * 20_000}}
    async with Wire(server) as sender, Wire(server) as dead:
        await sender.join(TOPIC)
        await dead.join(TOPIC)
        transport: Any = dead.socket.transport
        transport.pause_reading()
        while server.service.metrics.cut_clients == 0:
            await sender.send(TOPIC, "broadcast", payload)
            await sender.ask("phoenix", "heartbeat", {})
        await until(lambda: len(server.service.sockets) == 1)
        transport.abort()


async def test_stopped_service_leaves_no_session_behind(serve: Serve) -> None:
    server = await serve()
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.service.stop()
    arguments = server.database.connect_args("supabase_admin")
    connection = await asyncpg.connect(**arguments)
    try:
        slots = "select count(*) = 0 from pg_replication_slots where database = $1"
        await until(lambda: connection.fetchval(slots, server.database.dbname))
    finally:
        await connection.close()


@pytest.mark.slow
async def test_crash_of_postgres_is_survived_and_told(
    postgres_installation: PostgresInstallation,
    platform_schema: Schema,
    tmp_path: Path,
) -> None:
    with Cluster.start(postgres_installation) as cluster:
        async with TemplateStore(cluster.address()) as store:
            template = await store.template((platform_schema,))
            address = store.address(await store.clone(template))
        async with RealtimeServer(address, tmp_path) as server:
            await make(server, "id int primary key")
            async with Wire(server) as wire, Wire(server) as public:
                await wire.watch(TOPIC, ALL)
                await public.join("realtime:public", broadcast={"ack": True})
                await crash(server)
                broadcast = {"type": "broadcast", "event": "e", "payload": {}}
                reply = await public.ask("realtime:public", "broadcast", broadcast)
                assert reply["status"] == "ok"
                lost = (await wire.expect(event="system")).payload
                assert "may be missing" in lost["message"]
                await wire.expect(event="system")
                await server.sql("insert into t values (2)")
                assert (await wire.change())["record"] == {"id": 2}


async def crash(server: RealtimeServer) -> None:
    """Kill a session as a crash would: PostgreSQL ends all others and recovers."""
    arguments = server.database.connect_args("supabase_admin")
    connection = await asyncpg.connect(**arguments)
    pid = await connection.fetchval("select pg_backend_pid()")
    os.kill(pid, signal.SIGKILL)
    await until(connection.is_closed)

    async def answers() -> bool:
        try:
            await server.sql("select 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    await until(answers)
