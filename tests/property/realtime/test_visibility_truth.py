"""Who receives a change is who can SELECT the row, for every shape of policy.

Each example makes policies and rows of its own, writes, and compares what four
subscribers received with what PostgreSQL shows to each of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.servers.realtime import visibility
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Received, Wire

ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
TOPIC = "realtime:truth"
SUBSCRIBERS: dict[str, dict[str, Any]] = {
    "alice": {"role": "authenticated", "sub": ALICE, "team": "red"},
    "bob": {"role": "authenticated", "sub": BOB, "app_metadata": {"admin": True}},
    "anon": {"role": "anon"},
    "service": {"role": "service_role"},
}
SETUP = """
create table public.members (user_id uuid, team text);
insert into public.members values ('{alice}', 'red'), ('{bob}', 'blue');
grant select on public.members to anon, authenticated, service_role;
create function public.my_teams() returns setof text language sql stable
    security definer as 'select team from public.members where user_id = auth.uid()';
create table public.fence (id int primary key);
create table public.things (id int primary key, owner uuid, team text, note text);
alter table public.things enable row level security;
alter table public.things replica identity full;
grant select on public.things, public.fence to anon, authenticated, service_role;
alter publication supabase_realtime add table public.things, public.fence;
"""
CONDITIONS = [
    "true",
    "false",
    "owner = auth.uid()",
    "owner = (select auth.uid())",
    "auth.jwt() ->> 'team' = team",
    "(auth.jwt() -> 'app_metadata' ->> 'admin')::boolean",
    "exists (select from public.members m"
    " where m.team = things.team and m.user_id = auth.uid())",
    "team in (select public.my_teams())",
    "team = any (array(select public.my_teams()))",
    "auth.role() = 'anon' and id % 2 = 0",
    "note ~ 'a' or owner is null",
    "current_setting('request.jwt.claims', true)::json ->> 'role' = 'authenticated'",
    "id > (select count(*) from public.members)",
]
ROLES = ["public", "anon", "authenticated", "anon, service_role"]


class Policy(NamedTuple):
    """What one CREATE POLICY says."""

    kind: str
    command: str
    roles: str
    condition: str


policies = st.lists(
    st.builds(
        Policy,
        st.sampled_from(["permissive", "permissive", "restrictive"]),
        st.sampled_from(["select", "all", "update"]),
        st.sampled_from(ROLES),
        st.sampled_from(CONDITIONS),
    ),
    max_size=4,
)
row = st.tuples(
    st.sampled_from([ALICE, BOB, None]),
    st.sampled_from(["red", "blue", None]),
    st.sampled_from(["a", "b", None]),
)
# One row is judged by another function than many.
rows = st.lists(row, min_size=1, max_size=1) | st.lists(row, min_size=2, max_size=12)


@pytest.fixture(scope="module")
async def world(
    module_server: RealtimeServer,
) -> AsyncIterator[tuple[RealtimeServer, asyncpg.Connection[asyncpg.Record]]]:
    """Create the tables once."""
    await module_server.sql(SETUP.format(alice=ALICE, bob=BOB))
    arguments = module_server.database.connect_args("supabase_admin")
    connection = await asyncpg.connect(**arguments)
    yield module_server, connection
    await connection.close()


async def visible(
    connection: asyncpg.Connection[asyncpg.Record], claims: dict[str, Any]
) -> set[int]:
    """Return what a SELECT as the subscriber shows."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        text = orjson.dumps(claims).decode()
        await connection.execute(
            "select set_config('request.jwt.claims', $1, true),"
            " set_config('role', $2, true)",
            text,
            claims["role"],
        )
        records = await connection.fetch("select id from public.things")
        return {record["id"] for record in records}
    finally:
        await transaction.rollback()


async def until_fence(wire: Wire, number: int) -> list[tuple[str, int]]:
    """Return (operation, id) of the changes that came before a fence."""
    seen: list[tuple[str, int]] = []
    while True:
        message = await wire.receive()
        assert isinstance(message, Received)
        assert message.event == "postgres_changes", message
        data = message.payload["data"]
        row = data.get("record") or data["old_record"]
        if data["table"] == "fence":
            assert row["id"] == number
            return seen
        seen.append((data["type"], row["id"]))


async def apply(
    connection: asyncpg.Connection[asyncpg.Record], made: list[Policy]
) -> None:
    await connection.execute("truncate public.things, public.fence")
    names = await connection.fetch(
        "select polname from pg_policy where polrelid = 'public.things'::regclass"
    )
    for record in names:
        await connection.execute(f"drop policy {record['polname']} on public.things")
    for number, policy in enumerate(made):
        check = " with check (true)" if policy.command == "update" else ""
        await connection.execute(
            f"create policy p{number} on public.things as {policy.kind}"
            f" for {policy.command} to {policy.roles}"
            f" using ({policy.condition}){check}"
        )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=policies,
    values=rows,
    moved=st.sampled_from([ALICE, BOB, None]),
    many=st.sampled_from([2, visibility.MANY_CLAIMS]),
)
async def test_receiving_a_change_is_seeing_its_row(
    world: tuple[RealtimeServer, asyncpg.Connection[asyncpg.Record]],
    made: list[Policy],
    values: list[tuple[Any, ...]],
    moved: str | None,
    many: int,
) -> None:
    server, connection = world
    await apply(connection, made)
    fence = 0
    async with AsyncExitStack() as stack:
        # So that two connections share the claims out.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(visibility, "MANY_CLAIMS", many)
        wires = {
            name: await stack.enter_async_context(Wire(server, server.token(**claims)))
            for name, claims in SUBSCRIBERS.items()
        }
        for wire in wires.values():
            await wire.watch(TOPIC, {"event": "*", "schema": "public"})

        async def compare(expected: dict[str, list[tuple[str, int]]]) -> None:
            nonlocal fence
            fence += 1
            await connection.execute("insert into fence values ($1)", fence)
            for name, wire in wires.items():
                assert await until_fence(wire, fence) == expected[name], name

        async def seen_now(operation: str) -> dict[str, list[tuple[str, int]]]:
            return {
                name: [(operation, i) for i in sorted(await visible(connection, c))]
                for name, c in SUBSCRIBERS.items()
            }

        await connection.execute(
            "insert into things select i, o, t, n from"
            " unnest($1::int[], $2::uuid[], $3::text[], $4::text[]) as r (i, o, t, n)",
            list(range(1, len(values) + 1)),
            *([row[k] for row in values] for k in range(3)),
        )
        await compare(await seen_now("INSERT"))
        await connection.execute("update things set owner = $1", moved)
        await compare(await seen_now("UPDATE"))
        before = await seen_now("DELETE")
        await connection.execute("delete from things")
        await compare(before)
