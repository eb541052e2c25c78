"""The application by the official Python clients, blocking and asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import (
    AsyncClient,
    AsyncClientOptions,
    Client,
    ClientOptions,
    create_async_client,
    create_client,
)
from supabase_auth.errors import AuthApiError

from harness.stack.project import Project

pytestmark = pytest.mark.conformance

PASSWORD = "correct horse battery"
DEADLINE_S = 20.0
# The clients' types of JSON and of options are wider or narrower than what they take.
SignedUp = Callable[[str], Awaitable[Any]]
BlockingClient = Callable[[str], Any]


@pytest.fixture
async def signed_up(project: Project) -> AsyncIterator[SignedUp]:
    """Give a function that signs somebody up and returns their client."""
    async with contextlib.AsyncExitStack() as stack:

        async def sign_up(name: str) -> AsyncClient:
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
            client = await create_async_client(
                project.url,
                project.publishable_key,
                AsyncClientOptions(httpx_client=http),
            )
            stack.push_async_callback(client.realtime.close)
            stack.push_async_callback(client.remove_all_channels)
            await client.auth.sign_up(
                {
                    "email": f"{name}@example.test",
                    "password": PASSWORD,
                    "options": {"data": {"name": name}},
                }
            )
            return client

        yield sign_up


@pytest.fixture
def blocking_client(project: Project) -> Iterator[BlockingClient]:
    """Give a function that makes a blocking client with a key."""
    with contextlib.ExitStack() as stack:

        def make(key: str) -> Client:
            http = stack.enter_context(httpx.Client(timeout=20))
            return create_client(project.url, key, ClientOptions(httpx_client=http))

        yield make


async def own_id(client: Any) -> str:
    session = await client.auth.get_session()
    assert session is not None
    return str(session.user.id)


async def test_signing_up_makes_a_profile_that_members_see(
    signed_up: SignedUp,
) -> None:
    ada, eve = await signed_up("ada"), await signed_up("eve")
    profiles = await eve.table("profiles").select("id,name").order("name").execute()
    assert profiles.data == [
        {"id": await own_id(ada), "name": "ada"},
        {"id": await own_id(eve), "name": "eve"},
    ]
    await eve.auth.sign_out()
    nobody = await eve.table("profiles").select("*").execute()
    assert nobody.data == []


async def test_notes_are_seen_and_changed_by_whom_they_should(
    signed_up: SignedUp,
) -> None:
    ada, eve = await signed_up("ada"), await signed_up("eve")
    made = (
        await ada.table("notes")
        .insert(
            [{"title": "mine"}, {"title": "ours", "shared": True}],
            default_to_null=False,
        )
        .execute()
    )
    assert [note["owner"] for note in made.data] == [await own_id(ada)] * 2
    seen = await eve.table("notes").select("title, profiles(name)").execute()
    assert seen.data == [{"title": "ours", "profiles": {"name": "ada"}}]
    changed = (
        await eve.table("notes").update({"title": "hers"}).eq("shared", True).execute()
    )
    assert changed.data == []
    with pytest.raises(APIError) as refused:
        await (
            eve.table("notes")
            .insert({"title": "forged", "owner": await own_id(ada)})
            .execute()
        )
    assert refused.value.code == "42501"
    with pytest.raises(APIError) as refused:
        await ada.table("notes").insert({"title": ""}).execute()
    assert refused.value.code == "23514"
    counted = await ada.rpc("count_notes", {"only_shared": False}).execute()
    assert counted.data == 2
    assert (await eve.rpc("count_notes").execute()).data == 1


async def test_files_belong_to_their_owner_and_travel_by_signed_links(
    signed_up: SignedUp,
) -> None:
    ada, eve = await signed_up("ada"), await signed_up("eve")
    path = f"{await own_id(ada)}/plan.txt"
    files = ada.storage.from_("attachments")
    await files.upload(path, b"the plan", {"content-type": "text/plain"})
    await ada.table("notes").insert({"title": "plan", "attachment": path}).execute()
    assert await files.download(path) == b"the plan"
    assert [each["name"] for each in await files.list(await own_id(ada))] == [
        "plan.txt"
    ]
    with pytest.raises(StorageApiError):
        await eve.storage.from_("attachments").download(path)
    with pytest.raises(StorageApiError):
        await eve.storage.from_("attachments").upload(path + "2", b"x")
    link = await files.create_signed_url(path, 60)
    async with httpx.AsyncClient() as anybody:
        fetched = await anybody.get(link["signedURL"])
    assert (fetched.status_code, fetched.content) == (200, b"the plan")


async def test_changes_arrive_at_those_who_may_see_them(signed_up: SignedUp) -> None:
    ada, eve = await signed_up("ada"), await signed_up("eve")
    heard: asyncio.Queue[Any] = asyncio.Queue()
    joined = asyncio.Event()
    channel = eve.channel("notes")
    channel.on_postgres_changes("*", heard.put_nowait, schema="public", table="notes")
    await channel.subscribe(
        lambda status, _: joined.set() if status == "SUBSCRIBED" else None
    )
    async with asyncio.timeout(DEADLINE_S):
        await joined.wait()
        await ada.table("notes").insert({"title": "mine"}).execute()
        await ada.table("notes").insert({"title": "ours", "shared": True}).execute()
        first = await heard.get()
    # The note that was made before it is not hers to see.
    assert first["data"]["record"]["title"] == "ours"
    assert heard.empty()


async def test_members_speak_in_a_private_room(signed_up: SignedUp) -> None:
    ada, eve = await signed_up("ada"), await signed_up("eve")
    heard: asyncio.Queue[Any] = asyncio.Queue()
    rooms = []
    for client in (ada, eve):
        joined = asyncio.Event()
        room = client.channel("team", {"config": {"private": True}})
        room.on_broadcast("hello", heard.put_nowait)
        await room.subscribe(
            lambda status, _, joined=joined: (
                joined.set() if status == "SUBSCRIBED" else None
            )
        )
        async with asyncio.timeout(DEADLINE_S):
            await joined.wait()
        rooms.append(room)
    await rooms[0].send_broadcast("hello", {"from": "ada"})
    async with asyncio.timeout(DEADLINE_S):
        message = await heard.get()
    assert message["payload"] == {"from": "ada"}
    assert heard.empty()


def test_the_blocking_client_does_the_same(
    project: Project, blocking_client: BlockingClient
) -> None:
    client = blocking_client(project.anon_key)
    email = {"email": "ada@example.test", "password": PASSWORD}
    client.auth.sign_up({**email, "options": {"data": {"name": "ada"}}})
    client.auth.sign_out()
    with pytest.raises(AuthApiError) as refused:
        client.auth.sign_in_with_password({**email, "password": "wrong"})
    assert refused.value.code == "invalid_credentials"
    session = client.auth.sign_in_with_password(email).session
    assert session is not None
    made = client.table("notes").insert({"title": "first"}).execute()
    single = client.table("notes").select("*").eq("id", made.data[0]["id"]).single()
    assert single.execute().data["title"] == "first"
    path = f"{session.user.id}/a.txt"
    files = client.storage.from_("attachments")
    files.upload(path, b"bytes", {"content-type": "text/plain"})
    assert files.download(path) == b"bytes"
    files.remove([path])
    assert files.list(session.user.id) == []
    client.auth.sign_out()
    assert client.table("notes").select("*").execute().data == []


def test_the_secret_key_administers(
    project: Project, blocking_client: BlockingClient
) -> None:
    server = blocking_client(project.secret_key)
    created = server.auth.admin.create_user(
        {"email": "ada@example.test", "password": PASSWORD, "email_confirm": True}
    ).user
    assert [user.id for user in server.auth.admin.list_users()] == [created.id]
    assert len(server.table("profiles").select("*").execute().data) == 1
    server.auth.admin.delete_user(created.id)
    assert server.table("profiles").select("*").execute().data == []
