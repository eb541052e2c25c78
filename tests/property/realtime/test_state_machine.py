"""Any history of joins, refreshes, policies, faults and writes delivers the truth.

After each write a row in a table that everybody sees marks the end; what every
subscriber got before it must be exactly what a SELECT as that subscriber shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from harness.db.address import DatabaseAddress
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Received, Wire

T = TypeVar("T")
ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
PERSONAS: dict[str, dict[str, Any]] = {
    "alice": {"role": "authenticated", "sub": ALICE},
    "bob": {"role": "authenticated", "sub": BOB},
    "anon": {"role": "anon"},
}
POLICIES = {
    "own": "owner = auth.uid()",
    "all": "true",
    "none": "false",
    "even": "id % 2 = 0 or owner = (select auth.uid())",
}
TOPIC = "realtime:machine"
WATCH = {"event": "*", "schema": "public"}
MAX_SUBSCRIBERS = 4
SETUP = """
drop table if exists public.things, public.fence;
create table public.fence (id int primary key);
create table public.things (id int primary key, owner uuid, n int);
alter table public.things enable row level security;
alter table public.things replica identity full;
grant select on public.things, public.fence to anon, authenticated;
alter publication supabase_realtime add table public.things, public.fence;
"""


class Subscriber(NamedTuple):
    """A live socket and whose token it holds."""

    wire: Wire
    persona: str


class Machine(RuleBasedStateMachine):
    """Drives one server; ``address`` and ``folder`` are set by the test."""

    address: ClassVar[DatabaseAddress]
    folder: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.subscribers: dict[int, Subscriber] = {}
        self.next_id = 1
        self.next_subscriber = 0
        self.fence = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` on the loop of this machine."""
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        """Serve empty tables."""
        self.run(self._start())

    async def _start(self) -> None:
        self.server = RealtimeServer(self.address, self.folder)
        await self.server.__aenter__()
        self.connection = await asyncpg.connect(
            **self.address.connect_args("supabase_admin")
        )
        await self.connection.execute(SETUP)
        await self._set_policy("own")

    def teardown(self) -> None:
        """Stop everything."""
        self.run(self._stop())
        self.runner.close()

    async def _stop(self) -> None:
        for subscriber in self.subscribers.values():
            await subscriber.wire.socket.close()
        if hasattr(self, "connection"):
            await self.connection.close()
            await self.server.__aexit__(None, None, None)

    # Subscribers ----------------------------------------------------------------------

    @precondition(lambda self: len(self.subscribers) < MAX_SUBSCRIBERS)
    @rule(persona=st.sampled_from(sorted(PERSONAS)), vsn=st.sampled_from("12"))
    def join(self, persona: str, vsn: str) -> None:
        """Connect somebody who watches all tables."""
        self.run(self._join(persona, vsn))

    async def _join(self, persona: str, vsn: str) -> None:
        token = self.server.token(**PERSONAS[persona])
        wire = Wire(self.server, token, f"{vsn}.0.0")
        await wire.__aenter__()
        await wire.watch(TOPIC, WATCH)
        self.subscribers[self.next_subscriber] = Subscriber(wire, persona)
        self.next_subscriber += 1

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data(), politely=st.booleans())
    def leave(self, data: st.DataObject, politely: bool) -> None:
        """Leave, or just vanish."""
        number = data.draw(st.sampled_from(sorted(self.subscribers)))
        self.run(self._leave(number, politely))

    async def _leave(self, number: int, politely: bool) -> None:
        wire = self.subscribers.pop(number).wire
        if politely:
            await wire.ask(TOPIC, "phx_leave", {})
            await wire.socket.close()
        else:
            wire.socket.transport.abort()

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data(), persona=st.sampled_from(sorted(PERSONAS)))
    def refresh(self, data: st.DataObject, persona: str) -> None:
        """Go on with the token of somebody else."""
        number = data.draw(st.sampled_from(sorted(self.subscribers)))
        self.run(self._refresh(number, persona))

    async def _refresh(self, number: int, persona: str) -> None:
        wire = self.subscribers[number].wire
        # A claim of its own makes it a token that the server has not seen.
        token = self.server.token(**PERSONAS[persona], jti=f"{number}-{self.next_id}")
        self.next_id += 1
        await wire.send(TOPIC, "access_token", {"access_token": token})
        await wire.expect(event="system")
        self.subscribers[number] = Subscriber(wire, persona)

    @precondition(lambda self: self.subscribers)
    @rule(data=st.data())
    def join_again(self, data: st.DataObject) -> None:
        """Join the same topic over the live channel."""
        number = data.draw(st.sampled_from(sorted(self.subscribers)))
        self.run(self._join_again(number))

    async def _join_again(self, number: int) -> None:
        wire, persona = self.subscribers[number]
        token = self.server.token(**PERSONAS[persona])
        await wire.watch(TOPIC, WATCH, token=token)
        await wire.expect(event="phx_close")

    # Policies and faults --------------------------------------------------------------

    @rule(name=st.sampled_from(sorted(POLICIES)))
    def set_policy(self, name: str) -> None:
        """Change who may see what."""
        self.run(self._set_policy(name))

    async def _set_policy(self, name: str) -> None:
        await self.connection.execute("drop policy if exists rule on public.things")
        await self.connection.execute(
            f"create policy rule on public.things using ({POLICIES[name]})"
        )

    @rule()
    def lose_visibility_connection(self) -> None:
        """End the session that judges; nothing may be lost."""
        self.run(self._kill("realtime_visibility"))

    @precondition(lambda self: self.subscribers)
    @rule()
    def lose_replication_connection(self) -> None:
        """End the session that streams; everybody is told."""
        self.run(self._lose_replication())

    async def _lose_replication(self) -> None:
        await self._kill("realtime_changes")
        for subscriber in self.subscribers.values():
            lost = await subscriber.wire.expect(event="system")
            assert "connection was lost" in lost.payload["message"]
            again = await subscriber.wire.expect(event="system")
            assert again.payload["status"] == "ok"

    async def _kill(self, application: str) -> None:
        await self.connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            f" where application_name = '{application}'"
            " and datname = current_database()"
        )

    # Writes ---------------------------------------------------------------------------

    @rule(
        owner=st.sampled_from([ALICE, BOB, None]),
        count=st.sampled_from([1, 1, 2, 7, 100, 1500]),
    )
    def insert(self, owner: str | None, count: int) -> None:
        """Add rows in one statement."""
        first, self.next_id = self.next_id, self.next_id + count
        self.run(
            self._write(
                "INSERT",
                "insert into things"
                " select i, $3, 0 from generate_series($1::int, $2) i",
                first,
                self.next_id - 1,
                owner,
            )
        )

    @rule(owner=st.sampled_from([ALICE, BOB, None]), part=st.integers(1, 5))
    def update(self, owner: str | None, part: int) -> None:
        """Give some rows to somebody."""
        self.run(
            self._write(
                "UPDATE",
                "update things set owner = $1, n = n + 1 where id % $2 = 0",
                owner,
                part,
            )
        )

    @rule(part=st.integers(1, 5))
    def delete(self, part: int) -> None:
        """Delete some rows."""
        self.run(self._write("DELETE", "delete from things where id % $1 = 0", part))

    @rule()
    def roll_back(self) -> None:
        """Change everything and take it back."""
        self.run(self._roll_back())

    async def _roll_back(self) -> None:
        transaction = self.connection.transaction()
        await transaction.start()
        await self.connection.execute("delete from things")
        await transaction.rollback()
        await self._compare({name: set() for name in PERSONAS}, "DELETE")

    async def _write(self, operation: str, statement: str, *arguments: Any) -> None:
        before = {name: await self._visible(name) for name in PERSONAS}
        changed = {
            record["id"]
            for record in await self.connection.fetch(
                f"{statement} returning id", *arguments
            )
        }
        if operation != "DELETE":
            before = {name: await self._visible(name) for name in PERSONAS}
        await self._compare(
            {name: ids & changed for name, ids in before.items()}, operation
        )

    async def _visible(self, persona: str) -> set[int]:
        claims = PERSONAS[persona]
        async with self.connection.transaction():
            await self.connection.execute(
                "select set_config('request.jwt.claims', $1, true),"
                " set_config('role', $2, true)",
                orjson.dumps(claims).decode(),
                claims["role"],
            )
            records = await self.connection.fetch("select id from things")
        return {record["id"] for record in records}

    async def _compare(self, expected: dict[str, set[int]], operation: str) -> None:
        self.fence += 1
        await self.connection.execute("insert into fence values ($1)", self.fence)
        for wire, persona in self.subscribers.values():
            seen = await self._until_fence(wire)
            assert all(kind == operation for kind, _ in seen)
            ids = [row for _, row in seen]
            assert len(ids) == len(set(ids)), "a change came twice"
            assert set(ids) == expected[persona], persona

    async def _until_fence(self, wire: Wire) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        while True:
            message = await wire.receive()
            assert isinstance(message, Received)
            assert message.event == "postgres_changes", message
            data = message.payload["data"]
            row = data.get("record") or data["old_record"]
            if data["table"] == "fence":
                assert row["id"] == self.fence
                return seen
            seen.append((data["type"], row["id"]))


@pytest.mark.slow
def test_every_history_delivers_the_truth(
    database: DatabaseAddress, tmp_path: Path
) -> None:
    Machine.address = database
    Machine.folder = tmp_path
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
