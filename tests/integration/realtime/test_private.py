"""Private channels: what policies on realtime.messages allow, and when it changes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.integration.realtime.conftest import Serve
from tests.integration.realtime.server import RealtimeServer
from tests.integration.realtime.wire import TIMEOUT_S, Wire

ALICE = "11111111-1111-1111-1111-111111111111"
BOB = "22222222-2222-2222-2222-222222222222"
TOPIC = "realtime:club"
PRIVATE = {"private": True, "broadcast": {"ack": True}}
MEMBERS = (
    "create table public.members (user_id uuid, topic text, may_write boolean)",
    "grant select on public.members to authenticated",
    f"insert into public.members values ('{ALICE}', 'club', true)",
    f"insert into public.members values ('{BOB}', 'club', false)",
    """create policy hear on realtime.messages for select to authenticated using (
        exists (select from public.members m
            where m.user_id = auth.uid() and m.topic = realtime.topic()))""",
    """create policy speak on realtime.messages for insert to authenticated with check (
        extension in ('broadcast', 'presence') and exists (
            select from public.members m where m.may_write
                and m.user_id = auth.uid() and m.topic = realtime.topic()))""",
)
SHOUT = {"type": "broadcast", "event": "shout", "payload": {}}


def refusal(reply: Any) -> str:
    assert reply["status"] == "error", reply
    return str(reply["response"]["reason"])


@pytest.fixture
async def club(server: RealtimeServer) -> RealtimeServer:
    """Serve a project where Alice may write to a topic and Bob may read it."""
    await server.sql(*MEMBERS)
    return server


async def test_without_policies_nobody_joins(server: RealtimeServer) -> None:
    async with Wire(server, server.token(sub=ALICE)) as wire:
        reply = await wire.ask(TOPIC, "phx_join", {"config": {"private": True}})
        assert refusal(reply) == (
            "Unauthorized: You do not have permissions to read from this Channel"
            " topic: club"
        )


async def test_readers_hear_and_only_writers_are_heard(club: RealtimeServer) -> None:
    alice, bob = club.token(sub=ALICE), club.token(sub=BOB)
    async with Wire(club, alice) as hers, Wire(club, bob) as his, Wire(club) as anon:
        await hers.join(TOPIC, **PRIVATE)
        await his.join(TOPIC, **PRIVATE)
        reply = await anon.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refusal(reply).startswith("Unauthorized")
        await his.send(TOPIC, "broadcast", SHOUT)
        # No reply tells Bob that he was not heard.
        assert await his.settle() == []
        reply = await hers.ask(TOPIC, "broadcast", SHOUT)
        assert reply["status"] == "ok"
        assert (await his.expect(event="broadcast")).payload == SHOUT
        assert [m for m in await hers.settle() if m[3] == "broadcast"] == []


async def test_public_and_private_topics_are_disjoint(club: RealtimeServer) -> None:
    async with Wire(club, club.token(sub=ALICE)) as private, Wire(club) as public:
        await private.join(TOPIC, **PRIVATE)
        await public.join(TOPIC, broadcast={"ack": True})
        await private.ask(TOPIC, "broadcast", SHOUT)
        await public.ask(TOPIC, "broadcast", SHOUT)
        assert await public.settle() == []
        assert await private.settle() == []


async def test_topic_decides_as_well(club: RealtimeServer) -> None:
    async with Wire(club, club.token(sub=ALICE)) as wire:
        reply = await wire.ask("realtime:other", "phx_join", {"config": PRIVATE})
        assert refusal(reply).endswith("topic: other")
        await wire.join(TOPIC, **PRIVATE)


async def test_policy_that_raises_allows_nothing(server: RealtimeServer) -> None:
    await server.sql(
        "create policy broken on realtime.messages for select using (1 / 0 = 1)"
    )
    async with Wire(server, server.token()) as wire:
        reply = await wire.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refusal(reply).startswith("Unauthorized")


async def test_unknown_role_is_unauthorized(club: RealtimeServer) -> None:
    async with Wire(club, club.token("nobody_knows_me")) as wire:
        reply = await wire.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refusal(reply).startswith("Unauthorized")


@pytest.fixture
async def stranger(server: RealtimeServer) -> AsyncIterator[str]:
    """Make a role, for all to use but not for tokens to name."""
    role = f"stranger_{secrets.token_hex(4)}"
    await server.sql(
        f"create role {role}",
        f"grant authenticated to {role}",
        "create policy open on realtime.messages to public"
        " using (true) with check (true)",
    )
    yield role
    await server.sql(f"drop owned by {role}", f"drop role {role}")


async def test_role_that_authenticator_may_not_become_is_unauthorized(
    server: RealtimeServer, stranger: str
) -> None:
    async with Wire(server, server.token(stranger)) as wire:
        reply = await wire.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refusal(reply).startswith("Unauthorized")
        await server.sql(f"grant {stranger} to authenticator")
        await wire.join(TOPIC, **PRIVATE)
        assert (await wire.ask(TOPIC, "broadcast", SHOUT))["status"] == "ok"


async def test_role_that_authenticator_may_not_become_sends_nothing_over_http(
    server: RealtimeServer, stranger: str
) -> None:
    async with Wire(server, server.token()) as wire:
        await wire.join(TOPIC, **PRIVATE)
        async with httpx.AsyncClient() as http:
            url = f"{server.http_url}/api/broadcast/club/events/shout?private=true"
            answer = await http.post(
                url,
                json={},
                headers={"authorization": f"Bearer {server.token(stranger)}"},
            )
        assert answer.status_code == 403
        assert await wire.settle() == []


async def test_policies_see_claims_headers_topic_and_extension(
    server: RealtimeServer,
) -> None:
    await server.sql(
        """create policy picky on realtime.messages for select using (
            realtime.topic() = 'club' and topic = 'club' and extension = 'broadcast'
            and event is null and payload is null
            and auth.jwt() ->> 'color' = 'blue'
            and current_setting('request.jwt.claim.role') = 'authenticated'
            and current_setting('request.headers')::json ->> 'x-tier' = 'gold')"""
    )
    from websockets.asyncio.client import connect

    token = server.token(color="blue", sub=ALICE)
    url = f"{server.url}/websocket?apikey={token}&vsn=2.0.0"
    join = '["1","1","realtime:club","phx_join",{"config":{"private":true}}]'
    async with (
        asyncio.timeout(TIMEOUT_S),
        connect(url, additional_headers={"X-Tier": "gold"}) as socket,
    ):
        await socket.send(join)
        assert '"status":"ok"' in str(await socket.recv())


async def test_probe_rows_never_stay(club: RealtimeServer) -> None:
    async with Wire(club, club.token(sub=ALICE)) as wire:
        await wire.join(TOPIC, **PRIVATE)
        await wire.ask(TOPIC, "broadcast", SHOUT)
    await club.sql(
        "do $$ begin assert not exists (select from realtime.messages); end $$"
    )


async def test_presence_only_readers_join_but_hear_no_broadcast(
    server: RealtimeServer,
) -> None:
    await server.sql(
        """create policy hear on realtime.messages for select to authenticated
            using (extension = 'presence')""",
        "create policy speak on realtime.messages for insert to authenticated"
        " with check (true)",
    )
    config = {**PRIVATE, "presence": {"enabled": True, "key": "k"}}
    async with Wire(server, server.token(sub=ALICE)) as wire:
        reply = await wire.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refusal(reply).startswith("Unauthorized")
        await wire.join(TOPIC, **config)
        async with Wire(server, server.token(sub=BOB)) as other:
            await other.join(TOPIC, **config)
            await other.ask(TOPIC, "broadcast", SHOUT)
            reply = await other.ask(TOPIC, "presence", {"event": "track"})
            assert reply["status"] == "ok"
        await wire.expect(event="presence_diff")
        assert [m for m in await wire.settle() if m[3] == "broadcast"] == []


async def test_tracking_without_permission_is_an_error(club: RealtimeServer) -> None:
    async with Wire(club, club.token(sub=BOB)) as wire:
        await wire.join(TOPIC, **PRIVATE, presence={"enabled": True})
        reply = await wire.ask(TOPIC, "presence", {"event": "track"})
        assert reply == {"status": "error", "response": {}}


async def test_tracking_lets_a_private_channel_hear_presence(
    club: RealtimeServer,
) -> None:
    await club.sql("update members set may_write = true")
    async with (
        Wire(club, club.token(sub=ALICE)) as hers,
        Wire(club, club.token(sub=BOB)) as his,
    ):
        await hers.join(TOPIC, **PRIVATE)
        await his.join(TOPIC, **PRIVATE, presence={"enabled": True, "key": "bob"})
        await his.ask(TOPIC, "presence", {"event": "track"})
        assert await hers.settle() == []
        await hers.ask(TOPIC, "presence", {"event": "track"})
        await hers.expect(event="presence_diff")


# Tokens -------------------------------------------------------------------------------


async def test_refresh_with_less_rights_ends_the_channel(club: RealtimeServer) -> None:
    async with Wire(club, club.token(sub=ALICE)) as wire:
        await wire.join(TOPIC, **PRIVATE)
        stranger = club.token(sub="33333333-3333-3333-3333-333333333333")
        await wire.send(TOPIC, "access_token", {"access_token": stranger})
        system = await wire.expect(event="system")
        assert system.payload["message"] == (
            "You no longer have permission to read from this Channel topic: club"
        )
        await wire.expect(event="phx_close")


async def test_refresh_asks_again_what_may_be_written(club: RealtimeServer) -> None:
    async with Wire(club, club.token(sub=ALICE)) as wire:
        await wire.join(TOPIC, **PRIVATE)
        assert (await wire.ask(TOPIC, "broadcast", SHOUT))["status"] == "ok"
        bob = club.token(sub=BOB)
        await wire.send(TOPIC, "access_token", {"access_token": bob})
        await wire.send(TOPIC, "broadcast", SHOUT)
        await wire.settle()
        alice = club.token(sub=ALICE, again=True)
        await wire.send(TOPIC, "access_token", {"access_token": alice})
        assert (await wire.ask(TOPIC, "broadcast", SHOUT))["status"] == "ok"
        # Of three broadcasts, the one as Bob had no answer.
        assert [m for m in await wire.settle() if m[3] == "phx_reply"] == []


@pytest.mark.parametrize("token", [None, "sb_publishable_x", 5, "same"])
async def test_tokens_that_change_nothing_are_ignored(
    server: RealtimeServer, token: Any
) -> None:
    own = server.token("anon")
    async with Wire(server, own) as wire:
        await wire.join(TOPIC)
        sent = own if token == "same" else token
        await wire.send(TOPIC, "access_token", {"access_token": sent})
        assert await wire.settle() == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("nonsense", "The token provided is not a valid JWT"),
        ("forged", ":signature_error"),
        ("expired", "Token has expired "),
        ("bare", "Fields `role` and `exp` are required in JWT"),
    ],
)
async def test_bad_token_ends_the_channel(
    server: RealtimeServer, token: str, message: str
) -> None:
    from harness.protocols.jwt import mint

    tokens = {
        "forged": mint({"role": "anon", "exp": time.time() + 9}, "f" * 40),
        "expired": server.token("anon", exp=1),
        "bare": mint({"role": "anon"}, server.keys.jwt_secret),
    }
    async with Wire(server) as wire:
        await wire.join(TOPIC)
        sent = tokens.get(token, token)
        await wire.send(TOPIC, "access_token", {"access_token": sent})
        system = await wire.expect(event="system")
        assert system.payload["status"] == "error"
        assert system.payload["message"].startswith(message)
        await wire.expect(event="phx_close")


async def test_token_that_runs_out_ends_the_channel(server: RealtimeServer) -> None:
    token = server.token("anon", exp=int(time.time()) + 1)
    async with Wire(server, token) as wire:
        await wire.join(TOPIC)
        system = await wire.expect(event="system")
        assert system.payload["message"].startswith("Token has expired ")
        await wire.expect(event="phx_close")


# HTTP and quotas ----------------------------------------------------------------------


async def test_http_broadcasts_obey_the_policies(club: RealtimeServer) -> None:
    async with (
        Wire(club, club.token(sub=BOB)) as wire,
        httpx.AsyncClient(base_url=club.http_url) as client,
    ):
        await wire.join(TOPIC, **PRIVATE)
        message = {"topic": "club", "event": "e", "payload": {"by": "x"}}
        for sub, statuses in ((BOB, (202, 403)), (ALICE, (202, 202))):
            headers = {"Authorization": f"Bearer {club.token(sub=sub)}"}
            message["payload"] = {"by": sub}
            batch = await client.post(
                "/api/broadcast",
                json={"messages": [{**message, "private": True}]},
                headers=headers,
            )
            single = await client.post(
                "/api/broadcast/club/events/e?private=true", json={}, headers=headers
            )
            assert (batch.status_code, single.status_code) == statuses
        heard = await wire.expect(event="broadcast")
        assert heard.payload["payload"] == {"by": ALICE}
        await wire.expect_binary()
        assert await wire.settle() == []


async def test_database_that_is_away_refuses_private_joins_only(
    serve: Serve, database: Any
) -> None:
    from dataclasses import replace

    from tests.integration.realtime.server import RealtimeServer as Server

    server = await serve()
    nowhere = replace(database, dbname="does_not_exist")
    async with (
        Server(nowhere, server.service.project.objects_dir) as lost,
        Wire(lost, lost.token(sub=ALICE)) as wire,
    ):
        reply = await wire.ask(TOPIC, "phx_join", {"config": PRIVATE})
        assert refusal(reply) == (
            "UnableToConnectToProject: Realtime was unable to connect to the"
            " project database"
        )
        await wire.join("realtime:public")
