"""Tables, policies and load: suppliers and couples see their own, at any scale."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import allure
import pytest
import websockets
from postgrest.exceptions import APIError

from harness.stack.project import Project
from scenarios.fixtures import AsPersona, Sql
from scenarios.wedsync.guests import Guest, Guests
from scenarios.wedsync.settings import Settings, SettingsError

pytestmark = allure.feature("wedsync: tenants")

HERE = Path(__file__).parent
OWN = "d1000000-0000-4000-8000-000000000001"
OTHER = "d1000000-0000-4000-8000-000000000002"
COUPLE = "d2000000-0000-4000-8000-000000000001"
OTHER_COUPLE = "d2000000-0000-4000-8000-000000000002"
TENANT_TABLES = (
    "suppliers",
    "couples",
    "clients",
    "form_responses",
    "journey_progress",
    "core_fields",
    "wedding_details",
)
JOIN_DEADLINE_S = 60.0


@pytest.fixture
async def _rows(sql: Sql) -> None:
    """Fill every tenant table for both pairs."""
    for supplier, couple in ((OWN, COUPLE), (OTHER, OTHER_COUPLE)):
        await sql.execute(
            f"""
            insert into public.form_responses (supplier_id, couple_id)
              values ('{supplier}', '{couple}');
            insert into public.journey_progress (supplier_id, couple_id, milestone)
              values ('{supplier}', '{couple}', 'm');
            insert into public.core_fields (couple_id, field_key, field_value)
              values ('{couple}', 'date', '{couple}');
            insert into public.wedding_details (couple_id, venue)
              values ('{couple}', '{couple}');
            """
        )


@pytest.mark.requirement("WS-19")
async def test_seven_tables_keep_the_whole_old_row(sql: Sql) -> None:
    rows = await sql.fetch(
        "select relname from pg_class where relreplident = 'f'"
        " and relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"] for row in rows} == set(TENANT_TABLES)


@pytest.mark.requirement("WS-05", "WS-31")
async def test_what_is_published_has_policies(sql: Sql) -> None:
    rows = await sql.fetch(
        """
        select t.tablename, c.relrowsecurity
        from pg_publication_tables t
        join pg_namespace n on n.nspname = t.schemaname
        join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
        where t.pubname = 'supabase_realtime'
        """
    )
    assert {tuple(row) for row in rows} == {
        (table, True)
        for table in (
            "clients",
            "core_fields",
            "form_responses",
            "journey_progress",
            "wedding_details",
        )
    }


@pytest.mark.requirement("WS-20", "WS-21")
@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (
            "realtime_subscriptions",
            {
                "id": ("uuid", True),
                "user_id": ("uuid", True),
                "supplier_id": ("uuid", False),
                "channel_id": ("text", True),
                "channel_name": ("text", True),
                "table_name": ("text", True),
                "filter_params": ("jsonb", True),
                "active": ("boolean", True),
                "created_at": ("timestamp with time zone", True),
                "last_ping_at": ("timestamp with time zone", True),
            },
        ),
        (
            "realtime_activity_logs",
            {
                "id": ("uuid", True),
                "user_id": ("uuid", False),
                "actor_id": ("uuid", True),
                "channel_id": ("text", True),
                "event_type": ("text", True),
                "event_count": ("integer", True),
                "payload": ("jsonb", False),
                "timestamp": ("timestamp with time zone", True),
            },
        ),
    ],
)
async def test_the_bookkeeping_tables_have_the_declared_columns(
    table: str, columns: dict[str, tuple[str, bool]], sql: Sql
) -> None:
    rows = await sql.fetch(
        "select attname, format_type(atttypid, atttypmod), attnotnull"
        " from pg_attribute where attrelid = format('public.%I', $1::text)::regclass"
        " and attnum > 0 and not attisdropped",
        table,
    )
    assert {row[0]: (row[1], row[2]) for row in rows} == columns


@pytest.mark.requirement("WS-20")
@pytest.mark.parametrize(
    "change",
    [
        "channel_name = 'auth.users'",
        "filter_params = '[]'",
        "filter_params = '\"x\"'",
        "user_id = 'd0000000-0000-4000-8000-0000000000ff'",
        "channel_id = 'other'",
    ],
)
async def test_a_broken_record_is_refused(
    change: str, people: Guests, sql: Sql
) -> None:
    await sql.executemany(
        "insert into public.realtime_subscriptions"
        " (user_id, channel_id, channel_name, table_name)"
        " values ($1::text::uuid, $2, 'form-responses', 'form_responses')",
        [(people.sam.id, "one"), (people.sam.id, "other")],
    )
    with pytest.raises(Exception, match="violates"):
        await sql.execute(
            f"update public.realtime_subscriptions set {change}"
            " where channel_id = 'one'"
        )


@pytest.mark.requirement("WS-22")
async def test_the_five_indexes_exist_and_are_used(sql: Sql) -> None:
    rows = await sql.fetch("select indexname, indexdef from pg_indexes")
    indexes = {row["indexname"]: row["indexdef"] for row in rows}
    for name in (
        "idx_realtime_subs_user",
        "idx_realtime_subs_channel",
        "idx_realtime_subs_active",
        "idx_activity_logs_user",
        "idx_activity_logs_timestamp",
    ):
        assert name in indexes
    assert indexes["idx_realtime_subs_active"].endswith("WHERE (active = true)")
    await sql.execute("set enable_seqscan = off")
    for table, condition in (
        ("realtime_subscriptions", "user_id = gen_random_uuid()"),
        ("realtime_subscriptions", "channel_name = 'form-responses'"),
        ("realtime_subscriptions", "active = true"),
        ("realtime_activity_logs", "timestamp > now()"),
    ):
        plan = await sql.fetch(f"explain select from public.{table} where {condition}")
        assert "Index" in "\n".join(row[0] for row in plan)


@pytest.mark.requirement("WS-23", "WS-09")
async def test_users_read_their_own_bookkeeping_and_write_none(
    people: Guests, as_persona: AsPersona, sql: Sql
) -> None:
    for guest in (people.sam, people.sue):
        await sql.execute(
            "insert into public.realtime_subscriptions"
            " (user_id, channel_id, channel_name, table_name)"
            " values ($1::text::uuid, $1, 'form-responses', 'form_responses')",
            guest.id,
        )
        await sql.execute(
            "insert into public.realtime_activity_logs"
            " (user_id, actor_id, channel_id, event_type)"
            " values ($1::text::uuid, $1::text::uuid, $1, 'SUBSCRIBE')",
            guest.id,
        )
    client = await as_persona(people.sam.persona)
    for table, forged in (
        (
            "realtime_subscriptions",
            {"channel_id": "x", "channel_name": "form-responses", "table_name": "x"},
        ),
        ("realtime_activity_logs", {"channel_id": "x", "event_type": "SUBSCRIBE"}),
    ):
        seen: Any = (await client.table(table).select("user_id").execute()).data
        assert seen == [{"user_id": people.sam.id}]
        mine = client.table(table)
        for attempt in (
            mine.insert({**forged, "user_id": people.sam.id}),
            mine.update({"channel_id": "y"}).eq("user_id", people.sam.id),
            mine.delete().eq("user_id", people.sam.id),
        ):
            with pytest.raises(APIError) as refused:
                await attempt.execute()
            assert refused.value.code == "42501"


@pytest.mark.requirement("WS-05", "WS-32")
@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_both_sides_of_a_wedding_see_it_and_nobody_else(
    table: str, people: Guests, project: Project, as_persona: AsPersona, sql: Sql
) -> None:
    async def seen(guest: Guest) -> set[str]:
        client = await as_persona(guest.persona)
        rows: Any = (await client.table(table).select("id").execute()).data
        return {row["id"] for row in rows}

    everything = await sql.fetchval(
        f"select array_agg(id::text order by id) from public.{table}"
    )
    assert len(everything) == 2
    sam, sue, cleo, carl, nobody = [
        await seen(people.named(name))
        for name in ("sam", "sue", "cleo", "carl", "nobody")
    ]
    assert (sam, sue) == (cleo, carl)
    assert sam | sue == set(everything)
    assert not sam & sue
    assert nobody == set()
    anon = await as_persona(project.anon)
    with pytest.raises(APIError) as refused:
        await anon.table(table).select("id").execute()
    assert refused.value.code == "42501"


@pytest.mark.requirement("WS-05", "WS-32")
async def test_nobody_makes_themselves_another_tenant(
    people: Guests, as_persona: AsPersona
) -> None:
    client = await as_persona(people.sue.persona)
    profile = client.table("user_profiles")
    for change in ({"supplier_id": OWN}, {"user_type": "admin"}, {"couple_id": COUPLE}):
        with pytest.raises(APIError) as refused:
            await profile.update(change).eq("id", people.sue.id).execute()
        assert refused.value.code == "42501"
    link = {"supplier_id": OTHER, "couple_id": COUPLE}
    with pytest.raises(APIError) as refused:
        await client.table("clients").insert(link).execute()
    assert refused.value.code == "42501"
    for table in ("journey_progress", "form_responses"):
        row: dict[str, Any] = {**link}
        if table == "journey_progress":
            row["milestone"] = "planted"
        with pytest.raises(APIError) as refused:
            await client.table(table).insert(row).execute()
        assert refused.value.code == "42501"


@pytest.mark.requirement("WS-05")
async def test_each_side_writes_what_is_its_own(
    people: Guests, as_persona: AsPersona
) -> None:
    sam, cleo = [await as_persona(g.persona) for g in (people.sam, people.cleo)]
    pair = {"supplier_id": OWN, "couple_id": COUPLE}
    await cleo.table("form_responses").insert({**pair, "answers": {"a": 1}}).execute()
    await sam.table("journey_progress").insert({**pair, "milestone": "m"}).execute()
    await (
        cleo.table("core_fields")
        .insert({"couple_id": COUPLE, "field_key": "date", "field_value": "1 May"})
        .execute()
    )
    read: Any = (await sam.table("core_fields").select("field_value").execute()).data
    assert read == [{"field_value": "1 May"}]
    with pytest.raises(APIError):
        await sam.table("form_responses").insert(pair).execute()
    changed: Any = (
        await sam.table("core_fields")
        .update({"field_value": "2 May"})
        .eq("couple_id", COUPLE)
        .execute()
    ).data
    assert changed == []


@pytest.mark.slow
@pytest.mark.requirement("WS-30", "WS-32", "WS-05", "HX-05")
@pytest.mark.parametrize("sockets", [200, 250, 400])
async def test_every_socket_of_a_supplier_gets_every_event_once(
    sockets: int, people: Guests, project: Project, sql: Sql
) -> None:
    events = 10
    received: list[Counter[str]] = [Counter() for _ in range(sockets)]
    strangers: Counter[str] = Counter()
    async with asyncio.TaskGroup() as tasks:
        stop = asyncio.Event()
        joined = [asyncio.Event() for _ in range(sockets + 1)]
        for number in range(sockets):
            tasks.create_task(
                _listen(
                    project, people.sam, OWN, received[number], joined[number], stop
                )
            )
        tasks.create_task(
            _listen(project, people.sue, OWN, strangers, joined[-1], stop)
        )
        async with asyncio.timeout(JOIN_DEADLINE_S):
            await asyncio.gather(*(event.wait() for event in joined))
        ids = [
            str(
                await sql.fetchval(
                    "insert into public.form_responses (supplier_id, couple_id)"
                    " values ($1::text::uuid, $2::text::uuid) returning id",
                    supplier,
                    couple,
                )
            )
            for supplier, couple in [(OTHER, OTHER_COUPLE), (OWN, COUPLE)] * events
        ]
        expected = Counter(ids[1::2])
        async with asyncio.timeout(30):
            while any(seen != expected for seen in received):
                if any(seen - expected for seen in received):
                    break
                await asyncio.sleep(0.05)
        stop.set()
    assert all(seen == expected for seen in received)
    assert strangers == Counter()


async def _listen(
    project: Project,
    guest: Guest,
    supplier: str,
    seen: Counter[str],
    joined: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Follow one supplier's form responses on a socket of its own."""
    url = project.url.replace("http", "ws", 1) + "/realtime/v1/websocket"
    change = {
        "event": "*",
        "schema": "public",
        "table": "form_responses",
        "filter": f"supplier_id=eq.{supplier}",
    }
    join = {
        "topic": "realtime:load",
        "event": "phx_join",
        "ref": "1",
        "payload": {
            "config": {"postgres_changes": [change]},
            "access_token": guest.token,
        },
    }
    where = f"{url}?apikey={project.anon_key}&vsn=1.0.0"
    async with websockets.connect(where, open_timeout=30) as socket:
        await socket.send(json.dumps(join))

        async def read() -> None:
            async for text in socket:
                message = json.loads(text)
                if message["event"] == "system":
                    joined.set()
                elif message["event"] == "postgres_changes":
                    seen[message["payload"]["data"]["record"]["id"]] += 1

        reader = asyncio.create_task(read())
        await stop.wait()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@pytest.mark.requirement("WS-01")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("subscription_manager", "RealtimeSubscriptionManager"),
        ("connection_monitor", "RealtimeConnectionMonitor"),
        ("web", "make_app"),
        ("channels", "Channel"),
        ("settings", "Settings"),
    ],
)
def test_the_parts_exist_and_are_exported(module: str, name: str) -> None:
    found = importlib.import_module(f"scenarios.wedsync.{module}")
    assert name in found.__all__
    assert getattr(found, name).__doc__


