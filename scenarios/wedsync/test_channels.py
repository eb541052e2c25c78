"""Channels: what a filter is, who may subscribe, what arrives and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import allure
import pytest
from hypothesis import given
from hypothesis import strategies as st
from supabase import AsyncClient

from harness.clock import ManualClock
from scenarios.breakable_line import BreakableLine
from scenarios.fixtures import Sql
from scenarios.waiting import until
from scenarios.wedsync.channels import (
    CHANNELS,
    ChannelDeniedError,
    Filter,
    FilterSyntaxError,
    Tenant,
    UnknownChannelError,
    authorise,
    find_channel,
)
from scenarios.wedsync.guests import Guest, Guests
from scenarios.wedsync.server import Running, running_server
from scenarios.wedsync.settings import Settings
from scenarios.wedsync.subscription_manager import (
    RealtimeSubscriptionManager,
    SubscriptionFailedError,
)

pytestmark = [
    allure.feature("wedsync: channels"),
    # The official client logs a cut by an attribute that websockets deprecates.
    pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning"),
]

ManagerOf = Callable[[Guest], Awaitable[RealtimeSubscriptionManager]]
Write = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
OWN, OTHER = (
    "d1000000-0000-4000-8000-000000000001",
    "d1000000-0000-4000-8000-000000000002",
)
COUPLE = "d2000000-0000-4000-8000-000000000001"
OTHER_COUPLE = "d2000000-0000-4000-8000-000000000002"
SUPPLIER_CHANNELS = ("form-responses", "journey-progress", "client-profiles")


class Reader:
    """Reads a manager's events in the background, for tests to look at."""

    def __init__(self, manager: RealtimeSubscriptionManager) -> None:
        self.events: list[Any] = []
        self._task = asyncio.create_task(self._read(manager))

    async def _read(self, manager: RealtimeSubscriptionManager) -> None:
        async for event in manager.events():
            self.events.append(event)

    def rows(self) -> list[Any]:
        """Return the changes that arrived."""
        return [e["change"] for e in self.events if e["type"] == "change"]

    async def stop(self) -> None:
        """Stop reading."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
async def read() -> Any:
    """Yield a function that reads a manager's events."""
    readers: list[Reader] = []

    async def start(manager: RealtimeSubscriptionManager) -> Reader:
        readers.append(Reader(manager))
        await asyncio.sleep(0)
        return readers[-1]

    yield start
    for reader in readers:
        await reader.stop()


@pytest.mark.requirement("WS-04", "WS-17")
@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("user_type", ["supplier", "couple", "admin", "climber", ""])
@pytest.mark.parametrize("asked", ["own", "other", "null"])
def test_a_channel_is_for_its_kind_of_user_and_own_tenant_only(
    channel: str, user_type: str, asked: str
) -> None:
    found = CHANNELS[channel]
    tenant = Tenant("u", user_type, OWN, COUPLE)
    own = tenant.id_of(found.tenant_column) or ""
    other = {"own": own, "other": OTHER, "null": "null"}[asked]
    filter_ = Filter(found.tenant_column, "eq", other)
    if user_type == found.user_type and asked == "own":
        assert authorise(tenant, found, filter_) == filter_
        assert str(filter_) == f"{found.tenant_column}=eq.{own}"
    else:
        with pytest.raises(ChannelDeniedError):
            authorise(tenant, found, filter_)


@pytest.mark.requirement("WS-04", "WS-17")
@pytest.mark.parametrize(
    "filter_",
    [
        Filter("supplier_id", "neq", OWN),
        Filter("supplier_id", "in", OWN),
        Filter("couple_id", "eq", OWN),
        Filter("notes", "eq", OWN),
        Filter("supplier_id", "eq", OWN + "0"),
        Filter("supplier_id", "eq", OWN.upper()),
    ],
)
def test_a_filter_that_only_resembles_the_own_is_denied(filter_: Filter) -> None:
    tenant = Tenant("u", "supplier", OWN)
    with pytest.raises(ChannelDeniedError):
        authorise(tenant, CHANNELS["form-responses"], filter_)


