"""Connections in pipeline mode and their pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from harness.db.address import DatabaseAddress
from harness.db.pipeline import (
    MAX_PREPARED,
    ConnectionLostError,
    Pipeline,
    PipelinePool,
    PoolTimeoutError,
    Statement,
    StatementError,
)


@pytest.fixture
async def pipeline(database: DatabaseAddress) -> AsyncIterator[Pipeline]:
    """Open one connection as the owner of the schema."""
    connection = await Pipeline.connect(database.dsn("postgres"))
    yield connection
    connection.close()


async def value(pipeline: Pipeline, sql: str, *params: bytes | None) -> bytes | None:
    (result,) = await pipeline.run([Statement(sql, params)])
    return result.get_value(0, 0)


async def test_batch_is_one_transaction(pipeline: Pipeline) -> None:
    await pipeline.run([Statement("create table t (a int primary key)")])
    insert = Statement("insert into t values ($1::int)", [b"1"])
    with pytest.raises(StatementError) as caught:
        await pipeline.run([insert, Statement("select 1/0"), insert])
    assert caught.value.sqlstate == "22012"
    assert await value(pipeline, "select count(*) from t") == b"0"


async def test_settings_end_with_the_batch(pipeline: Pipeline) -> None:
    setting = Statement("select set_config('a.b', $1, true)", [b"x"])
    read = Statement("select current_setting('a.b', true)")
    results = await pipeline.run([setting, read])
    assert results[1].get_value(0, 0) == b"x"
    assert await value(pipeline, read.sql) in (None, b"")


async def test_error_at_the_end_of_the_batch_is_raised(pipeline: Pipeline) -> None:
    await pipeline.run(
        [Statement("create table t (a int unique deferrable initially deferred)")]
    )
    with pytest.raises(StatementError) as caught:
        await pipeline.run([Statement("insert into t values (1), (1)")])
    assert caught.value.sqlstate == "23505"
    assert await value(pipeline, "select count(*) from t") == b"0"


async def test_statement_that_failed_to_prepare_is_prepared_again(
    pipeline: Pipeline,
) -> None:
    read = "select count(*) from later"
    with pytest.raises(StatementError):
        await value(pipeline, read)
    await pipeline.run([Statement("create table later ()")])
    assert await value(pipeline, read) == b"0"


async def test_prepared_statements_are_bounded_and_apart_by_scope(
    pipeline: Pipeline,
) -> None:
    for number in range(MAX_PREPARED + 20):
        await value(pipeline, f"select {number}")
    count = "select count(*) from pg_prepared_statements"
    assert int(await value(pipeline, count) or 0) <= MAX_PREPARED
    before = int(await value(pipeline, count) or 0)
    for scope in ("a", "b"):
        await pipeline.run([Statement("select 'scoped'")], scope=scope)
    found = "select count(*) from pg_prepared_statements where statement = $1"
    assert await value(pipeline, found, b"select 'scoped'") == b"2"
    assert int(await value(pipeline, count) or 0) <= before + 2


async def test_forget_closes_every_prepared_statement(pipeline: Pipeline) -> None:
    await value(pipeline, "select 1")
    pipeline.forget(7)
    names = "select string_agg(statement, ';') from pg_prepared_statements"
    assert await value(pipeline, names) == names.encode()
    assert pipeline.generation == 7


async def test_large_parameters_and_results_pass(pipeline: Pipeline) -> None:
    text = b"x" * 20_000_000
    assert await value(pipeline, "select $1::text", text) == text


async def test_notifications_are_told(
    pipeline: Pipeline, database: DatabaseAddress
) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    pipeline.on_notify = told.put_nowait
    await pipeline.run([Statement("listen here", keep=False)])
    other = await Pipeline.connect(database.dsn("postgres"))
    await other.run([Statement("select pg_notify('here', 'hello')")])
    async with asyncio.timeout(5):
        assert await told.get() == "hello"
    other.close()


async def test_cancelled_batch_costs_the_connection(pipeline: Pipeline) -> None:
    task = asyncio.create_task(value(pipeline, "select pg_sleep(60)"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pipeline.lost


async def test_lost_connection_is_told(pipeline: Pipeline) -> None:
    with pytest.raises((ConnectionLostError, StatementError)):
        await value(pipeline, "select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(ConnectionLostError):
        await value(pipeline, "select 1")
    assert pipeline.lost


async def test_unreachable_server_is_told(database: DatabaseAddress) -> None:
    with pytest.raises(ConnectionLostError, match="no-such-database"):
        await Pipeline.connect(database.dsn("postgres") + " dbname=no-such-database")


async def test_pool_lends_again_and_waits_when_all_are_lent(
    database: DatabaseAddress,
) -> None:
    pool = PipelinePool(database.dsn("postgres"), max_size=1, acquire_timeout_s=0.2)
    first = await pool.acquire()
    with pytest.raises(PoolTimeoutError):
        await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.release(first)
    assert await waiting is first
    pool.release(first)
    pool.close()
    with pytest.raises(ConnectionLostError):
        await pool.acquire()


async def test_pool_drops_connections_that_broke_or_are_mid_transaction(
    database: DatabaseAddress,
) -> None:
    pool = PipelinePool(database.dsn("postgres"), max_size=1)
    first = await pool.acquire()
    await first.run([Statement("begin")])
    pool.release(first)
    second = await pool.acquire()
    assert second is not first
    assert first.lost
    second.close()
    pool.release(second)
    third = await pool.acquire()
    assert await value(third, "select 1") == b"1"
    pool.release(third)
    pool.close()


async def test_pool_gives_the_place_of_a_cancelled_waiter_to_the_next(
    database: DatabaseAddress,
) -> None:
    pool = PipelinePool(database.dsn("postgres"), max_size=1)
    first = await pool.acquire()
    gone = asyncio.create_task(pool.acquire())
    next_one = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    gone.cancel()
    pool.release(first)
    async with asyncio.timeout(5):
        assert await next_one is first
    pool.release(first)
    pool.close()


async def test_pool_closes_idle_connections(
    database: DatabaseAddress, pipeline: Pipeline
) -> None:
    dsn = f"{database.dsn('postgres')} application_name=idle"
    pool = PipelinePool(dsn, idle_s=0.05)
    lent = await pool.acquire()
    pool.release(lent)
    count = "select count(*) from pg_stat_activity where application_name = 'idle'"
    async with asyncio.timeout(5):
        while await value(pipeline, count) != b"0":
            pass
    assert lent.lost
    pool.close()