@pytest.mark.requirement("WS-38")
@pytest.mark.parametrize("missing", ["URL", "ANON_KEY", "SERVICE_ROLE_KEY"])
def test_a_missing_setting_fails_at_the_start(missing: str) -> None:
    environ = {
        "NEXT_PUBLIC_SUPABASE_URL": "https://x.test",
        "NEXT_PUBLIC_SUPABASE_ANON_KEY": "anon",
        "SUPABASE_SERVICE_ROLE_KEY": "service",
    }
    assert Settings.from_environment(environ).service_key == "service"
    name = next(name for name in environ if name.endswith(missing))
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**environ, name: ""})
    with pytest.raises(SettingsError, match="HTTP URL"):
        Settings.from_environment({**environ, "NEXT_PUBLIC_SUPABASE_URL": "x"})


@pytest.mark.requirement("WS-02")
def test_every_function_says_its_types() -> None:
    untyped = []
    for path in sorted(HERE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = [*node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None]
            if node.returns is None or set(bare) - {"self", "cls"}:
                untyped.append(f"{path.name}: {node.name}")
    assert untyped == []


@pytest.mark.requirement("WS-37")
def test_a_run_leaves_evidence_of_this_test(request: pytest.FixtureRequest) -> None:
    evidence = {"suite": "wedsync", "test": request.node.name}
    allure.attach(
        json.dumps(evidence), "evidence", allure.attachment_type.JSON, extension="json"
    )
    ids = [str(i) for m in request.node.iter_markers("requirement") for i in m.args]
    assert ("requirements", ",".join(ids)) in request.node.user_properties
