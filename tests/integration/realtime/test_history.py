"""Concurrent writers, readers and token refreshes, judged by the history checker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from harness.load.history import (
    Delivery,
    Entitlement,
    Sent,
    SubscriberHistory,
    check_history,
)
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import Received, Wire

OWNERS = [f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-0000-0000-000000000000" for n in range(1, 5)]
TOPIC = "realtime:history"
WATCH = {"event": "INSERT", "schema": "public", "table": "events"}
WRITES = 150
WRITES_A_TOKEN = 25
LAST = -1
RUN_S = 30.0
INSERT = "insert into events (owner, n) values ($1, $2)"


class Reader:
    """A subscriber that moves from owner to owner and keeps its history."""

    def __init__(self, name: str, wire: Wire, server: RealtimeServer) -> None:
        self.name = name
        self.wire = wire
        self._server = server
        self._refreshed: asyncio.Queue[float] = asyncio.Queue()
        self.entitlements: list[Entitlement] = []
        self.deliveries: list[Delivery] = []

    async def join(self, owner: str) -> None:
        """Subscribe as ``owner``."""
        asked_s = time.monotonic()
        await self.wire.watch(TOPIC, WATCH)
        self.entitlements.append(Entitlement(owner, asked_s, time.monotonic()))

    async def listen(self) -> None:
        """Take down what comes, up to the row that ends the run."""
        while True:
            message = await self.wire.socket.recv()
            at_s = time.monotonic()
            received = self.wire.parse(message)
            assert isinstance(received, Received)
            if received.event == "system":
                assert received.payload["status"] == "ok", received
                self._refreshed.put_nowait(at_s)
            elif received.event == "postgres_changes":
                record = received.payload["data"]["record"]
                if record["n"] == LAST:
                    return
                self.deliveries.append(Delivery(record["owner"], record["n"], at_s))

    async def become(self, owner: str) -> None:
        """Go on with the token of ``owner``."""
        token = self._server.token(sub=owner, jti=f"{self.name}{time.monotonic_ns()}")
        asked_s = time.monotonic()
        await self.wire.send(TOPIC, "access_token", {"access_token": token})
        live_s = await self._refreshed.get()
        last = self.entitlements[-1]
        self.entitlements[-1] = replace(last, ending_s=asked_s, ended_s=live_s)
        self.entitlements.append(Entitlement(owner, asked_s, live_s))

    def history(self) -> SubscriberHistory:
        """Return what the checker judges."""
        return SubscriberHistory(self.name, self.entitlements, self.deliveries)


@pytest.mark.slow
async def test_no_anomaly_while_tokens_change_under_load(
    server: RealtimeServer,
) -> None:
    await server.sql(
        "create table public.events (id bigint generated always as identity"
        " primary key, owner uuid, n int)",
        "alter table public.events enable row level security",
        "create policy own on public.events for select using (owner = auth.uid())",
        "grant select on public.events to authenticated",
        "alter publication supabase_realtime add table public.events",
    )
    sent: list[Sent] = []
    readers = []
    for number, owner in enumerate(OWNERS):
        wire = Wire(server, server.token(sub=owner))
        await wire.__aenter__()
        readers.append(Reader(f"reader{number}", wire, server))
        await readers[-1].join(owner)
    async with asyncio.timeout(RUN_S), asyncio.TaskGroup() as tasks:
        for reader in readers:
            tasks.create_task(reader.listen())
        async with asyncio.TaskGroup() as writing:
            for number in range(len(OWNERS)):
                writing.create_task(_write(server, number, sent, readers[number]))
        await _end(server)
    anomalies = check_history(sent, [reader.history() for reader in readers])
    assert anomalies == []
    assert sum(len(reader.deliveries) for reader in readers) >= WRITES
    for reader in readers:
        await reader.wire.socket.close()


async def _write(
    server: RealtimeServer, number: int, sent: list[Sent], reader: Reader
) -> None:
    """Insert numbered rows of one owner, one transaction each.

    Now and then a reader takes on another owner, while the other writers go on.
    """
    owner = OWNERS[number]
    connection = await asyncpg.connect(**server.database.connect_args("supabase_admin"))
    try:
        for row in range(WRITES):
            began_s = time.monotonic()
            await connection.execute(INSERT, owner, row)
            sent.append(Sent(owner, row, began_s, time.monotonic()))
            step, rest = divmod(row + 1, WRITES_A_TOKEN)
            if rest == 0:
                await reader.become(OWNERS[(number + step) % len(OWNERS)])
    finally:
        await connection.close()


async def _end(server: RealtimeServer) -> None:
    """Write the row of each owner that ends the run."""
    connection = await asyncpg.connect(**server.database.connect_args("supabase_admin"))
    try:
        await connection.executemany(INSERT, [(owner, LAST) for owner in OWNERS])
    finally:
        await connection.close()


@pytest.mark.slow
async def test_fifty_thousand_rows_of_one_statement_arrive_in_order(
    server: RealtimeServer,
) -> None:
    owner = OWNERS[0]
    await server.sql(
        "create table public.events (id int primary key, owner uuid)",
        "alter table public.events enable row level security",
        "create policy own on public.events using (owner = auth.uid())",
        "grant select on public.events to authenticated",
        "alter publication supabase_realtime add table public.events",
    )
    async with Wire(server, server.token(sub=owner)) as wire:
        await wire.watch(TOPIC, {**WATCH, "select": ["id"]})
        await server.sql(
            "insert into events select i, case when i % 2 = 0"
            f" then '{owner}'::uuid end from generate_series(1, 50000) i"
        )
        seen: list[Any] = [(await wire.change())["record"] for _ in range(25_000)]
        assert seen == [{"id": i} for i in range(2, 50_001, 2)]
