"""Channels, broadcasts and published tables: every event reaches who may see it."""

from __future__ import annotations

import json

import allure
import pytest
from postgrest.exceptions import APIError

from harness.stack.project import Persona
from scenarios.climber.cast import Cast
from scenarios.climber.training import SubscriptionRefusedError, TrainingFeed
from scenarios.fixtures import AsPersona, Sql
from scenarios.listening import Listener, listen_to_table

pytestmark = allure.feature("climber: live training")

PUBLISHED = {
    "user_profiles",
    "training_plans",
    "training_sessions",
    "wearable_data",
    "readiness_scores",
    "video_content",
    "content_analytics",
}
EVENT_TYPES = {
    "user_profiles": {"UPDATE"},
    "training_plans": {"INSERT", "UPDATE", "DELETE"},
    "training_sessions": {"INSERT", "UPDATE", "DELETE"},
    "wearable_data": {"INSERT"},
    "readiness_scores": {"INSERT", "UPDATE"},
    "video_content": {"INSERT", "UPDATE"},
    "content_analytics": {"INSERT"},
}
NEW_ROW = {
    "wearable_data": "(user_id, metric, value) values ('{id}', 'heart_rate', 60)",
    "readiness_scores": "(user_id, score) values ('{id}', 50)",
    "training_plans": "(user_id, title) values ('{id}', 'Eiger')",
    "video_content": "(owner_user_id, title, storage_path)"
    " values ('{id}', 'v', '{id}')",
}


@pytest.fixture
async def feed(people: Cast, as_persona: AsPersona) -> TrainingFeed:
    """Return the feed of ana."""
    return TrainingFeed(await as_persona(people.ana), people.ana.id)


@pytest.fixture
async def session_id(people: Cast, sql: Sql) -> str:
    """Return a training session of ana."""
    plan = await sql.fetchval(
        "insert into public.training_plans (user_id, title)"
        " values ($1::text::uuid, 'Eiger') returning id",
        people.ana.id,
    )
    session = await sql.fetchval(
        "insert into public.training_sessions (plan_id) values ($1) returning id", plan
    )
    return str(session)


@pytest.mark.requirement("CL-20")
async def test_exactly_the_seven_tables_are_published(sql: Sql) -> None:
    rows = await sql.fetch(
        "select tablename from pg_publication_tables"
        " where pubname = 'supabase_realtime' and schemaname = 'public'"
    )
    assert {row["tablename"] for row in rows} == PUBLISHED


@pytest.mark.requirement("CL-20", "CL-41", "CL-36")
@pytest.mark.parametrize("table", sorted(NEW_ROW))
async def test_a_new_row_reaches_its_owner_and_nobody_else(
    table: str, people: Cast, as_persona: AsPersona, sql: Sql
) -> None:
    ana = await listen_to_table(await as_persona(people.ana), table)
    ben = await listen_to_table(await as_persona(people.ben), table)
    anon = await listen_to_table(await as_persona(people.anon), table)
    owner = "owner_user_id" if table == "video_content" else "user_id"
    # Changes arrive in commit order: once ben has his own row, ana's would be there.
    for who in (people.ana, people.ben):
        row = NEW_ROW[table].format(id=who.id)
        await sql.execute(f"insert into public.{table} {row}")
    await ana.first(lambda m: m["data"]["record"][owner] == people.ana.id)
    await ben.first(lambda m: m["data"]["record"][owner] == people.ben.id)
    assert [r["record"][owner] for r in ana.rows(table)] == [people.ana.id]
    assert [r["record"][owner] for r in ben.rows(table)] == [people.ben.id]
    assert anon.rows(table) == []


@pytest.mark.requirement("CL-20", "CL-41")
async def test_a_deletion_is_heard_by_who_could_see_the_row(
    people: Cast, as_persona: AsPersona, sql: Sql
) -> None:
    for who in (people.ana, people.ben):
        await sql.execute(
            "insert into public.wearable_data (user_id, metric, value)"
            " values ($1::text::uuid, 'heart_rate', 60)",
            who.id,
        )
    ben = await listen_to_table(await as_persona(people.ben), "wearable_data")
    await sql.execute(
        "delete from public.wearable_data where user_id = $1::text::uuid", people.ana.id
    )
    await sql.execute(
        "delete from public.wearable_data where user_id = $1::text::uuid", people.ben.id
    )
    await ben.first(lambda m: m["data"]["type"] == "DELETE")
    assert len(ben.rows("wearable_data")) == 1


@pytest.mark.requirement("CL-22")
async def test_the_default_channels_are_declared(sql: Sql) -> None:
    rows = await sql.fetch(
        "select channel_name, table_name, event_types, is_active"
        " from public.realtime_channels"
    )
    assert {r["channel_name"]: set(r["event_types"]) for r in rows} == EVENT_TYPES
    assert all(r["table_name"] == r["channel_name"] and r["is_active"] for r in rows)


