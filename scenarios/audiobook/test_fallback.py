"""Falling back to local disk: on outages only, marked, and taken over later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import allure
import pytest
from supabase import AsyncClientOptions, create_async_client

from harness.stack.project import Project
from scenarios.audiobook.audio_service import AudioService
from scenarios.audiobook.audio_store import (
    AudioRefusedError,
    LocalAudioStore,
    Reason,
    SupabaseAudioStore,
)
from scenarios.audiobook.migrate_audio import close
from scenarios.audiobook.narrators import Narrator
from scenarios.audiobook.records import AudioRecords
from scenarios.browsing import browser
from scenarios.fixtures import Sql
from scenarios.flaky_gateway import FlakyGateway

pytestmark = allure.feature("audiobook: fallback")

UPLOADS = "/storage/v1/object/audiofiles"


@pytest.fixture
def gateway(project: Project) -> Iterator[FlakyGateway]:
    """Yield a gateway in front of the project."""
    with FlakyGateway(project.url) as running:
        yield running


@pytest.fixture
async def audio(
    gateway: FlakyGateway,
    project: Project,
    nora: Narrator,
    records: AudioRecords,
    local: LocalAudioStore,
) -> AsyncIterator[AudioService]:
    """Yield nora's audio behind the gateway."""
    options = AsyncClientOptions(
        headers={"Authorization": f"Bearer {nora.persona.token}"},
        httpx_client=browser(),
    )
    client = await create_async_client(gateway.url, project.anon_key, options)
    yield AudioService(nora.id, records, local, SupabaseAudioStore(client.storage))
    await close(client)


@pytest.mark.requirement("AU-16")
@pytest.mark.parametrize("status", [0, 500, 502, 503, 504, 544])
async def test_an_outage_keeps_the_audio_on_local_disk(
    status: int, audio: AudioService, gateway: FlakyGateway, nora: Narrator
) -> None:
    gateway.fail_all(status, path=UPLOADS)
    saved = await audio.save(nora.recording(b"precious"))
    assert (saved.storage_backend, saved.pending_migration) == ("local", True)
    assert await audio.listen(nora.sections[0]) == b"precious"


@pytest.mark.requirement("AU-16")
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.FORBIDDEN),
        (403, Reason.FORBIDDEN),
        (409, Reason.EXISTS),
        (413, Reason.TOO_LARGE),
        (415, Reason.WRONG_TYPE),
    ],
)
async def test_a_refusal_stays_a_refusal(
    status: int,
    reason: Reason,
    audio: AudioService,
    gateway: FlakyGateway,
    nora: Narrator,
    local: LocalAudioStore,
) -> None:
    gateway.fail_all(status, path=UPLOADS)
    with pytest.raises(AudioRefusedError) as refused:
        await audio.save(nora.recording())
    assert refused.value.reason is reason
    assert await local.usage_bytes(nora.id) == 0


@pytest.mark.requirement("AU-16", "AU-13")
async def test_a_full_account_does_not_fall_back(
    audio: AudioService, nora: Narrator, sql: Sql, local: LocalAudioStore
) -> None:
    # The early check passes and the database decides, as when two uploads race.
    await sql.execute(
        "create function public.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'storage quota exceeded' using errcode = '42501';"
        " end $$"
    )
    await sql.execute(
        "create trigger zz before insert on storage.objects for each row"
        " execute function public.refuse()"
    )
    with pytest.raises(AudioRefusedError) as refused:
        await audio.save(nora.recording())
    assert refused.value.reason is Reason.FORBIDDEN
    assert await local.usage_bytes(nora.id) == 0


@pytest.mark.requirement("AU-16")
async def test_what_fell_back_is_taken_over_after_the_outage(
    audio: AudioService,
    gateway: FlakyGateway,
    nora: Narrator,
    local: LocalAudioStore,
    records: AudioRecords,
) -> None:
    await audio.save(nora.recording(b"first take"))
    gateway.fail_all(503, path=UPLOADS)
    await audio.save(nora.recording(b"second take"))
    await audio.save(nora.recording(b"another", number=1))
    gateway.recover()
    assert await audio.resync() == 2
    assert await audio.resync() == 0
    assert await audio.listen(nora.sections[0]) == b"second take"
    record = await records.audio(nora.sections[1])
    assert record is not None
    assert (record.storage_backend, record.pending_migration) == ("supabase", False)
    assert await local.usage_bytes(nora.id) == 0


@pytest.mark.requirement("AU-16", "AU-11")
async def test_what_fell_back_counts_against_the_quota(
    audio: AudioService, gateway: FlakyGateway, nora: Narrator, sql: Sql
) -> None:
    await sql.execute(
        "insert into public.user_credits (user_id, storage_used_bytes)"
        " values ($1::text::uuid, 524287000)",
        nora.id,
    )
    gateway.fail_all(503, path=UPLOADS)
    await audio.save(nora.recording(bytes(600)))
    with pytest.raises(AudioRefusedError) as refused:
        await audio.save(nora.recording(bytes(600), number=1))
    assert refused.value.reason is Reason.QUOTA
