"""Signed URLs and the web interface: the owner listens, nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import allure
import httpx
import pytest
from aiohttp import web as aiohttp_web
from aiohttp.test_utils import TestServer

from scenarios.audiobook.audio_service import AudioService
from scenarios.audiobook.audio_store import (
    AudioRefusedError,
    LocalAudioStore,
    SupabaseAudioStore,
)
from scenarios.audiobook.narrators import Narrator
from scenarios.audiobook.records import AudioRecords
from scenarios.audiobook.web import make_app
from scenarios.browsing import browser
from scenarios.fixtures import AsPersona
from scenarios.waiting import until

pytestmark = allure.feature("audiobook: listening")

MP3 = "audio/mpeg"


@pytest.fixture
async def site(
    nora: Narrator,
    omar: Narrator,
    records: AudioRecords,
    local: LocalAudioStore,
    as_persona: AsPersona,
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the running application."""

    async def user_of(token: str) -> str:
        client = await as_persona(omar.persona)
        answer = await client.auth.get_user(token)
        assert answer is not None
        return answer.user.id

    async def service_of(user_id: str, token: str) -> AudioService:
        who = next(n for n in (nora, omar) if n.id == user_id)
        remote = SupabaseAudioStore((await as_persona(who.persona)).storage)
        return AudioService(user_id, records, local, remote)

    server = TestServer(make_app(user_of, service_of, local))
    await server.start_server()
    async with browser(base_url=str(server.make_url("/"))) as client:
        yield client
    await server.close()


def asking(narrator: Narrator) -> dict[str, str]:
    return {"Authorization": f"Bearer {narrator.persona.token}"}


@pytest.mark.requirement("AU-07", "AU-09")
async def test_the_owner_gets_a_signed_url_that_plays(
    site: httpx.AsyncClient, audio: AudioService, nora: Narrator
) -> None:
    await audio.save(nora.recording(b"ID3 audio"))
    answer = await site.get(f"/sections/{nora.sections[0]}/audio", headers=asking(nora))
    told = answer.json()
    assert (told["storage_backend"], told["expires_in"]) == ("supabase", 300)
    async with browser() as player:
        assert (await player.get(told["url"])).content == b"ID3 audio"


@pytest.mark.requirement("AU-07", "AU-26")
async def test_everybody_else_gets_nothing(
    site: httpx.AsyncClient, audio: AudioService, nora: Narrator, omar: Narrator
) -> None:
    await audio.save(nora.recording())
    where = f"/sections/{nora.sections[0]}/audio"
    assert (await site.get(where)).status_code == 401
    forged = {"Authorization": "Bearer x.y.z"}
    assert (await site.get(where, headers=forged)).status_code == 401
    assert (await site.get(where, headers=asking(omar))).status_code == 404
    empty = f"/sections/{nora.sections[1]}/audio"
    assert (await site.get(empty, headers=asking(nora))).status_code == 404


@pytest.mark.requirement("AU-07", "AU-09", "AU-10")
async def test_local_audio_from_before_keeps_playing(
    site: httpx.AsyncClient,
    nora: Narrator,
    omar: Narrator,
    records: AudioRecords,
    local: LocalAudioStore,
) -> None:
    before = AudioService(nora.id, records, local)
    await before.save(nora.recording(b"old times"))
    answer = await site.get(f"/sections/{nora.sections[0]}/audio", headers=asking(nora))
    told = answer.json()
    assert (told["storage_backend"], told["expires_in"]) == ("local", None)
    played = await site.get(told["url"], headers=asking(nora))
    assert (played.content, played.headers["content-type"]) == (b"old times", MP3)
    assert (await site.get(told["url"], headers=asking(omar))).status_code == 404
    assert (await site.get(told["url"])).status_code == 401


@pytest.mark.requirement("AU-15")
async def test_a_signed_url_ends_with_its_time(
    remote: SupabaseAudioStore, nora: Narrator
) -> None:
    path = nora.place().file("take.mp3")
    await remote.upload(path, b"audio", MP3)
    lasting = await remote.url(path, lifetime_s=60)
    passing = await remote.url(path, lifetime_s=1)
    async with browser() as player:

        async def refused() -> bool:
            return (await player.get(passing)).status_code == 400

        await until(refused, "the URL expires", timeout_s=10)
        assert (await player.get(lasting)).status_code == 200


@pytest.mark.requirement("AU-15")
async def test_a_signed_url_is_good_for_one_file_only(
    remote: SupabaseAudioStore, nora: Narrator
) -> None:
    one, two = (nora.place().file(f"{name}.mp3") for name in ("one", "two"))
    for path in (one, two):
        await remote.upload(path, path.encode(), MP3)
    url = await remote.url(one, lifetime_s=60)
    async with browser() as player:
        for forged in (url.replace("one.mp3", "two.mp3"), url[:-3] + "abc", url[:-20]):
            assert (await player.get(forged)).status_code == 400
        await remote.delete(one)
        gone = await player.get(url)
    assert gone.json()["statusCode"] == "404"


@pytest.mark.requirement("AU-15", "AU-26")
async def test_only_the_owner_signs(
    remote: SupabaseAudioStore, nora: Narrator, omar: Narrator, as_persona: AsPersona
) -> None:
    path = nora.place().file("take.mp3")
    await remote.upload(path, b"audio", MP3)
    stranger = SupabaseAudioStore((await as_persona(omar.persona)).storage)
    with pytest.raises(AudioRefusedError):
        await stranger.url(path, lifetime_s=60)


@pytest.mark.requirement("AU-07")
def test_every_route_is_read_only(local: LocalAudioStore) -> None:
    async def nobody(*_: str) -> object:
        raise aiohttp_web.HTTPUnauthorized

    app = make_app(nobody, nobody, local)  # type: ignore[arg-type]  # never called
    assert {route.method for route in app.router.routes()} == {"GET", "HEAD"}
