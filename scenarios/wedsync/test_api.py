"""The HTTP interface: who gets in, what is valid, limits, status, audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import allure
import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from harness.clock import ManualClock
from harness.stack.project import Project
from scenarios.fixtures import Sql
from scenarios.waiting import until
from scenarios.wedsync.channels import CHANNELS
from scenarios.wedsync.guests import Guest, Guests
from scenarios.wedsync.server import Running

pytestmark = allure.feature("wedsync: api")

Write = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
WHERE = "/api/realtime"
OWN = "d1000000-0000-4000-8000-000000000001"
OTHER = "d1000000-0000-4000-8000-000000000002"
COUPLE = "d2000000-0000-4000-8000-000000000001"
SUPPLIER_CHANNELS = ["form-responses", "journey-progress", "client-profiles"]


def bearer(guest: Guest) -> dict[str, str]:
    return {"Authorization": f"Bearer {guest.token}"}


async def subscribe(
    site: httpx.AsyncClient, guest: Guest, *channels: str, **filters: str
) -> httpx.Response:
    """Subscribe with the own tenant's filters, unless others are given."""
    tenant = guest.tenant
    own = {"supplier_id": tenant.supplier_id, "couple_id": tenant.couple_id}
    body = {
        "channels": list(channels),
        "filters": filters or {k: v for k, v in own.items() if v},
    }
    return await site.post(f"{WHERE}/subscribe", json=body, headers=bearer(guest))


async def recorded(sql: Sql) -> int:
    count: int = await sql.fetchval(
        "select count(*) from public.realtime_subscriptions"
    )
    return count


