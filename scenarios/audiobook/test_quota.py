"""The quota: to the byte, under concurrency, after any history."""

from __future__ import annotations

import asyncio
import logging

import allure
import pytest

from harness.clock import seeded
from scenarios.audiobook.audio_service import AudioService
from scenarios.audiobook.audio_store import (
    AudioRefusedError,
    LocalAudioStore,
    Reason,
    SupabaseAudioStore,
)
from scenarios.audiobook.narrators import Narrator
from scenarios.audiobook.records import AudioRecords
from scenarios.fixtures import Sql

pytestmark = allure.feature("audiobook: quota")

MP3 = "audio/mpeg"
FREE_BYTES = 524_288_000
PAID_BYTES = 5_368_709_120


async def use(sql: Sql, nora: Narrator, used_bytes: int, plan: str = "free") -> None:
    """Let an account stand as if ``used_bytes`` were stored."""
    await sql.execute(
        "insert into public.user_credits (user_id, storage_used_bytes, plan)"
        " values ($1::text::uuid, $2, $3) on conflict (user_id) do update"
        " set storage_used_bytes = excluded.storage_used_bytes, plan = excluded.plan",
        nora.id,
        used_bytes,
        plan,
    )


async def accounted(sql: Sql, nora: Narrator) -> int:
    """Return what the account says."""
    used: int | None = await sql.fetchval(
        "select storage_used_bytes from public.user_credits"
        " where user_id = $1::text::uuid",
        nora.id,
    )
    return used or 0


async def stored(sql: Sql, nora: Narrator) -> int:
    """Return what the objects add up to."""
    total: int | None = await sql.fetchval(
        "select sum((metadata ->> 'size')::bigint)::bigint from storage.objects"
        " where bucket_id = 'audiofiles' and name like $1 || '/%'",
        nora.id,
    )
    return total or 0


@pytest.mark.requirement("AU-11", "AU-12")
@pytest.mark.parametrize(
    ("plan", "limit"), [("free", FREE_BYTES), ("paid", PAID_BYTES)]
)
async def test_a_plan_is_full_to_the_byte(
    plan: str, limit: int, remote: SupabaseAudioStore, nora: Narrator, sql: Sql
) -> None:
    await use(sql, nora, limit - 1000, plan)
    with pytest.raises(AudioRefusedError) as refused:
        await remote.upload(nora.place().file("over.mp3"), bytes(1001), MP3)
    assert refused.value.reason is Reason.FORBIDDEN
    await remote.upload(nora.place().file("exact.mp3"), bytes(1000), MP3)
    assert await accounted(sql, nora) == limit
    with pytest.raises(AudioRefusedError):
        await remote.upload(nora.place().file("more.mp3"), b"1", MP3)


@pytest.mark.requirement("AU-11", "AU-16")
async def test_the_service_says_that_the_quota_is_used_up(
    audio: AudioService, nora: Narrator, sql: Sql, local: LocalAudioStore
) -> None:
    await use(sql, nora, FREE_BYTES - 5)
    with pytest.raises(AudioRefusedError) as refused:
        await audio.save(nora.recording(b"123456"))
    assert refused.value.reason is Reason.QUOTA
    assert await local.usage_bytes(nora.id) == 0


@pytest.mark.requirement("AU-12")
async def test_a_change_of_plan_counts_at_once(
    remote: SupabaseAudioStore, nora: Narrator, sql: Sql
) -> None:
    kept = nora.place().file("kept.mp3")
    await remote.upload(kept, bytes(1000), MP3)
    await use(sql, nora, FREE_BYTES + 1000, "paid")
    await remote.upload(nora.place().file("paid.mp3"), bytes(1000), MP3)
    await use(sql, nora, FREE_BYTES + 2000, "free")
    with pytest.raises(AudioRefusedError):
        await remote.upload(nora.place().file("over.mp3"), b"1", MP3)
    # Files stay, and may be made smaller or deleted.
    assert len(await remote.download(kept)) == 1000
    await remote.upload(kept, bytes(500), MP3, replace=True)
    assert await remote.delete(kept) is True
    assert await accounted(sql, nora) == FREE_BYTES + 1000


