"""One contract over both stores, and the settings that choose between them."""

from __future__ import annotations

from pathlib import Path

import allure
import pytest

from harness.stack.project import Project
from scenarios.audiobook.audio_service import AudioService
from scenarios.audiobook.audio_store import (
    AudioRefusedError,
    AudioStore,
    LocalAudioStore,
    Reason,
    SupabaseAudioStore,
)
from scenarios.audiobook.narrators import Narrator
from scenarios.audiobook.records import AudioRecords
from scenarios.audiobook.settings import Settings, SettingsError
from scenarios.browsing import browser
from scenarios.fixtures import AsPersona

pytestmark = allure.feature("audiobook: stores")

MP3 = "audio/mpeg"


@pytest.fixture(params=["local", "supabase"])
def store(
    request: pytest.FixtureRequest, local: LocalAudioStore, remote: SupabaseAudioStore
) -> AudioStore:
    """Return each of the two stores in turn."""
    return local if request.param == "local" else remote


@pytest.mark.requirement("AU-02")
async def test_what_is_uploaded_is_there_until_it_is_deleted(
    store: AudioStore, nora: Narrator
) -> None:
    path = nora.place().file("take.mp3")
    assert not await store.exists(path)
    await store.upload(path, b"ID3 audio", MP3)
    assert await store.exists(path)
    assert await store.download(path) == b"ID3 audio"
    assert await store.usage_bytes(nora.id) == 9
    assert await store.delete(path) is True
    assert await store.delete(path) is False
    assert not await store.exists(path)
    assert await store.usage_bytes(nora.id) == 0


@pytest.mark.requirement("AU-02")
async def test_a_taken_name_is_replaced_only_when_asked_to(
    store: AudioStore, nora: Narrator
) -> None:
    path = nora.place().file("take.mp3")
    await store.upload(path, b"first", MP3)
    with pytest.raises(AudioRefusedError) as refused:
        await store.upload(path, b"second", MP3)
    assert refused.value.reason is Reason.EXISTS
    assert await store.download(path) == b"first"
    await store.upload(path, b"third", MP3, replace=True)
    assert await store.download(path) == b"third"


@pytest.mark.requirement("AU-02")
async def test_a_missing_file_is_not_found(store: AudioStore, nora: Narrator) -> None:
    with pytest.raises(AudioRefusedError) as refused:
        await store.download(nora.place().file("none.mp3"))
    assert refused.value.reason is Reason.NOT_FOUND


@pytest.mark.requirement("AU-02", "AU-17")
@pytest.mark.parametrize("path", ["{id}/../x.mp3", "../x.mp3", "{id}//x.mp3", "/x.mp3"])
async def test_no_path_leaves_the_store(
    path: str, store: AudioStore, nora: Narrator
) -> None:
    with pytest.raises(AudioRefusedError):
        await store.upload(path.format(id=nora.id), b"x", MP3)


@pytest.mark.requirement("AU-02")
async def test_more_files_than_a_page_are_all_counted(
    nora: Narrator, remote: SupabaseAudioStore
) -> None:
    for number in range(105):
        path = nora.place().file(f"take-{number}.mp3")
        await remote.upload(path, b"12", MP3)
    assert await remote.usage_bytes(nora.id) == 210


@pytest.mark.requirement("AU-02", "AU-15")
async def test_the_url_serves_the_file(
    nora: Narrator, remote: SupabaseAudioStore, local: LocalAudioStore
) -> None:
    path = nora.place().file("take.mp3")
    await remote.upload(path, b"ID3 audio", MP3)
    async with browser() as anybody:
        served = await anybody.get(await remote.url(path, lifetime_s=60))
    assert (served.content, served.headers["content-type"]) == (b"ID3 audio", MP3)
    assert await local.url(path, lifetime_s=60) == f"/audio/{path}"


@pytest.mark.requirement("AU-01")
async def test_audio_survives_a_new_container_only_in_supabase(
    project: Project,
    nora: Narrator,
    records: AudioRecords,
    as_persona: AsPersona,
    tmp_path: Path,
) -> None:
    client = await as_persona(nora.persona)
    remote = SupabaseAudioStore(client.storage)
    first_disk, second_disk = (LocalAudioStore(tmp_path / d) for d in ("one", "two"))
    before = AudioService(nora.id, records, first_disk, remote)
    await before.save(nora.recording(b"kept", number=0))
    local_only = AudioService(nora.id, records, first_disk)
    await local_only.save(nora.recording(b"lost", number=1))
    # A new container begins with an empty disk.
    after = AudioService(nora.id, records, second_disk, remote)
    assert await after.listen(nora.sections[0]) == b"kept"
    with pytest.raises(AudioRefusedError) as refused:
        await after.listen(nora.sections[1])
    assert refused.value.reason is Reason.NOT_FOUND


@pytest.mark.requirement("AU-06", "AU-08")
@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({}, "local"),
        ({"STORAGE_BACKEND": "local"}, "local"),
        (
            {
                "STORAGE_BACKEND": "supabase",
                "SUPABASE_URL": "https://x.test",
                "SUPABASE_ANON_KEY": "a",
                "SUPABASE_SERVICE_ROLE_KEY": "s",
            },
            "supabase",
        ),
    ],
)
def test_the_environment_chooses_the_backend(
    environ: dict[str, str], backend: str
) -> None:
    assert Settings.from_environment(environ).backend == backend


@pytest.mark.requirement("AU-06", "AU-08")
@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"STORAGE_BACKEND": "s3"}, "STORAGE_BACKEND"),
        ({"STORAGE_BACKEND": "supabase"}, "SUPABASE_URL"),
        (
            {"STORAGE_BACKEND": "supabase", "SUPABASE_URL": "https://x.test"},
            "SUPABASE_ANON_KEY",
        ),
    ],
)
def test_a_wrong_environment_fails_at_the_start(
    environ: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.from_environment(environ)
