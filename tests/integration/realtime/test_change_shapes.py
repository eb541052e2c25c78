"""Every form a change can take: keys, identities, columns, sizes, several bindings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Wire

ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
TOPIC = "realtime:t"
ALL = {"event": "*", "schema": "public", "table": "t"}


async def make(server: RealtimeServer, columns: str, *more: str) -> None:
    """Create and publish the table ``t``, readable by everybody."""
    await server.sql(
        f"create table public.t ({columns})",
        "grant select on public.t to anon, authenticated",
        "alter publication supabase_realtime add table public.t",
        *more,
    )


OWN_ROWS = (
    "alter table public.t enable row level security",
    "create policy own on public.t for select to authenticated"
    " using (owner = auth.uid())",
)


async def test_several_bindings_share_a_message_with_their_ids(
    server: RealtimeServer,
) -> None:
    await make(server, "id int primary key, title text")
    async with Wire(server) as wire:
        bindings = [
            {"event": "INSERT", "schema": "public", "table": "t"},
            {"event": "*", "schema": "public"},
            {"event": "DELETE", "schema": "public", "table": "t"},
            {"event": "insert", "schema": "*", "table": "*", "unknown": 1},
        ]
        response = await wire.watch(TOPIC, *bindings)
        replies = response["postgres_changes"]
        for binding, reply in zip(bindings, replies, strict=True):
            assert reply == {**binding, "id": reply["id"]}
        ids = [reply["id"] for reply in replies]
        assert len(set(ids)) == 4
        await server.sql("insert into t values (1, 'a')", "delete from t")
        insert = (await wire.expect(event="postgres_changes")).payload
        assert insert["ids"] == [ids[3], ids[1], ids[0]]
        delete = (await wire.expect(event="postgres_changes")).payload
        assert delete["ids"] == [ids[2], ids[1]]


async def test_equal_bindings_have_equal_ids(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as one, Wire(server) as two:
        first = (await one.watch(TOPIC, ALL))["postgres_changes"]
        second = (await two.watch("realtime:other", ALL))["postgres_changes"]
        assert first == second


async def test_selected_columns_come_with_the_key(server: RealtimeServer) -> None:
    await make(server, "id int primary key, a text, b text")
    async with Wire(server) as wire:
        response = await wire.watch(TOPIC, {**ALL, "select": ["a"]}, ALL)
        some, whole = (reply["id"] for reply in response["postgres_changes"])
        await server.sql("insert into t values (1, 'x', 'y')")
        first = (await wire.expect(event="postgres_changes")).payload
        second = (await wire.expect(event="postgres_changes")).payload
        assert first["ids"] == [whole]
        assert first["data"]["record"] == {"id": 1, "a": "x", "b": "y"}
        assert second["ids"] == [some]
        assert second["data"]["record"] == {"id": 1, "a": "x"}


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (
            {"schema": "public", "table": "*", "select": ["a"]},
            "Column selection is not supported for wildcard subscriptions."
            " Provide an explicit schema and table name.",
        ),
        (
            {"event": "*"},
            "No subscription params provided. Please provide at least a `schema` or"
            ' `table` to subscribe to: %{"event" => "*"}',
        ),
        ({**ALL, "filter": "foo=1"}, 'Error parsing `filter` params: ["foo", "1"]'),
        (
            {**ALL, "filter": "id=in.1"},
            "`in` filter value must be wrapped by parentheses",
        ),
        (
            {**ALL, "filter": "id=eq.1,"},
            "filter must not contain empty segments (check for extra commas)",
        ),
        (
            {**ALL, "filter": "id=eq.abc"},
            "Unable to subscribe to changes with given parameters. An exception"
            " happened so please check your connect parameters: [event: *,"
            " schema: public,"
            ' table: t, filters: [{"id", "eq", "abc", false}], select: nil]. Exception:'
            " ERROR 22P02 (invalid_text_representation) invalid input syntax for type"
            ' integer: "abc"',
        ),
    ],
)
async def test_wrong_bindings_are_told_why(
    server: RealtimeServer, binding: dict[str, Any], message: str
) -> None:
    await make(server, "id int primary key, a text")
    async with Wire(server) as wire:
        await wire.join(TOPIC, postgres_changes=[ALL, binding])
        system = (await wire.expect(event="system")).payload
        assert system["status"] == "error"
        assert system["message"] == message
        # One bad entry makes none of them active.
        await server.sql("insert into t values (1)")
        assert await wire.settle() == []


@pytest.mark.parametrize("filter_", ["", "   "])
async def test_blank_filter_is_no_filter(server: RealtimeServer, filter_: str) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, {**ALL, "filter": filter_})


async def test_null_filter_is_an_error(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.join(TOPIC, postgres_changes=[{**ALL, "filter": None}])
        assert (await wire.expect(event="system")).payload["status"] == "error"


async def test_legacy_join_gets_bare_changes(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server, vsn="1.0.0") as wire:
        reply = await wire.ask("realtime:public:t:id=eq.2", "phx_join", {})
        assert reply["status"] == "ok"
        await wire.expect(event="system")
        await server.sql("insert into t values (1), (2)", "delete from t")
        insert = await wire.expect(event="INSERT")
        assert insert.payload["record"] == {"id": 2}
        assert (await wire.expect(event="DELETE")).payload["old_record"] == {"id": 2}


# Keys and identities ------------------------------------------------------------------


async def test_full_identity_shows_the_old_row(server: RealtimeServer) -> None:
    await make(
        server,
        "id int primary key, a text",
        "alter table t replica identity full",
        "insert into t values (1, 'x')",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("update t set a = 'y'", "delete from t")
        assert (await wire.change())["old_record"] == {"id": 1, "a": "x"}
        assert (await wire.change())["old_record"] == {"id": 1, "a": "y"}


async def test_changed_key_shows_the_old_key(server: RealtimeServer) -> None:
    await make(server, "id int primary key, a text", "insert into t values (1, 'x')")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("update t set id = 2")
        change = await wire.change()
        assert change["old_record"] == {"id": 1}
        assert change["record"] == {"id": 2, "a": "x"}


async def test_table_without_key_reports_it(server: RealtimeServer) -> None:
    await make(server, "a text", "alter table t replica identity full")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t values ('x')", "delete from t")
        change = await wire.change()
        assert change["errors"] == ["Error 400: Bad Request, no primary key"]
        assert (change["record"], change["columns"]) == ({}, [])
        assert change["commit_timestamp"] is None
        assert (await wire.change())["old_record"] == {"a": "x"}


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("id uuid primary key", f"'{ALICE}'"),
        ("id numeric primary key", "1.50"),
        ("id text primary key", "'a,\"b\\'"),
        ("a int, b text, primary key (b, a)", "1, 'x'"),
        ("id timestamptz primary key", "'2026-01-02 03:04:05.123456+00'"),
        ('"odd ""name" int primary key', "5"),
    ],
)
async def test_any_key_finds_its_row_behind_a_policy(
    server: RealtimeServer, columns: str, values: str
) -> None:
    await make(server, f"{columns}, owner uuid", *OWN_ROWS)
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql(f"insert into t values ({values}, '{ALICE}')")
        assert (await wire.change())["record"]["owner"] == ALICE


async def test_partitions_are_watched_as_themselves(server: RealtimeServer) -> None:
    await make(server, "id int, owner uuid, primary key (id)")
    await server.sql(
        "create table public.p (id int primary key, owner uuid)"
        " partition by range (id)",
        "create table public.p1 partition of public.p for values from (0) to (9)",
        "grant select on public.p, public.p1 to authenticated",
        "alter table public.p enable row level security",
        "create policy own on public.p using (owner = auth.uid())",
        "alter publication supabase_realtime set (publish_via_partition_root = true)",
        "alter publication supabase_realtime add table public.p",
    )
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, {"event": "*", "schema": "public", "table": "p"})
        await server.sql(f"insert into p values (1, '{BOB}'), (2, '{ALICE}')")
        assert (await wire.change())["record"] == {"id": 2, "owner": ALICE}
        assert await wire.settle() == []


async def test_delete_with_policies_shows_the_key_to_all(
    server: RealtimeServer,
) -> None:
    await make(server, "id int primary key, owner uuid", *OWN_ROWS)
    await server.sql(f"insert into t values (1, '{ALICE}')")
    async with Wire(server, server.token(sub=BOB)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("delete from t")
        assert (await wire.change())["old_record"] == {"id": 1}


FULL_OWN_ROWS = (
    *OWN_ROWS,
    "alter table t replica identity full",
    f"insert into t values (1, '{ALICE}', 'x'), (2, '{BOB}', 'y')",
)


async def test_delete_with_full_identity_is_judged_by_the_old_row(
    server: RealtimeServer,
) -> None:
    await make(server, "id int primary key, owner uuid, a text", *FULL_OWN_ROWS)
    async with (
        Wire(server, server.token(sub=ALICE)) as hers,
        Wire(server, server.token(sub=BOB)) as his,
        Wire(server, server.token("service_role")) as service,
    ):
        await server.sql("grant select on t to service_role")
        for wire in (hers, his, service):
            await wire.watch(TOPIC, ALL)
        await server.sql("delete from t")
        alices = {"id": 1, "owner": ALICE, "a": "x"}
        assert (await hers.change())["old_record"] == alices
        assert (await his.change())["old_record"]["id"] == 2
        assert [(await service.change())["old_record"]["id"] for _ in range(2)] == [
            1,
            2,
        ]
        for wire in (hers, his):
            assert await wire.settle() == []


async def test_old_row_of_an_update_is_hidden_from_its_new_owner(
    server: RealtimeServer,
) -> None:
    await make(server, "id int primary key, owner uuid, a text", *FULL_OWN_ROWS)
    async with (
        Wire(server, server.token(sub=ALICE)) as hers,
        Wire(server, server.token(sub=BOB)) as his,
    ):
        await hers.watch(TOPIC, ALL)
        await his.watch(TOPIC, ALL)
        await server.sql(
            f"update t set owner = '{BOB}', a = 'given' where id = 1",
            "update t set a = 'kept' where id = 1",
        )
        given = await his.change()
        assert given["record"]["a"] == "given"
        assert given["old_record"] == {"id": 1}
        kept = await his.change()
        assert kept["old_record"] == {"id": 1, "owner": BOB, "a": "given"}
        assert await hers.settle() == []


async def test_compat_deletes_as_the_hosted_service(serve: Serve) -> None:
    server = await serve(compat=True)
    await make(server, "id int primary key, owner uuid, a text", *FULL_OWN_ROWS)
    async with Wire(server, server.token(sub=BOB)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("delete from t where id = 1")
        assert (await wire.change())["old_record"] == {"id": 1}


async def test_row_that_is_gone_is_not_delivered(server: RealtimeServer) -> None:
    await make(server, "id int primary key, owner uuid", *OWN_ROWS)
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, ALL)
        # Current visibility decides: by the time of judging, the row is gone.
        await server.sql(
            f"begin; insert into t values (1, '{ALICE}'); delete from t; commit",
            f"insert into t values (2, '{ALICE}')",
        )
        assert (await wire.change())["type"] == "DELETE"
        assert (await wire.change())["record"]["id"] == 2


# Columns and sizes --------------------------------------------------------------------


async def test_columns_without_privilege_are_absent(server: RealtimeServer) -> None:
    await make(
        server,
        "id int primary key, owner uuid, secret text, open text",
        *OWN_ROWS,
        "revoke select on t from authenticated",
        "grant select (id, owner, open) on t to authenticated",
    )
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql(
            f"insert into t values (1, '{BOB}', 's', 'o')",
            f"insert into t values (2, '{ALICE}', 's', 'o')",
        )
        change = await wire.change()
        assert change["record"] == {"id": 2, "owner": ALICE, "open": "o"}
        assert [c["name"] for c in change["columns"]] == ["id", "owner", "open"]


@pytest.mark.parametrize("secured", [True, False])
async def test_role_that_cannot_read_the_key_is_unauthorized(
    server: RealtimeServer, secured: bool
) -> None:
    await make(
        server,
        "id int primary key, owner uuid",
        *(OWN_ROWS if secured else ()),
        "revoke select on t from authenticated",
        "grant select (owner) on t to authenticated",
    )
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql(f"insert into t values (1, '{ALICE}')", "delete from t")
        change = await wire.change()
        assert change["errors"] == ["Error 401: Unauthorized"]
        assert (change["record"], change["columns"]) == ({}, [])
        delete = await wire.change()
        assert (delete["type"], delete["old_record"]) == ("DELETE", {})


async def test_revoked_grant_holds_for_the_next_change(server: RealtimeServer) -> None:
    await make(server, "id int primary key, owner uuid", *OWN_ROWS)
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql(
            f"insert into t values (1, '{ALICE}')",
        )
        assert (await wire.change())["record"]["id"] == 1
        await server.sql(
            "revoke select on t from authenticated",
            f"insert into t values (2, '{ALICE}')",
        )
        assert (await wire.change())["errors"] == ["Error 401: Unauthorized"]
        await server.sql(
            "grant select on t to authenticated",
            f"insert into t values (3, '{ALICE}')",
        )
        assert (await wire.change())["record"]["id"] == 3


async def test_unchanged_large_value_is_absent(server: RealtimeServer) -> None:
    await make(
        server,
        "id int primary key, large text, n int",
        "alter table t alter large set storage external",
        "insert into t values (1, repeat('x', 10000), 0)",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("update t set n = 1")
        assert (await wire.change())["record"] == {"id": 1, "n": 1}
        await server.sql("alter table t replica identity full", "update t set n = 2")
        record = (await wire.change())["record"]
        assert (record["n"], len(record["large"])) == (2, 10000)


async def test_too_large_change_keeps_small_values(serve: Serve) -> None:
    server = await serve(max_record_bytes=1000)
    await make(server, "id int primary key, small text, large text")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t values (1, repeat('s', 64), repeat('l', 1000))")
        change = await wire.change()
        assert change["errors"] == ["Error 413: Payload Too Large"]
        assert change["record"] == {"id": 1, "small": "s" * 64}
        assert len(change["columns"]) == 3
        assert change["commit_timestamp"]


async def test_changed_table_is_seen_as_it_is_now(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t values (1)")
        assert [c["name"] for c in (await wire.change())["columns"]] == ["id"]
        await server.sql(
            "alter table t add column more jsonb default '{\"a\": 1}'",
            "insert into t values (2)",
        )
        change = await wire.change()
        assert change["record"] == {"id": 2, "more": {"a": 1}}
        assert change["columns"][1] == {"name": "more", "type": "jsonb"}


async def test_truncate_is_reported(server: RealtimeServer) -> None:
    await make(server, "id int primary key", "insert into t values (1)")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("insert into t values (2)", "truncate t")
        assert (await wire.change())["record"] == {"id": 2}
        system = (await wire.expect(event="system")).payload
        assert system == {
            "status": "ok",
            "extension": "postgres_changes",
            "message": "public.t was truncated",
            "channel": "t",
        }


async def test_rolled_back_changes_are_never_seen(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql(
            "begin; insert into t values (1); rollback", "insert into t values (2)"
        )
        assert (await wire.change())["record"] == {"id": 2}


async def test_changes_before_the_subscription_are_not_delivered(
    server: RealtimeServer,
) -> None:
    await make(server, "id int primary key")
    async with Wire(server) as first, Wire(server) as second:
        await first.watch(TOPIC, ALL)
        for number in range(50):
            await server.sql(f"insert into t values ({number})")
        await second.watch(TOPIC, ALL)
        await server.sql("insert into t values (99)")
        assert (await second.change())["record"] == {"id": 99}


async def test_schema_of_another_name_and_system_schemas(
    server: RealtimeServer,
) -> None:
    await server.sql(
        'create schema "Odd schema"',
        'create table "Odd schema"."T" (id int primary key)',
        'grant usage on schema "Odd schema" to anon',
        'grant select on "Odd schema"."T" to anon',
        'alter publication supabase_realtime add table "Odd schema"."T"',
    )
    async with Wire(server) as wire:
        odd = {"event": "*", "schema": "Odd schema", "table": "T"}
        await wire.watch(TOPIC, odd)
        await server.sql('insert into "Odd schema"."T" values (1)')
        assert (await wire.change())["schema"] == "Odd schema"
        for schema in ("pg_catalog", "auth", "realtime"):
            binding = {"event": "*", "schema": schema}
            await wire.join("realtime:sys", postgres_changes=[binding])
            system = await wire.expect(event="system", topic="realtime:sys")
            assert system.payload["status"] == "error"


async def test_published_columns_without_the_key_are_refused_and_cost_nobody_else(
    server: RealtimeServer,
) -> None:
    await server.sql(
        "create table public.part (id int primary key, a text, b text)",
        "create table public.whole (id int primary key)",
        "alter table public.part enable row level security",
        "create policy all_rows on public.part for select using (true)",
        "grant select on public.part, public.whole to anon, authenticated",
        "alter publication supabase_realtime set (publish = 'insert')",
        "alter publication supabase_realtime add table public.part (a), public.whole",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, {"event": "*", "schema": "public", "table": "*"})
        await server.sql("insert into public.part values (1, 'a', 'b')")
        await server.sql("insert into public.whole values (7)")
        keyless = await wire.change()
        assert keyless["errors"] == ["Error 400: Bad Request, no primary key"]
        assert keyless["record"] == {}
        assert (await wire.change())["record"] == {"id": 7}


async def test_key_that_is_renamed_with_a_change_on_its_way_costs_nobody_else(
    server: RealtimeServer,
) -> None:
    await server.sql(
        "create table public.moved (id int primary key)",
        "create table public.whole (id int primary key)",
        "grant select on public.moved, public.whole to anon",
        "alter table public.moved enable row level security",
        "create policy all_rows on public.moved for select using (true)",
        "alter publication supabase_realtime add table public.moved, public.whole",
    )
    async with Wire(server) as wire:
        await wire.watch(TOPIC, {"event": "*", "schema": "public", "table": "*"})
        await server.sql(
            "insert into public.moved values (1);"
            "alter table public.moved rename column id to number"
        )
        await server.sql("insert into public.whole values (7)")
        keyless = await wire.change()
        assert keyless["errors"] == ["Error 400: Bad Request, no primary key"]
        assert (await wire.change())["record"] == {"id": 7}
        await server.sql("insert into public.moved values (2)")
        assert (await wire.change())["record"] == {"number": 2}