@pytest.mark.requirement("WS-04")
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_user_without_a_tenant_gets_no_channel(channel: str) -> None:
    found = CHANNELS[channel]
    nobody = Tenant("u", found.user_type, None, None)
    for value in ("", "null", "None", OWN):
        with pytest.raises(ChannelDeniedError):
            authorise(nobody, found, Filter(found.tenant_column, "eq", value))


@pytest.mark.requirement("WS-04", "WS-08")
@given(text=st.text() | st.from_regex(r"[a-z_]+=[a-z]+\.[0-9a-f-]+", fullmatch=True))
def test_what_is_read_as_a_filter_is_written_back_the_same(text: str) -> None:
    try:
        parsed = Filter.parse(text)
    except FilterSyntaxError:
        return
    assert str(parsed) == text
    assert len(parsed.value) == 36


@pytest.mark.requirement("WS-04", "WS-08")
@pytest.mark.parametrize(
    "text",
    [
        f"notes=neq.supplier_id=eq.{OWN}",
        f"supplier_id=eq.{OWN},notes=eq.x",
        f"supplier_id=eq.{OWN} or 1=1",
        "supplier_id=eq.null",
        f"supplier_id=eq.{OWN}extra",
        "",
    ],
)
def test_a_filter_with_anything_around_it_is_no_filter(text: str) -> None:
    with pytest.raises(FilterSyntaxError):
        Filter.parse(text)


@pytest.mark.requirement("WS-04", "WS-39")
@pytest.mark.parametrize(
    "name", ["", "wedding-details", "auth.users", "FORM-RESPONSES"]
)
def test_there_are_four_channels_and_no_other(name: str) -> None:
    assert len(CHANNELS) == 4
    with pytest.raises(UnknownChannelError):
        find_channel(name)


@pytest.mark.requirement("WS-11", "WS-12", "WS-13", "WS-14", "WS-31", "WS-18")
@pytest.mark.parametrize(
    ("who", "channel", "own_row", "other_row"),
    [
        (
            "sam",
            "form-responses",
            {"supplier_id": OWN, "couple_id": COUPLE},
            {"supplier_id": OTHER, "couple_id": OTHER_COUPLE},
        ),
        (
            "sam",
            "journey-progress",
            {"supplier_id": OWN, "couple_id": COUPLE, "milestone": "m"},
            {"supplier_id": OTHER, "couple_id": OTHER_COUPLE, "milestone": "m"},
        ),
        (
            "sam",
            "client-profiles",
            {"supplier_id": OWN, "couple_id": OTHER_COUPLE},
            {"supplier_id": OTHER, "couple_id": COUPLE},
        ),
        (
            "cleo",
            "core-fields",
            {"couple_id": COUPLE, "field_key": "date"},
            {"couple_id": OTHER_COUPLE, "field_key": "date"},
        ),
    ],
)
async def test_the_own_tenants_rows_arrive_and_no_other(
    who: str,
    channel: str,
    own_row: dict[str, Any],
    other_row: dict[str, Any],
    people: Guests,
    manager_of: ManagerOf,
    write: Write,
    read: Any,
    sql: Sql,
) -> None:
    guest = people.named(who)
    manager = await manager_of(guest)
    (live,) = await _subscribe(manager, channel)
    reader = await read(manager)
    table = CHANNELS[channel].table
    await write(table, other_row)
    mine = await write(table, own_row)
    await until(reader.rows, "the own row arrives")
    assert [row["record"]["id"] for row in reader.rows()] == [mine["id"]]
    record = await sql.fetchrow(
        "select user_id::text, channel_id, channel_name, table_name, active"
        " from public.realtime_subscriptions"
    )
    assert tuple(record or ()) == (guest.id, live.channel_id, channel, table, True)


