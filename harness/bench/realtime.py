"""Realtime: fan-out, joins, memory, changes behind policies, visibility.

Clients are as thin as a socket and live in this process; CPU is read from the server's
and PostgreSQL's processes, so the generator's own work is not counted.  Latencies end
when a message comes to its client's socket, by the kernel's stamp, not when it is read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from harness.bench.channel_members import TOPIC, JoinPayload, Tally, joined_members
from harness.bench.latencies import PACE_S, Latencies, Stages, pace, stamped
from harness.bench.registry.measure import ROUNDS, measure
from harness.bench.registry.result import BenchResult
from harness.bench.resting import rest
from harness.bench.sender_processes import Senders, open_senders
from harness.db.address import DatabaseAddress
from harness.load.cpu import CpuMeter, process_tree, tree_cpu_s
from harness.load.target import Target
from harness.protocols.pgoutput import Relation
from harness.servers.realtime.tables import load_table
from harness.servers.realtime.visibility import Claims, Question, VisibilityChecker

__all__ = ["run"]

NAME = "realtime"
MANY = 1000
SOME = 200
FEW = 10
IN_FLIGHT = 10
DELIVERIES = 200_000
CHANGES = 10_000
ROWS_A_STATEMENT = 100
CALLS = 20
SENDS = 40
SMALL_ROUNDS = 20
IDLE_S = 3.0
PACED_MESSAGES = 250
WARM_UP_MESSAGES = 25
PAYLOAD = orjson.dumps({"n": 1, "text": "x" * 80})
SETUP = (
    """create table if not exists public.bench_rows (
        id bigint generated always as identity primary key,
        owner uuid not null, sent_s float8, body text)""",
    "alter table public.bench_rows enable row level security",
    "grant select on public.bench_rows to authenticated",
    """do $$ begin
        if not exists (select from pg_policies where tablename = 'bench_rows') then
            create policy own on public.bench_rows for select to authenticated
                using (owner = (select auth.uid()));
            create policy hear on realtime.messages for select to authenticated
                using (true);
            alter publication supabase_realtime add table public.bench_rows;
        end if;
    end $$""",
)


INSERT_ONE = "insert into public.bench_rows (owner, sent_s) values ($1, $2)"
INSERT_MANY = """
insert into public.bench_rows (owner, body)
select lpad(to_hex(i % $2 + 1), 32, '0')::uuid, repeat('x', 80)
from generate_series(1, $1) i
"""
NEWEST_SQL = """
select id, 'public.bench_rows'::regclass::oid as oid from public.bench_rows
order by id desc limit $1
"""
SEND = "select realtime.send($1, 'e', 'bench')"
BROADCAST_STAGES = {"broadcast_waiting_seconds": "from the commit until it is read"}
CHANGE_STAGES = {
    "change_waiting_seconds": "from the commit until it is judged",
    "change_judging_seconds": "judging",
    "change_writing_seconds": "writing",
}
WATCH = {"event": "*", "schema": "public", "table": "bench_rows"}


async def run(target: Target) -> list[BenchResult]:
    """Measure Realtime of ``target``; a remote one without what needs its database."""
    results = [
        await _memory(target),  # first: what was freed once is not grown again
        await _fan_out(target, SOME, reference="13.7 us, 109,000/s"),
        await _fan_out(target, MANY, goal_us=3.0, reference="16-18 us, 90,000/s"),
        await _small_topics(target),
        await _paced(target, MANY, reference="p50 8.1 ms at half load"),
        await _joins(target, private=False, goal_per_s=4000, reference="1,600-1,860/s"),
        await _processes(target, frames=1),
        await _processes(target, frames=IN_FLIGHT),
    ]
    database = target.database
    if database is None or not target.jwt_secret:
        return results
    async with _connected(database) as connection:
        for statement in SETUP:
            await connection.execute(statement)
    return [
        *results,
        await _joins(target, private=True, goal_per_s=1500, reference="430/s"),
        await _stored_broadcasts(target, database),
        await _change_latency(target, database, SOME),
        await _change_rate(
            target, database, FEW, goal_per_s=20_000, reference="900-1,196/s"
        ),
        await _change_rate(target, database, SOME, goal_per_s=5000, reference="182/s"),
        await _visibility(target, database, 100, SOME, goal_us=5.0),
        await _visibility(target, database, 1, SOME),
        await _visibility(target, database, 1, 1, goal_us=60.0),
    ]


def _user_id(index: int) -> str:
    return str(UUID(int=index + 1))


def _anonymous(index: int) -> dict[str, Any]:
    return {}


def _as_user(target: Target, **config: Any) -> JoinPayload:
    tokens: dict[int, str] = {}

    def payload(index: int) -> dict[str, Any]:
        if index not in tokens:
            tokens[index] = target.user_token(_user_id(index))
        return {"config": config, "access_token": tokens[index]}

    return payload


# Broadcasts ---------------------------------------------------------------------------


async def _fan_out(
    target: Target, subscribers: int, *, goal_us: float = 0.0, reference: str
) -> BenchResult:
    tally = Tally()
    async with joined_members(target, subscribers, tally.add) as members:
        senders = members[:IN_FLIGHT]
        rounds = DELIVERIES // (subscribers * IN_FLIGHT)
        workers = _workers(target)
        used_s, worked_s = tree_cpu_s(target.server_pids), tree_cpu_s(workers)

        async def action() -> int:
            began = tally.count
            for number in range(1, rounds + 1):
                for sender in senders:
                    sender.broadcast(TOPIC, PAYLOAD)
                # Nobody hears what it said itself.
                await tally.reach(began + number * IN_FLIGHT * (subscribers - 1))
            return rounds * IN_FLIGHT * (subscribers - 1)

        result = await measure(
            target,
            name=NAME,
            operation=f"delivery to {subscribers:,}, {IN_FLIGHT} broadcasts in flight",
            action=action,
            reference=reference,
            goal=f"at most {goal_us:g} us of server CPU" if goal_us else "",
            met=(lambda r: r.server_cpu_us_per_op <= goal_us) if goal_us else None,
        )
        if not workers:
            return result
        used_s = tree_cpu_s(target.server_pids) - used_s
        share = (tree_cpu_s(workers) - worked_s) / used_s
        note = f"{share:.0%} of the server's CPU is that of its {len(workers)} workers"
        return replace(result, note=note)


async def _small_topics(target: Target) -> BenchResult:
    """Measure what a message costs that few hear, workers' crossings included."""
    topics = [f"{TOPIC}:{number}" for number in range(MANY // FEW)]
    tally = Tally()
    async with joined_members(target, MANY, tally.add, topics=topics) as members:
        deliveries = len(topics) * (FEW - 1)

        async def action() -> int:
            for _ in range(SMALL_ROUNDS):
                goal = tally.count + deliveries
                for sender, topic in zip(members, topics, strict=False):
                    sender.broadcast(topic, PAYLOAD)
                await tally.reach(goal)
            return SMALL_ROUNDS * deliveries

        return await measure(
            target,
            name=NAME,
            operation=f"delivery to {FEW} members of each of {len(topics)} topics",
            action=action,
        )


def _workers(target: Target) -> list[int]:
    """Return the processes that write in the server's place."""
    return [
        process
        for process in process_tree(target.server_pids)
        if process not in target.server_pids
    ]


async def _paced(target: Target, subscribers: int, *, reference: str) -> BenchResult:
    latencies = Latencies(one_in=20)
    tally = Tally(latencies.read)
    async with joined_members(
        target, subscribers, tally.add, arrivals=latencies.arrivals
    ) as members:

        async def send(messages: int) -> int:
            goal = tally.count + messages * (subscribers - 1)
            async for number in pace(messages):
                members[number % FEW].broadcast(TOPIC, stamped())
            await tally.reach(goal)
            return messages * (subscribers - 1)

        await send(WARM_UP_MESSAGES)
        latencies.restart()
        meter = CpuMeter(target)
        deliveries = await send(PACED_MESSAGES)
        return latencies.result(
            NAME,
            f"broadcast to {subscribers:,} every {PACE_S * 1000:.0f} ms",
            meter.read(),
            reference=reference,
            ops=deliveries,
        )


async def _stored_broadcasts(target: Target, database: DatabaseAddress) -> BenchResult:
    latencies = Latencies()
    tally = Tally(latencies.read)
    stages = Stages(target, "broadcasts_from_database", BROADCAST_STAGES)
    private = _as_user(target, private=True)
    async with (
        joined_members(target, SOME, tally.add, private, latencies.arrivals),
        _connected(database) as connection,
    ):

        async def send(messages: int) -> None:
            goal = tally.count + messages * SOME
            async for _ in pace(messages):
                await connection.execute(SEND, stamped().decode())
            await tally.reach(goal)

        await send(WARM_UP_MESSAGES)
        latencies.restart()
        await stages.begin()
        meter = CpuMeter(target)
        await send(PACED_MESSAGES)
        return latencies.result(
            NAME,
            f"broadcast from the database to {SOME}",
            meter.read(),
            reference="p50 2.8 ms, p99 4.2 ms",
            goal_ms=(2.0, 4.0),
            note=await stages.note(latencies),
        )


async def _processes(target: Target, *, frames: int) -> BenchResult:
    """Measure what a second process could win: bare writes, shared out or not."""
    async with open_senders(1, MANY) as one, open_senders(2, MANY) as two:

        async def send(senders: Senders) -> int:
            for _ in range(SENDS):
                await senders.send(frames)
            return SENDS * MANY * frames

        result = await measure(
            target,
            name=NAME,
            operation=f"bare delivery to {MANY:,}, {frames} a write, two processes",
            action=lambda: send(two),
            baseline=("one process", lambda: send(one)),
        )
        rounds = (ROUNDS + 1) * SENDS * MANY * frames
        return replace(
            result,
            note=f"CPU of the senders: {two.cpu_s() / rounds * 1e6:.2f} us a delivery,"
            f" {one.cpu_s() / rounds * 1e6:.2f} us of one",
        )


# Joins and memory ---------------------------------------------------------------------


async def _joins(
    target: Target, *, private: bool, goal_per_s: float, reference: str
) -> BenchResult:
    payload = _as_user(target, private=True) if private else _anonymous
    for index in range(MANY):
        payload(index)  # tokens are minted before the clock runs

    async def action() -> int:
        async with joined_members(target, MANY, lambda _: None, payload):
            return MANY

    return await measure(
        target,
        name=NAME,
        operation=f"connect and join{' a private topic' if private else ''}",
        action=action,
        reference=reference,
        goal=f"{goal_per_s:,.0f}/s on one core of the server",
        met=lambda r: r.server_cpu_s * goal_per_s <= r.ops,
    )


async def _memory(target: Target) -> BenchResult:
    async with joined_members(target, FEW, lambda _: None):
        pass  # what the service needs once is not counted
    before = CpuMeter(target).read()
    async with joined_members(target, MANY, lambda _: None):
        resting = await rest(target, MANY, before, IDLE_S)
    return resting.result(
        NAME,
        goal="at most 15 KiB a connection",
        met=resting.grown_kib <= 15,
        note=f"the server grew by {resting.grown_kib:.1f} KiB a connection",
    )


# Changes ------------------------------------------------------------------------------


async def _change_latency(
    target: Target, database: DatabaseAddress, subscribers: int
) -> BenchResult:
    latencies = Latencies()
    tally = Tally(latencies.read)
    stages = Stages(target, "change_batches", CHANGE_STAGES)
    watching = _as_user(target, postgres_changes=[WATCH])
    async with (
        joined_members(target, subscribers, tally.add, watching, latencies.arrivals),
        _connected(database) as connection,
    ):

        async def write(messages: int) -> None:
            goal = tally.count + messages
            async for number in pace(messages):
                owner = _user_id(number % subscribers)
                await connection.execute(INSERT_ONE, owner, time.time())
            await tally.reach(goal)

        await write(WARM_UP_MESSAGES)
        latencies.restart()
        await stages.begin()
        meter = CpuMeter(target)
        await write(PACED_MESSAGES)
        return latencies.result(
            NAME,
            f"commit to delivery, {subscribers} distinct claims",
            meter.read(),
            reference="p50 265 ms, p99 over 500 ms",
            goal_ms=(5.0, 25.0),
            note=await stages.note(latencies),
        )


async def _change_rate(
    target: Target,
    database: DatabaseAddress,
    subscribers: int,
    *,
    goal_per_s: float,
    reference: str,
) -> BenchResult:
    tally = Tally()
    watching = _as_user(target, postgres_changes=[WATCH])
    async with (
        joined_members(target, subscribers, tally.add, watching),
        _connected(database) as connection,
    ):

        async def action() -> int:
            began = tally.count
            for _ in range(CHANGES // ROWS_A_STATEMENT):
                await connection.execute(INSERT_MANY, ROWS_A_STATEMENT, subscribers)
            await tally.reach(began + CHANGES)
            return CHANGES

        return await measure(
            target,
            name=NAME,
            operation=f"change behind an owner policy, {subscribers} subscribers",
            action=action,
            rounds=3,
            reference=reference,
            goal=f"{goal_per_s:,.0f}/s",
            met=lambda r: r.ops_per_s >= goal_per_s,
        )


async def _visibility(
    target: Target,
    database: DatabaseAddress,
    rows: int,
    holders: int,
    *,
    goal_us: float = 0.0,
) -> BenchResult:
    """Judge a batch for so many claims on connections of our own."""
    checker = VisibilityChecker(database, 10_000)
    async with _connected(database) as connection:
        records = await connection.fetch(NEWEST_SQL, rows)
        relation = Relation(
            records[0]["oid"], "public", "bench_rows", "d", ("id",), (20,), (True,)
        )
        judging = await checker.connection()
        table = await load_table(judging, relation)
        nothing = await judging.prepare("select 1")
    assert table is not None
    keys = [(str(record["id"]),) for record in records]
    claims = [
        Claims(orjson.dumps({"sub": sub, "role": "authenticated"}).decode(), sub)
        for sub in map(_user_id, range(holders))
    ]
    question = Question(table, "authenticated", keys, ())

    async def action() -> int:
        for _ in range(CALLS):
            await checker.check(question, claims)
        return CALLS * rows * len(claims)

    async def round_trip() -> int:
        for _ in range(CALLS):
            await nothing.fetchval()
        return CALLS

    try:
        return await measure(
            target,
            name=NAME,
            operation=f"visibility check, {rows} rows for {len(claims)} claims",
            action=action,
            baseline=("select 1, there and back", round_trip) if holders == 1 else None,
            goal=f"at most {goal_us:g} us of wall time" if goal_us else "",
            met=(lambda r: r.wall_us_per_op <= goal_us) if goal_us else None,
        )
    finally:
        await checker.close()


# Parts --------------------------------------------------------------------------------


@asynccontextmanager
async def _connected(
    database: DatabaseAddress,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(**database.connect_args("supabase_admin"))
    try:
        yield connection
    finally:
        await connection.close()
