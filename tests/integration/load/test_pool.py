"""The client pool against the real server: right figures, right accusations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.errors import StackError, UsageError
from harness.events import LoadStepFinished
from harness.load.database_load import ChangesLoad
from harness.load.pool import LoadPool
from harness.load.profiles import LoadProfile
from harness.load.runner import judge
from harness.load.schedule import Step
from harness.load.step_report import PoolProgress, StepReport
from harness.load.target import Target
from tests.integration.load.relay import Probe, RelayedClient, SpoilingRelay
from tests.integration.realtime.server import RealtimeServer

BROADCAST = LoadProfile(
    name="test-broadcast",
    title="a short broadcast load",
    kind="broadcast",
    subscribers=6,
    steps=(Step(100, 0.4),),
    topics=2,
    warmup_s=0.1,
    drain_s=1.0,
)
CHANGES = replace(
    BROADCAST,
    name="test-changes",
    kind="changes",
    topics=1,
    rows_per_write=3,
    drain_s=10.0,
)
DATABASE = replace(
    BROADCAST,
    name="test-database",
    kind="database_broadcast",
    topics=1,
    private=True,
    drain_s=10.0,
)

LEAVERS = replace(CHANGES, name="test-leavers", leavers=2, steps=(Step(200, 1.0),))


def anomalies(step: LoadStepFinished) -> dict[str, int]:
    kinds = ("lost", "duplicate", "reordered", "wrong_recipient", "stale")
    counts = {kind: getattr(step, kind) for kind in kinds}
    return {kind: count for kind, count in counts.items() if count}


async def run(profile: LoadProfile, target: Target) -> StepReport:
    reports = await LoadPool(profile, target, seed=1, name="pool-test").run()
    assert len(reports) == len(profile.steps)
    return reports[0]


@pytest.mark.parametrize(
    ("profile", "copies"), [(BROADCAST, 3), (CHANGES, 1), (DATABASE, 6)]
)
async def test_every_delivery_arrives_once_and_is_timed(
    target: Target, profile: LoadProfile, copies: int
) -> None:
    report = await run(profile, target)
    step = report.finished
    assert anomalies(step) == {}
    assert step.sent == 40
    assert step.expected == step.delivered == step.latency.count == 40 * copies
    assert 0 < step.latency.p50_ms <= step.latency.p99_ms <= step.latency.max_ms
    assert step.server_cpu_s > 0
    assert sum(count for _, count, _ in step.timeline) == step.delivered
    assert report.complaints == ()


async def test_steps_are_reported_one_by_one_with_progress(target: Target) -> None:
    profile = replace(BROADCAST, steps=(Step(50, 0.5), Step(100, 0.5)))
    seen: list[PoolProgress] = []
    pool = LoadPool(profile, target, seed=1, name="steps", progress=seen.append)
    reports = await pool.run()
    assert [report.finished.sent for report in reports] == [25, 50]
    assert {progress.step for progress in seen} >= {1, 2}
    counted = sum(sum(progress.slice_ms.values()) for progress in seen)
    assert 0 < counted <= sum(report.finished.delivered for report in reports)


async def test_who_loses_a_right_halfway_gets_nothing_more_in_any_step(
    target: Target,
) -> None:
    profile = replace(LEAVERS, steps=LEAVERS.steps * 2)
    reports = await LoadPool(profile, target, seed=1, name="leaving").run()
    for step in (report.finished for report in reports):
        assert anomalies(step) == {}
        # Four members get their 33 rows; the two leavers at most half of their 34,
        # and what goes into one transaction with the last of them.
        assert step.sent == 200
        assert step.delivered == step.expected
        assert 4 * 33 <= step.delivered <= 4 * 33 + 2 * (17 + LEAVERS.rows_per_write)


async def test_a_right_that_does_not_end_is_told_as_stale(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(*args: object) -> None:
        """Let the right stand, as a server with a stale cache would."""

    monkeypatch.setattr(ChangesLoad, "_end_rights", keep)
    report = await run(LEAVERS, target)
    step = report.finished
    assert 20 < step.stale < 45
    # Nobody waits for the last messages of the two who should not get them.
    missing = step.sent - step.delivered - step.stale
    assert 0 <= missing <= LEAVERS.leavers * LEAVERS.rows_per_write
    assert anomalies(step) == {"stale": step.stale}
    (grave,) = judge(report, phase="load", seed=1)
    assert grave.severity == "critical"
    assert grave.check == "no_message_arrives_after_the_right_ended"


async def test_what_a_run_made_in_the_database_is_gone_afterwards(
    target: Target, server: RealtimeServer
) -> None:
    await run(LEAVERS, target)
    await run(DATABASE, target)
    await server.sql(
        """do $$ begin
          assert not exists (select from pg_tables where tablename like 'load%'),
            'a table is left';
          assert not exists (select from pg_policies where schemaname = 'realtime'),
            'a policy is left';
        end $$"""
    )


def lose(client: RelayedClient, frame: bytes, probe: Probe) -> None:
    """Drop one message of the measured step for one client."""
    if not (client.index == 1 and probe.sequence == 5 and probe.stream >= 2):
        client.deliver(frame)


def repeat(client: RelayedClient, frame: bytes, probe: Probe) -> None:
    """Deliver one message twice."""
    client.deliver(frame)
    if client.index == 1 and probe.sequence == 5 and probe.stream >= 2:
        client.deliver(frame)


def swap(client: RelayedClient, frame: bytes, probe: Probe) -> None:
    """Deliver one message after its successor."""
    if client.index == 1 and probe.sequence == 5 and probe.stream >= 2:
        client.kept = frame
        return
    client.deliver(frame)
    client.deliver(client.kept)
    client.kept = b""


def misdeliver(client: RelayedClient, frame: bytes, probe: Probe) -> None:
    """Deliver one message to a client of the other topic as well."""
    client.deliver(frame)
    if client.index == 1 and probe.sequence == 5 and probe.stream >= 2:
        client.relay.clients[2].deliver(frame)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lose, {"lost": 1}),
        (repeat, {"duplicate": 1}),
        (swap, {"reordered": 1}),
        (misdeliver, {"wrong_recipient": 1}),
    ],
)
async def test_one_spoilt_message_is_one_anomaly(
    target: Target,
    server: RealtimeServer,
    spoil: Callable[[RelayedClient, bytes, Probe], None],
    expected: dict[str, int],
) -> None:
    # One handshake at a time: the relay's clients are in the order of the members.
    profile = replace(BROADCAST, clients_per_s=20.0, warmup_s=0.1)
    async with SpoilingRelay(server.port, spoil) as relay:
        through = replace(target, url=f"http://127.0.0.1:{relay.port}")
        report = await run(profile, through)
    assert anomalies(report.finished) == expected
    if "lost" in expected or "wrong_recipient" in expected:
        assert report.examples


async def test_a_foreign_key_is_refused_with_the_servers_reason(
    target: Target,
) -> None:
    stranger = replace(target, anon_key="eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
    with pytest.raises(StackError, match=r"not every client could join.*401") as caught:
        await run(BROADCAST, stranger)
    assert "max_concurrent_users" in (caught.value.hint or "")


async def test_nobody_listening_is_a_clear_error(unused_tcp_port: int) -> None:
    nowhere = Target(url=f"http://127.0.0.1:{unused_tcp_port}", anon_key="k")
    with pytest.raises(StackError, match="cannot connect to 127"):
        await run(BROADCAST, nowhere)


async def test_changes_without_a_database_are_refused(target: Target) -> None:
    with pytest.raises(UsageError, match="whose address is unknown"):
        await run(CHANGES, replace(target, database=None))


async def test_a_server_that_dies_costs_what_it_did_not_deliver(
    target: Target, server: RealtimeServer
) -> None:
    profile = replace(BROADCAST, steps=(Step(50, 1.0),), drain_s=0.3)
    is_sending = asyncio.Event()

    def watch(progress: PoolProgress) -> None:
        if progress.step == 1 and progress.delivered:
            is_sending.set()

    pool = LoadPool(profile, target, seed=1, name="dying", progress=watch)
    running = asyncio.create_task(pool.run())
    async with asyncio.timeout(20):
        await is_sending.wait()
        await server.service.stop()
        reports = await running
    step = reports[0].finished
    assert step.lost > 0
    assert step.lost + step.delivered == step.expected
    assert any("connection lost" in text for text in reports[0].complaints)
