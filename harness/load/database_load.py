"""Load that begins in the database: row changes under an owner policy, and broadcasts.

Both write with asyncpg on a few connections.  The rows of one owner always go through
the same connection, so that their numbers are in commit order.  What is created in the
database carries the run's name and is removed at the end.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from harness.db.address import DatabaseAddress
from harness.errors import StackError, UsageError
from harness.load.probe import probe_text
from harness.load.profiles import LoadProfile
from harness.load.target import Target
from harness.load.timer import PreciseTimer
from harness.load.workload import Member, Outgoing

__all__ = ["ChangesLoad", "DatabaseBroadcastLoad"]

OWNER_LOGIN = "postgres"  # owns public and the publication, as on the platform
MAX_WRITERS = 4
US = 1000
EVENT = "load"


class ChangesLoad:
    """Rows of many owners in one published table; each member sees its own only.

    With leavers in the profile the policy also asks for a row in a table of rights;
    halfway through a step theirs are deleted, and their rows go on being written.
    """

    def __init__(
        self, profile: LoadProfile, target: Target, *, name: str, seed: int
    ) -> None:
        self._profile = profile
        self._address = _address(target, profile)
        self._table = f"load_{name.replace('-', '_')}"
        self._rights = f"{self._table}_rights"
        self._owners = [
            uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{name}:{i}")
            for i in range(profile.subscribers)
        ]
        self._writers: list[asyncpg.Connection[asyncpg.Record]] = []
        binding = {"event": "INSERT", "schema": "public", "table": self._table}
        self.members: Sequence[Member] = [
            Member(
                f"realtime:{name}-{i}",
                {"postgres_changes": [binding]},
                target.user_token(str(owner)),
            )
            for i, owner in enumerate(self._owners)
        ]

    async def prepare(self) -> None:
        """Create the table, its owner policy, and publish it."""
        table = self._table
        owns = "owner = (select auth.uid())"
        if self._profile.leavers:
            owns += (
                f" and exists (select from public.{self._rights} r"
                " where r.owner = (select auth.uid()))"
            )
            await _execute_once(
                self._address,
                f"""
                create table public.{self._rights} (owner uuid primary key);
                alter table public.{self._rights} enable row level security;
                create policy owner_reads_own on public.{self._rights}
                  for select to authenticated using (owner = (select auth.uid()));
                grant select on public.{self._rights} to authenticated;
                """,
            )
        await _execute_once(
            self._address,
            f"""
            create table public.{table} (
              id bigint generated always as identity primary key,
              owner uuid not null,
              probe text not null
            );
            alter table public.{table} enable row level security;
            create policy owner_reads_own on public.{table}
              for select to authenticated using ({owns});
            grant select on public.{table} to authenticated;
            alter publication supabase_realtime add table public.{table};
            """,
        )

    async def connect_senders(self) -> None:
        """Open the connections that write."""
        count = min(MAX_WRITERS, self._profile.subscribers)
        for _ in range(count):
            self._writers.append(await _connect(self._address))

    def stream_of(self, step: int, member: int) -> int:
        """Return the stream of the member's own rows in this step."""
        return step * len(self._owners) + member

    async def send(
        self, step: int, due_s: Sequence[float], start_ns: int, outgoing: Outgoing
    ) -> None:
        """Insert a row for one owner after the other, each when it is due."""
        writers = len(self._writers)
        if self._profile.leavers:
            await self._give_rights(self._writers[0])
        async with asyncio.TaskGroup() as group:
            for w, connection in enumerate(self._writers):
                mine = [
                    (due, i % len(self._owners))
                    for i, due in enumerate(due_s)
                    if i % len(self._owners) % writers == w
                ]
                group.create_task(
                    self._write(connection, step, mine, start_ns, outgoing)
                )

    def heartbeat(self) -> None:
        """Nothing idles: the writers are database connections."""

    async def close(self) -> None:
        """Close the writers and drop the tables."""
        for connection in self._writers:
            await connection.close()
        tables = f"public.{self._table}, public.{self._rights}"
        await _execute_once(self._address, f"drop table if exists {tables}")

    async def _write(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        step: int,
        rows: Sequence[tuple[float, int]],
        start_ns: int,
        outgoing: Outgoing,
    ) -> None:
        statement = await connection.prepare(
            f"insert into public.{self._table} (owner, probe)"
            " select * from unnest($1::uuid[], $2::text[])"
        )
        size = self._profile.rows_per_write
        lags_us: list[int] = []
        leavers = sorted({o for _, o in rows if o < self._profile.leavers})
        async with PreciseTimer() as timer:
            for first in range(0, len(rows), size):
                if leavers and first >= len(rows) // 2:
                    await self._end_rights(connection, leavers)
                    for owner in leavers:
                        outgoing.end(self.stream_of(step, owner))
                    leavers = []
                batch = rows[first : first + size]
                # A transaction is due with its last row.
                intended_ns = start_ns + round(batch[-1][0] * 1e9)
                await timer.until_ns(intended_ns)
                lags_us.append((time.monotonic_ns() - intended_ns) // US)
                probes = [
                    self._probe(step, owner, intended_ns, outgoing)
                    for _, owner in batch
                ]
                owners = [self._owners[owner] for _, owner in batch]
                await statement.fetch(owners, probes)
        outgoing.lag.record_many_us(lags_us)

    async def _give_rights(
        self, connection: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        await connection.execute(
            f"insert into public.{self._rights} select unnest($1::uuid[])"
            " on conflict do nothing",
            self._owners,
        )

    async def _end_rights(
        self, connection: asyncpg.Connection[asyncpg.Record], owners: Sequence[int]
    ) -> None:
        """Delete the rights of ``owners``; what is written later is not for them."""
        await connection.execute(
            f"delete from public.{self._rights} where owner = any($1::uuid[])",
            [self._owners[owner] for owner in owners],
        )

    def _probe(
        self, step: int, owner: int, intended_ns: int, outgoing: Outgoing
    ) -> str:
        stream = self.stream_of(step, owner)
        return probe_text(stream, outgoing.next_number(stream), intended_ns)


class DatabaseBroadcastLoad:
    """``realtime.send`` to one private topic that a policy lets members read."""

    def __init__(
        self, profile: LoadProfile, target: Target, *, name: str, seed: int
    ) -> None:
        self._profile = profile
        self._address = _address(target, profile)
        self._topic = name
        self._policy = f"{name} members read"
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        config: dict[str, Any] = {"private": profile.private}
        self.members: Sequence[Member] = [
            Member(
                f"realtime:{name}",
                config,
                target.user_token(
                    str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{name}:{i}"))
                ),
            )
            for i in range(profile.subscribers)
        ]

    async def prepare(self) -> None:
        """Let signed-in users read the topic."""
        await _execute_once(
            self._address,
            f'create policy "{self._policy}" on realtime.messages for select'
            f" to authenticated using ((select realtime.topic()) = '{self._topic}')",
        )

    async def connect_senders(self) -> None:
        """Open the connection that sends."""
        self._connection = await _connect(self._address)

    def stream_of(self, step: int, member: int) -> int:
        """Return the only stream of the step."""
        return step

    async def send(
        self, step: int, due_s: Sequence[float], start_ns: int, outgoing: Outgoing
    ) -> None:
        """Call ``realtime.send`` when each message is due."""
        if self._connection is None:
            raise StackError("the sender is not connected", service="postgres")
        statement = await self._connection.prepare(
            "select realtime.send($1::jsonb, $2, $3, $4)"
        )
        lags_us: list[int] = []
        async with PreciseTimer() as timer:
            for due in due_s:
                intended_ns = start_ns + round(due * 1e9)
                await timer.until_ns(intended_ns)
                lags_us.append((time.monotonic_ns() - intended_ns) // US)
                number = outgoing.next_number(step)
                payload = {"probe": probe_text(step, number, intended_ns)}
                text = orjson.dumps(payload).decode()
                await statement.fetch(text, EVENT, self._topic, self._profile.private)
        outgoing.lag.record_many_us(lags_us)

    def heartbeat(self) -> None:
        """Nothing idles: the sender is a database connection."""

    async def close(self) -> None:
        """Close the connection and drop the policy."""
        if self._connection is not None:
            await self._connection.close()
        await _execute_once(
            self._address,
            f'drop policy if exists "{self._policy}" on realtime.messages',
        )


def _address(target: Target, profile: LoadProfile) -> DatabaseAddress:
    if target.database is None:
        raise UsageError(
            f"profile {profile.name} writes to a database whose address is unknown",
            hint="give a database URL, or choose a broadcast profile",
        )
    return target.database


async def _connect(address: DatabaseAddress) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(**address.connect_args(OWNER_LOGIN))
    except (OSError, asyncpg.PostgresError) as exc:
        raise StackError(
            f"cannot connect to the database as {OWNER_LOGIN}: {exc}",
            service="postgres",
        ) from exc


async def _execute_once(address: DatabaseAddress, sql: str) -> None:
    connection = await _connect(address)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