@pytest.mark.requirement("AU-13", "AU-04")
async def test_parallel_uploads_never_exceed_the_limit(
    remote: SupabaseAudioStore, nora: Narrator, sql: Sql
) -> None:
    await use(sql, nora, FREE_BYTES - 10_500)
    paths = [nora.place().file(f"take-{number}.mp3") for number in range(24)]

    async def one(path: str) -> bool:
        try:
            await remote.upload(path, bytes(1000), MP3)
        except AudioRefusedError:
            return False
        return True

    outcomes = await asyncio.gather(*(one(path) for path in paths))
    assert sum(outcomes) == 10
    assert await stored(sql, nora) == 10_000
    assert await accounted(sql, nora) == FREE_BYTES - 500


@pytest.mark.requirement("AU-04", "AU-14", "AU-32", "HX-06")
@pytest.mark.parametrize("seed", range(3))
async def test_the_account_equals_what_is_stored_after_any_history(
    seed: int, remote: SupabaseAudioStore, nora: Narrator, sql: Sql
) -> None:
    random = seeded(seed)
    paths = [nora.place(n).file(f"take-{k}.mp3") for n in range(3) for k in range(3)]
    for _ in range(40):
        path = random.choice(paths)
        action = random.choice(["upload", "upload", "upload", "delete", "refused"])
        if action == "delete":
            await remote.delete(path)
        elif action == "refused":
            with pytest.raises(AudioRefusedError):
                await remote.upload(path, b"x", "audio/ogg", replace=True)
        else:
            content = bytes(random.randrange(2000))
            await remote.upload(path, content, MP3, replace=True)
        assert await accounted(sql, nora) == await stored(sql, nora)
    used = await sql.fetchval(
        "select sum(storage_used_bytes) from public.usage_by_user"
    )
    assert used == await stored(sql, nora)


@pytest.mark.requirement("AU-14")
async def test_moves_and_copies_are_counted(
    nora: Narrator, remote: SupabaseAudioStore, records: AudioRecords, sql: Sql
) -> None:
    bucket = remote.bucket
    one, two, three = (nora.place().file(f"{n}.mp3") for n in ("one", "two", "three"))
    await remote.upload(one, bytes(700), MP3)
    await bucket.copy(one, two)
    assert await accounted(sql, nora) == 1400
    await bucket.move(two, three)
    assert await accounted(sql, nora) == 1400 == await stored(sql, nora)


@pytest.mark.requirement("AU-04", "AU-05")
async def test_nobody_writes_their_own_account(
    nora: Narrator, as_persona: object, sql: Sql
) -> None:
    await use(sql, nora, 100)
    granted = await sql.fetch(
        "select privilege_type from information_schema.role_table_grants"
        " where table_name = 'user_credits' and grantee in ('anon', 'authenticated')"
    )
    assert {row["privilege_type"] for row in granted} == {"SELECT"}


@pytest.mark.requirement("AU-25")
async def test_usage_can_be_queried_and_failures_are_logged(
    audio: AudioService,
    nora: Narrator,
    sql: Sql,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await audio.save(nora.recording(bytes(5_242_880)))
    usage = await sql.fetchrow("select * from public.usage_by_user")
    assert dict(usage or {})["used_percent"] == 1
    caplog.set_level(logging.WARNING)
    with pytest.raises(AudioRefusedError):
        await audio.save(nora.recording(bytes(52_428_801), number=1))
    (failure,) = (r for r in caplog.records if r.getMessage() == "audio upload failed")
    assert failure.__dict__["reason"] is Reason.TOO_LARGE


@pytest.mark.requirement("AU-30")
async def test_the_size_after_compression_is_what_counts(
    nora: Narrator,
    records: AudioRecords,
    local: LocalAudioStore,
    remote: SupabaseAudioStore,
    sql: Sql,
) -> None:
    half = AudioService(
        nora.id, records, local, remote, transcode=lambda raw: raw[: len(raw) // 2]
    )
    saved = await half.save(nora.recording(bytes(10_000)))
    assert saved.size_bytes == 5000 == await accounted(sql, nora)


@pytest.mark.requirement("AU-29")
async def test_a_batch_reports_each_item_and_fills_the_quota_exactly(
    audio: AudioService, nora: Narrator, sql: Sql
) -> None:
    await use(sql, nora, FREE_BYTES - 2500)
    outcomes = await audio.save_all(
        [nora.recording(bytes(1000), number=number) for number in range(3)]
    )
    assert len([o for o in outcomes if o.saved]) == 2
    (refused,) = (o.refused for o in outcomes if o.refused)
    assert refused.reason in (Reason.QUOTA, Reason.FORBIDDEN)
    assert await accounted(sql, nora) == FREE_BYTES - 500
