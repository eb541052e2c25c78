"""Whose rights decide: roles that tokens may name, schemas, what policies refer to."""

from __future__ import annotations

import secrets

import pytest

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


async def test_role_that_authenticator_may_not_become_sees_no_changes(
    server: RealtimeServer,
) -> None:
    role = f"stranger_{secrets.token_hex(4)}"
    await make(server, "id int primary key", f"create role {role}")
    await server.sql(f"grant select on t to {role}")
    try:
        async with Wire(server, server.token(role)) as wire:
            await wire.join(TOPIC, postgres_changes=[ALL])
            refused = (await wire.expect(event="system")).payload
            assert refused["status"] == "error"
            assert refused["message"].endswith(
                "Exception: ERROR 42501 (insufficient_privilege)"
                f' permission denied to set role "{role}"'
            )
            await server.sql(f"grant {role} to authenticator")
            await wire.watch("realtime:again", ALL)
            await server.sql("insert into t values (1)")
            assert (await wire.change())["record"] == {"id": 1}
            await server.sql(
                f"revoke {role} from authenticator", "insert into t values (2)"
            )
            assert (await wire.change())["errors"] == ["Error 401: Unauthorized"]
    finally:
        await server.sql(f"drop owned by {role}", f"drop role {role}")


async def test_role_that_does_not_exist_is_told_so(server: RealtimeServer) -> None:
    await make(server, "id int primary key")
    async with Wire(server, server.token("nobody_knows_me")) as wire:
        await wire.join(TOPIC, postgres_changes=[ALL])
        refused = (await wire.expect(event="system")).payload
        assert refused["message"].endswith(
            "Exception: ERROR 42704 (undefined_object)"
            ' role "nobody_knows_me" does not exist'
        )


@pytest.mark.parametrize("secured", [True, False])
async def test_table_in_a_schema_without_usage_is_unauthorized(
    server: RealtimeServer, secured: bool
) -> None:
    await server.sql(
        "create schema cellar",
        "create table cellar.t (id int primary key)",
        "grant select on cellar.t to authenticated",
        "alter publication supabase_realtime add table cellar.t",
    )
    if secured:
        await server.sql(
            "alter table cellar.t enable row level security",
            "create policy open on cellar.t using (true)",
        )
    watch = {"event": "*", "schema": "cellar", "table": "t"}
    async with Wire(server, server.token()) as wire:
        await wire.watch(TOPIC, watch)
        await server.sql("insert into cellar.t values (1)")
        change = await wire.change()
        assert (change["errors"], change["record"]) == (
            ["Error 401: Unauthorized"],
            {},
        )
        await server.sql(
            "grant usage on schema cellar to authenticated",
            "insert into cellar.t values (2)",
        )
        assert (await wire.change())["record"] == {"id": 2}


HIDDEN_RULES = (
    "create schema rules",
    "create function rules.is_mine(owner uuid) returns boolean language sql stable"
    " as 'select owner = auth.uid()'",
    "create table rules.admins (id uuid)",
    "grant select on rules.admins to authenticated",
    "alter table rules.admins enable row level security",
    "create policy open on rules.admins using (id = auth.uid())",
    "create function rules.is_open(t public.t) returns boolean language sql stable"
    " as 'select t.a = ''open'''",
)


@pytest.mark.parametrize(
    "condition",
    [
        "rules.is_mine(owner)",
        "exists (select from rules.admins where admins.id = t.owner)",
        "owner = auth.uid() or rules.is_open(t.*)",
    ],
)
async def test_old_rows_are_judged_without_usage_of_what_policies_use(
    server: RealtimeServer, condition: str
) -> None:
    await make(
        server,
        "id int primary key, owner uuid, a text",
        *HIDDEN_RULES,
        f"insert into rules.admins values ('{ALICE}')",
        "alter table t enable row level security",
        f"create policy hidden on t using ({condition})",
        "alter table t replica identity full",
        f"insert into t values (1, '{ALICE}', 'x'), (2, '{BOB}', 'y')",
    )
    async with Wire(server, server.token(sub=ALICE)) as wire:
        await wire.watch(TOPIC, ALL)
        await server.sql("delete from t")
        deleted = (await wire.change())["old_record"]
        assert deleted == {"id": 1, "owner": ALICE, "a": "x"}
        assert await wire.settle() == []
        # Nothing of ours stands in the way of who changes the rules.
        await server.sql(
            "drop policy hidden on t",
            "drop function rules.is_mine",
            "drop function rules.is_open",
            "drop table rules.admins",
            "create policy all_rows on t using (true)",
            f"insert into t values (3, '{BOB}', 'z')",
            "delete from t",
        )
        change = await wire.change()
        if change["type"] == "INSERT":  # seen before it was deleted
            change = await wire.change()
        assert change["old_record"]["id"] == 3


async def test_row_is_not_judged_by_one_that_a_child_table_holds_in_its_place(
    server: RealtimeServer,
) -> None:
    await server.sql(
        "create table public.t (id int primary key, is_open bool)",
        "alter table t enable row level security",
        "create policy open on t for select using (is_open)",
        "create table public.child () inherits (t)",
        "grant select on t to anon",
        "alter publication supabase_realtime add table only public.t",
        # At the addresses of the rows that come below.
        "insert into child select i, true from generate_series(101, 106) i",
    )
    async with Wire(server) as wire:
        await wire.watch("realtime:t", {"event": "*", "schema": "public", "table": "t"})
        await server.sql(
            "insert into t values (1, false)",
            "insert into t values (2, false), (3, true), (4, false)",
            "insert into t values (5, true)",
        )
        assert [(await wire.change())["record"]["id"] for _ in range(2)] == [3, 5]
        assert await wire.settle() == []