@pytest.mark.requirement("WS-12", "WS-13", "WS-14", "WS-31", "WS-18")
async def test_every_channel_has_a_method_of_its_own(
    people: Guests, manager_of: ManagerOf
) -> None:
    sam, cleo = await manager_of(people.sam), await manager_of(people.cleo)
    live = [
        await sam.subscribe_to_form_responses(),
        await sam.subscribe_to_journey_progress(),
        await sam.subscribe_to_client_profiles(),
        await cleo.subscribe_to_core_fields(),
    ]
    assert [result.channel for result in live] == [
        *SUPPLIER_CHANNELS,
        "core-fields",
    ]
    assert live[0].filter == f"supplier_id=eq.{OWN}"
    with pytest.raises(ChannelDeniedError):
        await cleo.subscribe_to_form_responses()


@pytest.mark.requirement("WS-05", "WS-19", "WS-32")
async def test_a_deletion_arrives_with_its_old_row_at_its_tenant_only(
    people: Guests, manager_of: ManagerOf, write: Write, read: Any, sql: Sql
) -> None:
    readers = {}
    for guest in (people.sam, people.sue):
        manager = await manager_of(guest)
        await _subscribe(manager, "form-responses")
        readers[guest.id] = await read(manager)
    for supplier, couple in ((OWN, COUPLE), (OTHER, OTHER_COUPLE)):
        row = {"supplier_id": supplier, "couple_id": couple, "notes": supplier}
        await write("form_responses", row)
    await sql.execute("delete from public.form_responses")
    for guest, supplier in ((people.sam, OWN), (people.sue, OTHER)):
        rows = await _until_deleted(readers[guest.id])
        seen = [row.get("record") or row["old_record"] for row in rows]
        assert {row["supplier_id"] for row in seen} == {supplier}


@pytest.mark.requirement("WS-11", "WS-15", "WS-18")
async def test_subscribing_twice_gives_two_channels_that_end_apart(
    people: Guests, manager_of: ManagerOf, write: Write, read: Any, sql: Sql
) -> None:
    manager = await manager_of(people.sam)
    (first,) = await _subscribe(manager, "form-responses")
    (second,) = await _subscribe(manager, "form-responses")
    assert first.channel_id != second.channel_id
    reader = await read(manager)
    assert await manager.unsubscribe(first.channel_id) is True
    assert await manager.unsubscribe(first.channel_id) is False
    await write("form_responses", {"supplier_id": OWN, "couple_id": COUPLE})
    await until(lambda: reader.events, "the second channel still delivers")
    assert {event["channel_id"] for event in reader.events} == {second.channel_id}
    left = await sql.fetch("select channel_id from public.realtime_subscriptions")
    assert [row["channel_id"] for row in left] == [second.channel_id]


@pytest.mark.requirement("WS-15", "WS-33")
async def test_nobody_ends_a_channel_of_another(
    people: Guests, manager_of: ManagerOf, sql: Sql
) -> None:
    sam, sue = await manager_of(people.sam), await manager_of(people.sue)
    (live,) = await _subscribe(sam, "form-responses")
    assert await sue.unsubscribe(live.channel_id) is False
    assert sam.channel_ids == [live.channel_id]
    assert await sql.fetchval("select count(*) from public.realtime_subscriptions") == 1


