"""Heartbeat and clean-up, on a clock that tests move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import allure
import asyncpg
import pytest

from harness.clock import ManualClock
from harness.stack.project import Project
from scenarios.fixtures import AsPersona, Sql
from scenarios.wedsync.channels import CHANNELS, Filter
from scenarios.wedsync.connection_monitor import (
    CLEANUP_S,
    HEARTBEAT_S,
    ConnectionStats,
    RealtimeConnectionMonitor,
)
from scenarios.wedsync.guests import Guest, Guests
from scenarios.wedsync.server import Running
from scenarios.wedsync.subscription_manager import RealtimeSubscriptionManager

pytestmark = allure.feature("wedsync: monitor")

ManagerOf = Callable[[Guest], Awaitable[RealtimeSubscriptionManager]]
FIVE_MINUTES = timedelta(minutes=5)
INSERT = (
    "insert into public.realtime_subscriptions"
    " (user_id, channel_id, channel_name, table_name, active, last_ping_at)"
    " values ($1::text::uuid, $2, 'form-responses', 'form_responses', $3, $4)"
)


@pytest.mark.requirement("WS-24")
@pytest.mark.parametrize(
    ("silent", "active", "removed"),
    [
        (timedelta(minutes=4, seconds=59), True, False),
        (FIVE_MINUTES, True, False),
        (FIVE_MINUTES + timedelta(microseconds=1), True, True),
        (timedelta(minutes=5, seconds=1), True, True),
        (timedelta(), False, True),
    ],
)
async def test_silence_of_more_than_five_minutes_ends_a_subscription(
    silent: timedelta,
    active: bool,
    removed: bool,
    people: Guests,
    running: Running,
    clock: ManualClock,
    sql: Sql,
) -> None:
    await sql.execute(INSERT, people.sam.id, "c", active, clock.now() - silent)
    assert await running.records.clean_up() == int(removed)
    log = await sql.fetch("select event_type from public.realtime_activity_logs")
    assert [row[0] for row in log] == (["CLEANUP"] if removed else [])


@pytest.mark.requirement("WS-24", "WS-20")
@pytest.mark.parametrize("column", ["active", "last_ping_at", "user_id", "channel_id"])
async def test_nothing_can_be_recorded_that_would_never_be_cleaned_up(
    column: str, people: Guests, sql: Sql
) -> None:
    await sql.execute(
        "insert into public.realtime_subscriptions"
        " (user_id, channel_id, channel_name, table_name)"
        " values ($1::text::uuid, 'c', 'form-responses', 'form_responses')",
        people.sam.id,
    )
    with pytest.raises(asyncpg.NotNullViolationError):
        await sql.execute(f"update public.realtime_subscriptions set {column} = null")
    with pytest.raises(asyncpg.CheckViolationError):
        await sql.execute(
            "update public.realtime_subscriptions set last_ping_at = 'infinity'"
        )


@pytest.mark.requirement("WS-24", "WS-23")
@pytest.mark.parametrize("who", ["anon", "sam"])
async def test_only_the_service_cleans_up(
    who: str, people: Guests, project: Project, as_persona: AsPersona
) -> None:
    persona = project.anon if who == "anon" else people.sam.persona
    client = await as_persona(persona)
    for function, arguments in (
        ("cleanup_inactive_subscriptions", {}),
        ("prune_activity_logs", {}),
        ("check_rate_limit", {"p_key": "k", "p_max": 1, "p_window_ms": 1}),
        ("open_subscriptions", {"p_user_id": people.sam.id, "p_subscriptions": []}),
    ):
        with pytest.raises(Exception, match="permission denied"):
            await client.rpc(function, arguments).execute()


@pytest.mark.requirement("WS-10", "WS-40", "WS-28")
async def test_a_pinged_subscription_lives_and_a_silent_one_is_closed(
    people: Guests,
    running: Running,
    manager_of: ManagerOf,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monitor = running.monitor
    # The rounds are run here, one after the other, instead of by the timers.
    await monitor.stop()
    sam, sue = await manager_of(people.sam), await manager_of(people.sue)
    (kept,) = await _subscribe(sam)
    (silent,) = await _subscribe(sue)
    # Sue's part of the server hangs: it does not ping any more.
    monkeypatch.setattr(sue, "heartbeat", _nothing)
    removed = []
    for minute in range(1, 11):
        await clock.advance(HEARTBEAT_S)
        await monitor.heartbeat()
        if minute * HEARTBEAT_S % CLEANUP_S == 0:
            removed.append(await monitor.clean_up())
    # Silent for exactly five minutes at the first round, for longer at the second.
    assert removed == [0, 1]
    assert await running.records.recorded([kept, silent]) == {kept}
    assert (sam.channel_ids, sue.channel_ids) == ([kept], [])


@pytest.mark.requirement("WS-40", "WS-10")
async def test_a_ping_that_finds_no_record_closes_the_channel(
    people: Guests, running: Running, manager_of: ManagerOf, sql: Sql
) -> None:
    manager = await manager_of(people.sam)
    await _subscribe(manager)
    await sql.execute("delete from public.realtime_subscriptions")
    await running.monitor.heartbeat()
    assert manager.channel_ids == []


@pytest.mark.requirement("WS-40")
def test_pings_come_at_least_three_times_in_five_minutes() -> None:
    assert FIVE_MINUTES.total_seconds() >= HEARTBEAT_S * 3
    assert FIVE_MINUTES.total_seconds() == CLEANUP_S


@pytest.mark.requirement("WS-28")
async def test_starting_twice_is_starting_once_and_stopping_stops(
    running: Running, clock: ManualClock
) -> None:
    rounds: list[str] = []

    class Counting(RealtimeConnectionMonitor):
        async def heartbeat(self) -> None:
            rounds.append("heartbeat")

        async def clean_up(self) -> int:
            rounds.append("cleanup")
            return 0

    monitor = Counting(running.records, list, clock)
    monitor.start()
    monitor.start()
    for _ in range(5):
        await clock.advance(60)
    assert (rounds.count("heartbeat"), rounds.count("cleanup")) == (5, 1)
    await monitor.stop()
    assert not monitor.is_running
    await clock.advance(600)
    assert len(rounds) == 6


@pytest.mark.requirement("WS-28", "WS-35")
async def test_a_round_that_fails_does_not_end_the_timer(
    running: Running, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[int] = []

    class Failing(RealtimeConnectionMonitor):
        async def heartbeat(self) -> None:
            rounds.append(len(rounds))
            if len(rounds) == 1:
                raise ConnectionResetError

    monitor = Failing(running.records, list, clock)
    monitor.start()
    for _ in range(3):
        await clock.advance(60)
    await monitor.stop()
    assert len(rounds) == 3
    assert "realtime monitoring failed" in caplog.messages


@pytest.mark.requirement("WS-28", "WS-29")
async def test_statistics_are_numbers_even_without_connections(
    people: Guests, running: Running, manager_of: ManagerOf
) -> None:
    assert await running.monitor.stats() == ConnectionStats(0, 0)
    assert ConnectionStats(0, 0).average_messages == 0
    await _subscribe(await manager_of(people.sam))
    await running.records.log(people.sam.id, "c", "EVENTS", count=7)
    assert await running.monitor.stats() == ConnectionStats(1, 7)
    assert ConnectionStats(2, 7).average_messages == 3.5


@pytest.mark.requirement("WS-09")
async def test_old_activity_is_pruned_by_the_service(
    people: Guests, running: Running, sql: Sql, as_persona: AsPersona, project: Project
) -> None:
    for days in (1, 89, 91, 400):
        await sql.execute(
            "insert into public.realtime_activity_logs"
            " (actor_id, channel_id, event_type, timestamp)"
            " values ($1::text::uuid, 'c', 'SUBSCRIBE',"
            " now() - make_interval(days => $2))",
            people.sam.id,
            days,
        )
    service = await as_persona(project.service)
    assert (await service.rpc("prune_activity_logs", {}).execute()).data == 2
    assert await sql.fetchval("select count(*) from public.realtime_activity_logs") == 2


async def _nothing() -> None:
    """Do not ping."""


async def _subscribe(manager: RealtimeSubscriptionManager) -> list[Any]:
    column = CHANNELS["form-responses"].tenant_column
    own = Filter(column, "eq", manager.tenant.id_of(column) or "")
    live = await manager.subscribe(["form-responses"], {column: own})
    return [result.channel_id for result in live]