@pytest.mark.requirement("CL-22", "CL-23")
async def test_a_channel_delivers_its_event_types_and_no_other(
    feed: TrainingFeed, people: Cast, sql: Sql
) -> None:
    listener = Listener()
    await feed.follow_own_rows(listener)
    await _change_everything(sql, people.ana)
    await sql.execute(
        "insert into public.training_plans (user_id, title)"
        " values ($1::text::uuid, 'the last')",
        people.ana.id,
    )
    await listener.first(lambda m: _record(m).get("title") == "the last")
    heard = {(_payload(m)["table"], m["event"]) for m in listener.messages}
    assert heard == {
        (table, event) for table, events in EVENT_TYPES.items() for event in events
    }


@pytest.mark.requirement("CL-22")
@pytest.mark.parametrize("closed", ["wearable_data", "user_{id}"])
async def test_a_channel_that_is_not_active_delivers_nothing(
    closed: str, feed: TrainingFeed, people: Cast, sql: Sql
) -> None:
    own, training = Listener(), Listener()
    await feed.follow_own_rows(own)
    await feed.follow_training(training)
    await sql.execute(
        "update public.realtime_channels set is_active = false where channel_name = $1",
        closed.format(id=people.ana.id),
    )
    await sql.execute(
        "insert into public.wearable_data (user_id, metric, value)"
        " values ($1::text::uuid, 'heart_rate', 60)",
        people.ana.id,
    )
    await sql.execute(
        "insert into public.training_plans (user_id, title)"
        " values ($1::text::uuid, 'the last')",
        people.ana.id,
    )
    await training.first(lambda m: _record(m).get("title") == "the last")
    assert [m for m in own.messages if _payload(m)["table"] == "wearable_data"] == []


@pytest.mark.requirement("CL-23", "CL-24", "CL-35")
@pytest.mark.parametrize(
    ("function", "prefix", "table"),
    [
        ("subscribe_to_user_channel", "user_", "user_profiles"),
        ("subscribe_to_training_updates", "training_", "training_sessions"),
    ],
)
async def test_subscribing_twice_gives_one_channel_on_a_real_table(
    function: str,
    prefix: str,
    table: str,
    people: Cast,
    as_persona: AsPersona,
    sql: Sql,
) -> None:
    client = await as_persona(people.ana)
    call = client.rpc(function, {"user_id": people.ana.id})
    assert (await call.execute()).data == f"{prefix}{people.ana.id}"
    assert (await call.execute()).data == f"{prefix}{people.ana.id}"
    rows = await sql.fetch(
        "select table_name, to_regclass('public.' || table_name) is not null as is_real"
        " from public.realtime_channels where channel_name like $1",
        f"{prefix}%{people.ana.id}",
    )
    assert [tuple(row) for row in rows] == [(table, True)]


@pytest.mark.requirement("CL-23", "CL-24", "CL-25", "CL-40")
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("subscribe_to_user_channel", {"user_id": "{ben}"}),
        ("subscribe_to_training_updates", {"user_id": "{ben}"}),
        ("subscribe_to_user_channel", {"user_id": None}),
        (
            "broadcast_training_update",
            {"p_user_id": "{ben}", "p_session_id": "{ben}", "p_update_type": "x"},
        ),
    ],
)
@pytest.mark.parametrize("caller", ["anon", "ana"])
async def test_nobody_uses_the_channels_of_another(
    caller: str,
    function: str,
    arguments: dict[str, str | None],
    people: Cast,
    as_persona: AsPersona,
    sql: Sql,
) -> None:
    client = await as_persona(people.named(caller))
    given = {k: v and v.format(ben=people.ben.id) for k, v in arguments.items()}
    with pytest.raises(APIError) as refused:
        await client.rpc(function, given).execute()
    assert refused.value.code in ("42501", "22004")
    assert await sql.fetchval("select count(*) from public.realtime_channels") == 7


@pytest.mark.requirement("CL-40")
@pytest.mark.parametrize("topic", ["user_{ben}", "training_{ben}", "anything"])
async def test_a_private_topic_of_another_cannot_be_joined(
    topic: str, feed: TrainingFeed, people: Cast
) -> None:
    with pytest.raises(SubscriptionRefusedError):
        await feed.join(topic.format(ben=people.ben.id), Listener())