@pytest.mark.requirement("WS-16")
async def test_cleaning_up_ends_every_channel_even_if_one_fails(
    people: Guests,
    running: Running,
    manager_of: ManagerOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = await manager_of(people.sam)
    live = await _subscribe(manager, *SUPPLIER_CHANNELS)
    close = running.records.close

    async def fail_first(ids: list[str]) -> None:
        if ids == [live[0].channel_id]:
            raise TimeoutError("lost")
        await close(ids)

    monkeypatch.setattr(type(running.records), "close", lambda _, ids: fail_first(ids))
    with pytest.raises(ExceptionGroup) as failed:
        await manager.clean_up()
    assert len(failed.value.exceptions) == 1
    assert manager.channel_ids == []
    monkeypatch.undo()
    assert await running.records.recorded([r.channel_id for r in live]) == {
        live[0].channel_id
    }


@pytest.mark.requirement("WS-11", "WS-26")
async def test_a_server_that_does_not_answer_is_a_failure_that_leaves_nothing(
    people: Guests, settings: Settings, clock: ManualClock, sql: Sql
) -> None:
    async with BreakableLine(settings.supabase_url) as line:
        through = Settings(line.url, settings.anon_key, settings.service_key)
        async with running_server(settings, clock) as direct:
            manager = RealtimeSubscriptionManager(
                await _client(through, people.sam.token),
                direct.records,
                people.sam.tenant,
                user_limit=250,
                subscribe_timeout_s=0.5,
            )
            line.cut()
            with pytest.raises(SubscriptionFailedError):
                await _subscribe(manager, "form-responses", "client-profiles")
            assert manager.channel_ids == []
            await manager.clean_up()
    assert await sql.fetchval("select count(*) from public.realtime_subscriptions") == 0
    denied = await sql.fetch(
        "select channel_id from public.realtime_activity_logs"
        " where event_type = 'DENIED' order by 1"
    )
    assert [row["channel_id"] for row in denied] == [
        "client-profiles",
        "form-responses",
    ]


@pytest.mark.requirement("WS-35")
async def test_after_a_cut_the_channel_comes_back_and_tells_of_the_gap(
    people: Guests, settings: Settings, clock: ManualClock, write: Write, read: Any
) -> None:
    async with BreakableLine(settings.supabase_url) as line:
        through = Settings(line.url, settings.anon_key, settings.service_key)
        async with running_server(through, clock) as running:
            manager = await running.sessions.of(people.sam.tenant, people.sam.token)
            (live,) = await _subscribe(manager, "form-responses")
            reader = await read(manager)
            line.cut()
            await until(lambda: not manager.is_connected, "the cut is noticed")
            await write("form_responses", {"supplier_id": OWN, "couple_id": COUPLE})
            line.mend()
            await until(
                lambda: {"type": "gap", "channel_id": live.channel_id} in reader.events,
                "the gap is told",
                timeout_s=20,
            )
            assert reader.rows() == []
            row = await write(
                "form_responses", {"supplier_id": OWN, "couple_id": COUPLE}
            )
            await until(reader.rows, "events arrive again")
            assert [r["record"]["id"] for r in reader.rows()] == [row["id"]]


@pytest.mark.requirement("WS-35")
async def test_a_reader_that_does_not_keep_up_is_told_so(
    people: Guests, manager_of: ManagerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await manager_of(people.sam)
    events: Any = manager.events()
    first: Any = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    publish: Any = manager._publish
    for number in range(1500):
        publish({"type": "change", "number": number})
    assert (await first)["type"] == "overflow"
    rest = [await anext(events) for _ in range(500)]
    assert [event["number"] for event in rest] == list(range(1000, 1500))
    await events.aclose()


async def _until_deleted(reader: Reader) -> list[Any]:
    def deleted() -> bool:
        return any(row["type"] == "DELETE" for row in reader.rows())

    await until(deleted, "the deletion arrives")
    return reader.rows()


async def _subscribe(manager: RealtimeSubscriptionManager, *channels: str) -> list[Any]:
    column = CHANNELS[channels[0]].tenant_column
    own = Filter(column, "eq", manager.tenant.id_of(column) or "")
    return list(await manager.subscribe(channels, {column: own}))


async def _client(settings: Settings, token: str) -> Any:
    client = AsyncClient(settings.supabase_url, settings.anon_key)
    await client.realtime.set_auth(token)
    return client
