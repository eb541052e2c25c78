"""Reads that share connections: each its own transaction, none behind a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from harness.db.address import DatabaseAddress
from harness.db.pipeline import (
    ConnectionLostError,
    Pipeline,
    PipelinePool,
    PoolTimeoutError,
    Statement,
    StatementError,
)
from harness.db.shared_reads import SHARED, SharedReads

DEADLINE_S = 20.0
WHO = "select pg_backend_pid(), $1::text"


@pytest.fixture
async def pool(database: DatabaseAddress) -> AsyncIterator[PipelinePool]:
    made = PipelinePool(database.dsn("postgres"), max_size=6)
    yield made
    made.close()


@pytest.fixture
async def observer(database: DatabaseAddress) -> AsyncIterator[Pipeline]:
    made = await Pipeline.connect(database.dsn("supabase_admin"))
    yield made
    made.close()


async def ask(reads: SharedReads, text: str) -> tuple[bytes, bytes]:
    """Return the backend that answered, and the text it was given."""
    (result,) = await reads.run([Statement(WHO, [text.encode()])])
    return result.get_value(0, 0) or b"", result.get_value(0, 1) or b""


async def warmed(pool: PipelinePool) -> SharedReads:
    """Return reads that know the statement to be brief, on one connection."""
    reads = SharedReads(pool)
    for _ in range(2):
        await ask(reads, "first")
    return reads


async def test_reads_of_one_turn_share_a_connection_and_keep_their_answers(
    pool: PipelinePool,
) -> None:
    reads = await warmed(pool)
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(ask(reads, str(n)) for n in range(SHARED)))
    assert [text for _, text in answers] == [b"%d" % n for n in range(SHARED)]
    assert len({pid for pid, _ in answers}) == 1


async def test_more_reads_than_connections_are_all_answered(
    pool: PipelinePool,
) -> None:
    reads = SharedReads(pool)
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(ask(reads, str(n)) for n in range(200)))
    assert [text for _, text in answers] == [b"%d" % n for n in range(200)]


async def test_an_error_is_told_to_its_own_read_alone(pool: PipelinePool) -> None:
    reads = SharedReads(pool)
    divide = "select 1 / $1::int"

    async def quotient(divisor: str) -> bytes | None:
        (result,) = await reads.run([Statement(divide, [divisor.encode()])])
        return result.get_value(0, 0)

    await quotient("1")
    async with asyncio.timeout(DEADLINE_S):
        good, bad, after = await asyncio.gather(
            quotient("1"), quotient("0"), quotient("1"), return_exceptions=True
        )
    assert (good, after) == (b"1", b"1")
    assert isinstance(bad, StatementError)
    assert bad.sqlstate == "22012"


async def test_settings_of_a_read_end_before_the_next(pool: PipelinePool) -> None:
    reads = SharedReads(pool)
    claim = Statement("select set_config('a.claim', $1, true)", [b"mine"])
    read = Statement("select coalesce(current_setting('a.claim', true), '')")

    async def seen(*statements: Statement) -> bytes | None:
        return (await reads.run(statements))[-1].get_value(0, 0)

    for _ in range(2):
        told = await asyncio.gather(seen(claim, read), seen(read), seen(claim, read))
        assert told == [b"mine", b"", b"mine"]


async def test_no_read_waits_behind_a_slow_one(
    pool: PipelinePool, observer: Pipeline
) -> None:
    reads = await warmed(pool)
    # Held until the other reads are answered: behind it they never would be.
    await observer.run([Statement("select pg_advisory_lock(4711)")])
    held = Statement("select pg_advisory_lock_shared(4711)")
    slow = asyncio.create_task(reads.run([held]))
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(ask(reads, str(n)) for n in range(8)))
        assert len(answers) == 8
        assert not slow.done()
        await observer.run([Statement("select pg_advisory_unlock(4711)")])
        await slow


async def test_a_connection_found_dead_is_replaced(
    pool: PipelinePool, observer: Pipeline
) -> None:
    reads = await warmed(pool)
    pid, _ = await ask(reads, "before")
    ended = Statement("select pg_terminate_backend($1::int, 5000)", [pid])
    await observer.run([ended])
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(ask(reads, str(n)) for n in range(SHARED)))
    assert [text for _, text in answers] == [b"%d" % n for n in range(SHARED)]
    assert pid not in {told for told, _ in answers}


async def test_a_read_that_is_given_up_costs_its_connection_and_no_other_read(
    pool: PipelinePool,
) -> None:
    reads = await warmed(pool)
    endless = Statement("select pg_sleep(600)")
    asking = asyncio.create_task(reads.run([endless]))
    await ask(reads, "beside it")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(ask(reads, str(n)) for n in range(12)))
    assert len(answers) == 12


async def test_a_pool_without_a_free_connection_is_told(
    database: DatabaseAddress,
) -> None:
    pool = PipelinePool(database.dsn("postgres"), max_size=1, acquire_timeout_s=0.1)
    reads = SharedReads(pool)
    lent = await pool.acquire()
    with pytest.raises(PoolTimeoutError):
        await ask(reads, "in vain")
    pool.release(lent)
    assert (await ask(reads, "again"))[1] == b"again"
    pool.close()
    with pytest.raises(ConnectionLostError):
        await ask(reads, "after the end")