@pytest.mark.requirement("WS-03", "WS-36")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "subscribe"),
        ("DELETE", "subscribe/form-responses-1"),
        ("GET", "status"),
        ("GET", "events"),
        ("GET", "metrics"),
    ],
)
async def test_nobody_gets_in_without_a_valid_token(
    method: str,
    path: str,
    site: httpx.AsyncClient,
    people: Guests,
    project: Project,
    sql: Sql,
) -> None:
    expired = project.token(people.sam.id, session_id="", exp=1_000_000_000)
    foreign = people.sam.token[:-4] + "AAAA"
    for token in ("", "x", expired, foreign, project.anon_key):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await site.request(method, f"{WHERE}/{path}", headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert await recorded(sql) == 0
    assert await sql.fetchval("select count(*) from public.realtime_activity_logs") == 0


@pytest.mark.requirement("WS-36", "WS-01")
def test_every_route_is_secured(running: Running) -> None:
    routes = list(running.app.router.routes())
    assert len(routes) == 5
    assert all(getattr(route.handler, "is_secured", False) for route in routes)


@pytest.mark.requirement("WS-25", "WS-33", "WS-11")
async def test_the_answer_names_channel_status_and_filter(
    site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    answer = await subscribe(site, people.sam, "form-responses", "client-profiles")
    body = answer.json()
    assert (answer.status_code, set(body), body["success"]) == (
        200,
        {"success", "subscriptions"},
        True,
    )
    assert [set(s) for s in body["subscriptions"]] == [
        {"channel", "status", "filter"}
    ] * 2
    assert {s["filter"] for s in body["subscriptions"]} == {f"supplier_id=eq.{OWN}"}
    assert {s["status"] for s in body["subscriptions"]} == {"active"}
    ids = await sql.fetch("select channel_id from public.realtime_subscriptions")
    assert {row["channel_id"] for row in ids} == {
        s["channel"] for s in body["subscriptions"]
    }


@pytest.mark.requirement("WS-04", "WS-26")
@pytest.mark.parametrize(
    ("who", "channel", "filters"),
    [
        ("sam", "form-responses", {"supplier_id": OTHER}),
        ("sam", "core-fields", {"couple_id": COUPLE}),
        ("cleo", "form-responses", {"supplier_id": OWN}),
        ("carl", "core-fields", {"couple_id": COUPLE}),
        ("nobody", "core-fields", {"couple_id": COUPLE}),
    ],
)
async def test_another_tenants_channel_is_forbidden_and_audited(
    who: str,
    channel: str,
    filters: dict[str, str],
    site: httpx.AsyncClient,
    people: Guests,
    sql: Sql,
) -> None:
    guest = people.named(who)
    answer = await subscribe(site, guest, channel, **filters)
    assert answer.status_code == 403
    assert await recorded(sql) == 0
    denied = await sql.fetch(
        "select actor_id::text, channel_id from public.realtime_activity_logs"
        " where event_type = 'DENIED'"
    )
    expected = [] if who == "nobody" else [(guest.id, channel)]
    assert [tuple(row) for row in denied] == expected


@pytest.mark.requirement("WS-08", "WS-26", "WS-39")
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "channels"),
        ({"channels": []}, "channels"),
        ({"channels": "form-responses"}, "channels"),
        ({"channels": [""]}, "short text"),
        ({"channels": [7]}, "short text"),
        ({"channels": ["x" * 51]}, "short text"),
        ({"channels": ["auth.users"]}, "unknown channel"),
        ({"channels": [f"c{n}" for n in range(11)]}, "at most 10"),
        ({"channels": ["form-responses"]}, "supplier_id is required"),
        ({"channels": ["core-fields"], "filters": {}}, "couple_id is required"),
        ({"channels": ["core-fields"], "filters": []}, "couple_id is required"),
        ({"channels": ["core-fields"], "filters": [1]}, "filters"),
        ({"channels": ["form-responses"], "filters": {"supplier_id": "1"}}, "UUID"),
        ({"channels": ["form-responses"], "filters": {"supplier_id": None}}, "UUID"),
        ({"channels": ["form-responses"], "filters": {"notes": OWN}}, "filters"),
        (
            {"channels": ["form-responses"], "filters": {"wedding_id": OWN}},
            "wedding_id",
        ),
        ([], "object"),
    ],
)
async def test_a_bad_request_says_what_is_wrong_and_changes_nothing(
    body: Any, named: str, site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    answer = await site.post(
        f"{WHERE}/subscribe", json=body, headers=bearer(people.sam)
    )
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert await recorded(sql) == 0


@pytest.mark.requirement("WS-08")
async def test_any_json_is_answered_without_a_fault(
    site: httpx.AsyncClient, people: Guests
) -> None:
    bodies: list[Any] = []
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["channels", "filters", "supplier_id", "x"]), inner
            )
        ),
        max_leaves=8,
    )

    @given(body=junk)
    @hypothesis_settings(
        max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def collect(body: Any) -> None:
        bodies.append(body)

    collect()
    for body in bodies:
        answer = await site.post(
            f"{WHERE}/subscribe", json=body, headers=bearer(people.sam)
        )
        assert answer.status_code == 400, body
        assert set(answer.json()) == {"error"}
    broken = await site.post(
        f"{WHERE}/subscribe", content=b"{", headers=bearer(people.sam)
    )
    assert broken.status_code == 400


@pytest.mark.requirement("WS-08", "WS-06")
async def test_repeated_channels_count_once(
    site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    answer = await subscribe(site, people.sam, *["form-responses"] * 50)
    assert len(answer.json()["subscriptions"]) == 1
    assert await recorded(sql) == 1


@pytest.mark.requirement("WS-06")
async def test_ten_subscriptions_a_minute_and_not_one_more(
    site: httpx.AsyncClient, people: Guests, clock: ManualClock
) -> None:
    for _ in range(3):
        answer = await subscribe(site, people.sam, *SUPPLIER_CHANNELS)
        assert answer.status_code == 200
    assert (await subscribe(site, people.sam, "form-responses")).status_code == 200
    refused = await subscribe(site, people.sam, "form-responses")
    assert (refused.status_code, refused.json()["error"]) == (
        429,
        "Rate limit exceeded",
    )
    assert (await subscribe(site, people.sue, "form-responses")).status_code == 200
    await clock.advance(59.9)
    assert (await subscribe(site, people.sam, "form-responses")).status_code == 429
    await clock.advance(0.1)
    assert (await subscribe(site, people.sam, "form-responses")).status_code == 200


@pytest.mark.requirement("WS-06")
async def test_parallel_requests_are_ten_all_the_same(
    site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    answers = await asyncio.gather(
        *(subscribe(site, people.sam, "form-responses") for _ in range(16))
    )
    assert sorted(a.status_code for a in answers) == [200] * 10 + [429] * 6
    assert await recorded(sql) == 10


@pytest.mark.requirement("WS-07")
@pytest.mark.parametrize("whose", ["user", "supplier"])
async def test_a_connection_limit_is_exact_and_freed_by_leaving(
    whose: str, site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    if whose == "user":
        await _fill(sql, people.sam, 249)
    else:
        await sql.execute("update public.suppliers set connection_limit = 5")
        await _fill(sql, people.sam, 4)
    last = await subscribe(site, people.sam, "form-responses")
    assert last.status_code == 200
    over = await subscribe(site, people.sam, "client-profiles")
    assert (over.status_code, whose in over.json()["error"]) == (429, True)
    channel = last.json()["subscriptions"][0]["channel"]
    left = await site.delete(f"{WHERE}/subscribe/{channel}", headers=bearer(people.sam))
    assert left.status_code == 204
    again = await subscribe(site, people.sam, "client-profiles")
    assert again.status_code == 200


@pytest.mark.requirement("WS-07")
async def test_a_limit_holds_for_parallel_requests(
    site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    await sql.execute("update public.suppliers set connection_limit = 4")
    answers = await asyncio.gather(
        *(subscribe(site, people.sam, "form-responses") for _ in range(9))
    )
    assert sorted(a.status_code for a in answers) == [200] * 4 + [429] * 5
    assert await recorded(sql) == 4


@pytest.mark.requirement("WS-26", "WS-07")
async def test_a_batch_is_subscribed_to_whole_or_not_at_all(
    site: httpx.AsyncClient, people: Guests, running: Running, sql: Sql
) -> None:
    await sql.execute("update public.suppliers set connection_limit = 2")
    refused = await subscribe(site, people.sam, *SUPPLIER_CHANNELS)
    assert refused.status_code == 429
    assert await recorded(sql) == 0
    # One table of a batch cannot be followed: nothing of the batch stays.
    await sql.execute("update public.suppliers set connection_limit = 250")
    await sql.execute("alter publication supabase_realtime drop table public.clients")
    failed = await subscribe(site, people.sam, *SUPPLIER_CHANNELS)
    assert (failed.status_code, failed.json()) == (
        500,
        {"error": "Subscription failed"},
    )
    assert await recorded(sql) == 0
    manager = running.sessions.find(people.sam.id)
    assert manager is not None
    assert manager.channel_ids == []


@pytest.mark.requirement("WS-33", "WS-15")
async def test_only_the_own_subscription_is_deleted_and_once(
    site: httpx.AsyncClient, people: Guests, sql: Sql
) -> None:
    live = (await subscribe(site, people.sam, "form-responses")).json()
    path = f"{WHERE}/subscribe/{live['subscriptions'][0]['channel']}"
    for stranger in (people.sue, people.cleo):
        answer = await site.delete(path, headers=bearer(stranger))
        assert answer.status_code == 404
    assert await recorded(sql) == 1
    assert (await site.delete(path, headers=bearer(people.sam))).status_code == 204
    assert (await site.delete(path, headers=bearer(people.sam))).status_code == 404
    assert await recorded(sql) == 0


@pytest.mark.requirement("WS-27", "WS-21")
async def test_the_status_tells_what_is_true_of_the_own_connections(
    site: httpx.AsyncClient, people: Guests, write: Write
) -> None:
    async def status(guest: Guest) -> dict[str, Any]:
        answer = await site.get(f"{WHERE}/status", headers=bearer(guest))
        body: dict[str, Any] = answer.json()
        return body

    assert await status(people.sam) == {
        "connected": False,
        "activeChannels": [],
        "messageCount": 0,
        "lastMessageAt": None,
    }
    await subscribe(site, people.sam, "form-responses", "client-profiles")
    for _ in range(3):
        await write("form_responses", {"supplier_id": OWN, "couple_id": COUPLE})
    await write("form_responses", {"supplier_id": OTHER, "couple_id": COUPLE})

    async def counted() -> bool:
        return bool((await status(people.sam))["messageCount"] == 3)

    await until(counted, "three events are counted")
    told = await status(people.sam)
    assert (told["connected"], told["activeChannels"]) == (
        True,
        ["client-profiles", "form-responses"],
    )
    assert told["lastMessageAt"] is not None
    assert (await status(people.sue))["messageCount"] == 0


@pytest.mark.requirement("WS-27", "WS-29")
async def test_events_older_than_a_day_are_not_counted(
    site: httpx.AsyncClient, people: Guests, sql: Sql, clock: ManualClock
) -> None:
    for hours, count in ((1, 5), (23, 7), (25, 100)):
        await sql.execute(
            "insert into public.realtime_activity_logs"
            " (user_id, actor_id, channel_id, event_type, event_count, timestamp)"
            " values ($1::text::uuid, $1::text::uuid, 'c', 'EVENTS', $2,"
            " $3::timestamptz - make_interval(hours => $4))",
            people.sam.id,
            count,
            clock.now(),
            hours,
        )
    answer = await site.get(f"{WHERE}/status", headers=bearer(people.sam))
    assert answer.json()["messageCount"] == 12


@pytest.mark.requirement("WS-11", "WS-35")
async def test_events_are_streamed_to_the_client(
    site: httpx.AsyncClient, people: Guests, write: Write
) -> None:
    await subscribe(site, people.sam, "form-responses")
    where = f"{WHERE}/events"
    async with site.stream("GET", where, headers=bearer(people.sam)) as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == ": keep-alive"
        row = await write("form_responses", {"supplier_id": OWN, "couple_id": COUPLE})
        async with asyncio.timeout(5):
            while not (line := await anext(lines)).startswith("data: "):
                continue
    event = json.loads(line.removeprefix("data: "))
    assert (event["type"], event["channel"]) == ("change", "form-responses")
    assert event["change"]["record"]["id"] == row["id"]
    without = await site.get(where, headers=bearer(people.sue))
    assert without.status_code == 404


@pytest.mark.requirement("WS-09", "WS-23")
async def test_every_activity_is_in_the_log_and_outlives_its_user(
    site: httpx.AsyncClient, people: Guests, write: Write, sql: Sql
) -> None:
    live = (await subscribe(site, people.sam, "form-responses")).json()
    channel = live["subscriptions"][0]["channel"]
    await subscribe(site, people.sam, "form-responses", supplier_id=OTHER)
    await write("form_responses", {"supplier_id": OWN, "couple_id": COUPLE})

    async def counted() -> bool:
        answer = await site.get(f"{WHERE}/status", headers=bearer(people.sam))
        return bool(answer.json()["messageCount"])

    await until(counted, "the event is counted")
    await site.delete(f"{WHERE}/subscribe/{channel}", headers=bearer(people.sam))
    log = (
        "select event_type, channel_id from public.realtime_activity_logs"
        " where actor_id = $1::text::uuid order by timestamp, event_type"
    )
    before = {tuple(row) for row in await sql.fetch(log, people.sam.id)}
    assert before == {
        ("SUBSCRIBE", channel),
        ("DENIED", "form-responses"),
        ("EVENTS", channel),
        ("UNSUBSCRIBE", channel),
    }
    await sql.execute("delete from auth.users where id = $1::text::uuid", people.sam.id)
    assert {tuple(row) for row in await sql.fetch(log, people.sam.id)} == before


@pytest.mark.requirement("WS-34", "WS-29")
async def test_metrics_count_without_telling_anybodys_data(
    site: httpx.AsyncClient, people: Guests
) -> None:
    await subscribe(site, people.sam, "form-responses", "client-profiles")
    await subscribe(site, people.cleo, "core-fields")
    answer = await site.get(f"{WHERE}/metrics", headers=bearer(people.sue))
    assert answer.json() == {
        "active_connections": 3,
        "today_messages": 0,
        "average_messages": 0.0,
        "live_channels": {"form-responses": 1, "client-profiles": 1, "core-fields": 1},
    }


@pytest.mark.requirement("WS-38")
async def test_the_service_key_is_in_no_answer(
    site: httpx.AsyncClient, people: Guests, project: Project
) -> None:
    answers = [
        await subscribe(site, people.sam, *SUPPLIER_CHANNELS),
        await subscribe(site, people.sam, "core-fields", couple_id=COUPLE),
        await site.get(f"{WHERE}/status", headers=bearer(people.sam)),
        await site.get(f"{WHERE}/metrics", headers=bearer(people.sam)),
    ]
    for answer in answers:
        told = answer.text + str(answer.headers)
        assert project.service_role_key not in told
        assert project.secret_key not in told


@pytest.mark.requirement("WS-31", "WS-25")
async def test_all_four_channels_are_offered(
    site: httpx.AsyncClient, people: Guests
) -> None:
    for name, channel in CHANNELS.items():
        who = people.sam if channel.user_type == "supplier" else people.cleo
        assert (await subscribe(site, who, name)).status_code == 200


async def _fill(sql: Sql, guest: Guest, count: int) -> None:
    """Record subscriptions as if the user had them open elsewhere."""
    await sql.execute(
        "insert into public.realtime_subscriptions"
        " (user_id, supplier_id, channel_id, channel_name, table_name, last_ping_at)"
        " select $1::text::uuid, $2::text::uuid, 'elsewhere-' || n, 'form-responses',"
        " 'form_responses', now() + interval '1 year' from generate_series(1, $3) n",
        guest.id,
        guest.tenant.supplier_id,
        count,
    )