@pytest.mark.requirement("CL-40")
async def test_the_table_of_channels_is_read_only_and_shows_own_channels(
    people: Cast, as_persona: AsPersona
) -> None:
    ben, ana = await as_persona(people.ben), await as_persona(people.ana)
    await ben.rpc("subscribe_to_user_channel", {"user_id": people.ben.id}).execute()
    seen = (await ana.table("realtime_channels").select("channel_name").execute()).data
    assert {row["channel_name"] for row in _rows(seen)} == PUBLISHED
    anon = await as_persona(people.anon)
    for client in (ana, anon):
        table = client.table("realtime_channels")
        for attempt in (
            table.insert({"channel_name": "mine"}),
            table.update({"is_active": False}).neq("channel_name", ""),
            table.delete().neq("channel_name", ""),
        ):
            with pytest.raises(APIError) as refused:
                await attempt.execute()
            assert refused.value.code == "42501"


@pytest.mark.requirement("CL-25")
async def test_an_announcement_reaches_the_own_devices_exactly_once(
    feed: TrainingFeed, session_id: str, people: Cast
) -> None:
    listener = Listener()
    await feed.follow_training(listener)
    assert await feed.announce(session_id, "session_started") is True
    assert await feed.announce(session_id, "session_ended") is True
    await listener.first(lambda m: _payload(m)["update_type"] == "session_ended")
    assert [(m["event"], _payload(m)["update_type"]) for m in listener.messages] == [
        ("training_update", "session_started"),
        ("training_update", "session_ended"),
    ]
    assert _payload(listener.messages[0])["session_id"] == session_id


@pytest.mark.requirement("CL-25")
async def test_an_announcement_of_an_unknown_session_is_not_sent(
    feed: TrainingFeed, people: Cast, session_id: str, sql: Sql
) -> None:
    assert await feed.announce(people.ana.id, "session_started") is False
    await sql.execute(
        "update public.training_plans set user_id = $1::text::uuid", people.ben.id
    )
    assert await feed.announce(session_id, "session_started") is False


@pytest.mark.requirement("CL-25", "CL-22")
async def test_an_announcement_on_a_closed_channel_is_not_sent(
    feed: TrainingFeed, session_id: str, sql: Sql
) -> None:
    channel = await feed.follow_training(Listener())
    await sql.execute(
        "update public.realtime_channels set is_active = false where channel_name = $1",
        channel,
    )
    assert await feed.announce(session_id, "session_started") is False


@pytest.mark.requirement("CL-22")
async def test_published_videos_are_announced_to_everybody_signed_in(
    people: Cast, as_persona: AsPersona, sql: Sql
) -> None:
    listener = Listener()
    await TrainingFeed(await as_persona(people.ben), people.ben.id).follow_videos(
        listener
    )
    await sql.execute(
        "insert into public.video_content (owner_user_id, title, storage_path)"
        " values ($1::text::uuid, 'secret working title', 'v.mp4')",
        people.premium.id,
    )
    await sql.execute(
        "update public.video_content set title = 'North face', is_published = true"
    )
    message = await listener.first(lambda m: _record(m)["title"] == "North face")
    assert _payload(message)["old_record"] is None
    assert "secret" not in json.dumps(listener.messages)


async def _change_everything(sql: Sql, persona: Persona) -> None:
    """Insert, update and delete a row of each published table."""
    await sql.execute(
        f"""
        do $$
        declare
          ana uuid := '{persona.id}';
          video uuid;
          plan uuid;
        begin
          update public.user_profiles set display_name = 'Ana' where id = ana;
          insert into public.training_plans (user_id, title) values (ana, 'p')
            returning id into plan;
          insert into public.training_sessions (plan_id) values (plan);
          update public.training_sessions set status = 'active' where plan_id = plan;
          delete from public.training_sessions where plan_id = plan;
          update public.training_plans set title = 'q' where id = plan;
          delete from public.training_plans where id = plan;
          insert into public.wearable_data (user_id, metric, value)
            values (ana, 'm', 1);
          update public.wearable_data set value = 2 where user_id = ana;
          delete from public.wearable_data where user_id = ana;
          insert into public.readiness_scores (user_id, score) values (ana, 1);
          update public.readiness_scores set score = 2 where user_id = ana;
          delete from public.readiness_scores where user_id = ana;
          insert into public.video_content (owner_user_id, title, storage_path)
            values (ana, 'v', 'v.mp4') returning id into video;
          update public.video_content set title = 'w' where id = video;
          insert into public.content_analytics (content_id, user_id, event)
            values (video, ana, 'view');
          update public.content_analytics set event = 'start' where user_id = ana;
          delete from public.content_analytics where user_id = ana;
          delete from public.video_content where id = video;
        end;
        $$
        """
    )


def _payload(message: object) -> dict[str, object]:
    assert isinstance(message, dict)
    payload: dict[str, object] = message["payload"]
    return payload


def _record(message: object) -> dict[str, object]:
    record = _payload(message).get("record") or {}
    assert isinstance(record, dict)
    return record


def _rows(data: object) -> list[dict[str, object]]:
    assert isinstance(data, list)
    return data
