"""The private bucket: whose folder, which path, what type, and no public way in."""

from __future__ import annotations

import uuid

import allure
import httpx
import pytest

from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema, read_schema
from harness.errors import MigrationError
from harness.resources import sql_root
from harness.stack.base import Stack
from harness.stack.project import Project
from scenarios.audiobook import SCENARIO
from scenarios.audiobook.audio_path import AudioPath, BadAudioPathError, file_name_for
from scenarios.audiobook.audio_store import (
    AudioRefusedError,
    Reason,
    SupabaseAudioStore,
)
from scenarios.audiobook.narrators import Narrator
from scenarios.audiobook.resumable import ResumableUpload
from scenarios.browsing import browser
from scenarios.fixtures import AsPersona, Sql
from scenarios.schemas import schema_folders

pytestmark = allure.feature("audiobook: policies")

MP3 = "audio/mpeg"
LIMIT = 52_428_800


@pytest.mark.requirement("AU-18")
async def test_the_bucket_is_private_with_its_limits(sql: Sql) -> None:
    row = await sql.fetchrow("select * from storage.buckets where id = 'audiofiles'")
    assert row is not None
    assert (row["public"], row["file_size_limit"]) == (False, LIMIT)
    assert set(row["allowed_mime_types"]) == {
        "audio/mpeg",
        "audio/mp3",
        "audio/wav",
        "audio/x-wav",
    }


@pytest.mark.requirement("AU-18")
async def test_fifty_mebibytes_fit_and_one_byte_more_does_not(
    remote: SupabaseAudioStore, nora: Narrator
) -> None:
    path = nora.place().file("long.mp3")
    with pytest.raises(AudioRefusedError) as refused:
        await remote.upload(path, bytes(LIMIT + 1), MP3)
    assert refused.value.reason is Reason.TOO_LARGE
    await remote.upload(path, bytes(LIMIT), MP3)


@pytest.mark.requirement("AU-18", "AU-17")
@pytest.mark.parametrize(
    ("name", "mime_type", "accepted"),
    [
        ("take.mp3", "audio/mpeg", True),
        ("take.mp3", "audio/mp3", True),
        ("take.wav", "audio/wav", True),
        ("take.wav", "audio/x-wav", True),
        ("take.mp3", "audio/wav", False),
        ("take.wav", "audio/mpeg", False),
        ("take.ogg", "audio/mpeg", False),
        ("take", "audio/mpeg", False),
        ("take.mp3", "audio/ogg", False),
        ("take.mp3", "text/html", False),
        ("take.mp3", "audio/mpeg;codecs=mp3", False),
    ],
)
async def test_the_extension_belongs_to_an_accepted_type(
    name: str,
    mime_type: str,
    accepted: bool,
    remote: SupabaseAudioStore,
    nora: Narrator,
) -> None:
    folder = nora.place().file("x.mp3").rpartition("/")[0]
    upload = remote.upload(f"{folder}/{name}", b"audio", mime_type)
    if accepted:
        await upload
    else:
        with pytest.raises(AudioRefusedError) as refused:
            await upload
        assert refused.value.reason in (Reason.FORBIDDEN, Reason.WRONG_TYPE)


@pytest.mark.requirement("AU-17", "AU-05")
@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("{user}/{project}/{chapter}/{section}/a.mp3", True),
        ("{user}/{project}/{chapter}/a.mp3", False),
        ("{user}/{project}/{chapter}/{section}/deeper/a.mp3", False),
        ("{user}/a.mp3", False),
        ("a.mp3", False),
        ("{user}/{foreign_project}/{chapter}/{section}/a.mp3", False),
        ("{user}/{foreign_project}/{foreign_chapter}/{foreign_section}/a.mp3", False),
        ("{user}/{project}/{chapter}/{unknown}/a.mp3", False),
        ("{foreign_user}/{project}/{chapter}/{section}/a.mp3", False),
    ],
)
async def test_audio_goes_where_its_section_is_or_nowhere(
    path: str,
    accepted: bool,
    remote: SupabaseAudioStore,
    nora: Narrator,
    omar: Narrator,
) -> None:
    upload = remote.upload(
        path.format(
            user=nora.id,
            project=nora.project_id,
            chapter=nora.chapter_id,
            section=nora.sections[0],
            foreign_user=omar.id,
            foreign_project=omar.project_id,
            foreign_chapter=omar.chapter_id,
            foreign_section=omar.sections[0],
            unknown=uuid.UUID(int=1),
        ),
        b"audio",
        MP3,
    )
    if accepted:
        await upload
    else:
        with pytest.raises(AudioRefusedError) as refused:
            await upload
        assert refused.value.reason is Reason.FORBIDDEN


@pytest.mark.requirement("AU-17")
def test_a_path_is_read_and_written_the_same() -> None:
    text = "/".join(["u", "p", "c", "s", "take.mp3"])
    assert str(AudioPath.parse(text)) == text
    for bad in ("u/p/c/take.mp3", "u/p/c/s/t/take.mp3", "u//c/s/take.mp3", "u/p/c/s/x"):
        with pytest.raises(BadAudioPathError):
            AudioPath.parse(bad)


@pytest.mark.requirement("AU-17")
@pytest.mark.parametrize("stem", ["Chapter 1", "../../etc", "é", "", "a" * 500, "x/y"])
def test_any_title_becomes_a_safe_file_name(stem: str) -> None:
    name = file_name_for(stem, "audio/x-wav")
    assert name.endswith(".wav")
    assert str(AudioPath("u", "p", "c", "s", name)).count("/") == 4


@pytest.mark.requirement("AU-05", "AU-26")
async def test_another_narrators_audio_is_out_of_reach(
    remote: SupabaseAudioStore, nora: Narrator, omar: Narrator, as_persona: AsPersona
) -> None:
    path = nora.place().file("take.mp3")
    await remote.upload(path, b"nora's", MP3)
    stranger = SupabaseAudioStore((await as_persona(omar.persona)).storage)
    assert not await stranger.exists(path)
    assert await stranger.usage_bytes(nora.id) == 0
    assert await stranger.delete(path) is False
    for attempt in (
        lambda: stranger.download(path),
        lambda: stranger.url(path, lifetime_s=60),
        lambda: stranger.upload(path, b"evil", MP3, replace=True),
        lambda: stranger.bucket.move(path, omar.place().file("mine.mp3")),
        lambda: stranger.bucket.copy(path, omar.place().file("mine.mp3")),
    ):
        with pytest.raises(Exception, match=r"not.found|forbidden|Object not found"):
            await attempt()
    assert await remote.download(path) == b"nora's"


@pytest.mark.requirement("AU-26", "AU-05")
@pytest.mark.parametrize(
    "table", ["projects", "chapters", "sections", "section_audio", "user_credits"]
)
async def test_another_narrators_rows_are_out_of_reach(
    table: str, nora: Narrator, omar: Narrator, as_persona: AsPersona, sql: Sql
) -> None:
    await sql.execute(
        "insert into public.section_audio"
        " (section_id, storage_backend, path, size_bytes, mime_type, sha256)"
        " select id, 'local', id::text, 1, 'audio/mpeg', repeat('a', 64)"
        " from public.sections on conflict do nothing"
    )
    await sql.execute(
        "insert into public.user_credits (user_id) select id from auth.users"
        " on conflict do nothing"
    )
    total = await sql.fetchval(f"select count(*) from public.{table}")
    for who in (nora, omar):
        client = await as_persona(who.persona)
        rows = (await client.table(table).select("*").execute()).data
        assert len(rows) * 2 == total


@pytest.mark.requirement("AU-31")
async def test_no_public_url_serves_the_private_bucket(
    remote: SupabaseAudioStore, nora: Narrator
) -> None:
    path = nora.place().file("take.mp3")
    await remote.upload(path, b"private", MP3)
    async with browser() as anybody:
        public = await anybody.get(await remote.bucket.get_public_url(path))
    assert public.status_code in (400, 404)
    assert b"private" not in public.content


@pytest.mark.requirement("AU-27")
async def test_downloads_may_be_cached_as_long_as_declared(
    remote: SupabaseAudioStore, nora: Narrator, project: Project
) -> None:
    path = nora.place().file("take.mp3")
    await remote.upload(path, b"audio", MP3)
    async with browser() as http:
        answer = await http.get(
            f"{project.url}/storage/v1/object/authenticated/audiofiles/{path}",
            headers={"Authorization": f"Bearer {nora.persona.token}"},
        )
    assert answer.headers["cache-control"] == "max-age=3600"


@pytest.mark.requirement("AU-27")
async def test_capacity_is_reported_against_what_is_included(
    remote: SupabaseAudioStore, nora: Narrator, sql: Sql
) -> None:
    await remote.upload(nora.place().file("take.mp3"), bytes(1_073_742), MP3)
    included_bytes = 100 * 2**30
    used = await sql.fetchval(
        "select sum(storage_used_bytes) from public.usage_by_user"
    )
    assert round(100 * float(used) / included_bytes, 4) == 0.001


@pytest.mark.requirement("AU-28")
async def test_progress_grows_to_a_hundred_percent(
    nora: Narrator, project: Project, remote: SupabaseAudioStore
) -> None:
    content = bytes(range(250)) * 1000
    path = nora.place().file("long.mp3")
    async with browser() as http:
        upload = _resumable(http, project, nora, path)
        await upload.begin(len(content))
        # The connection breaks after a while; another client goes on.
        part = content[:100_000]
        percents = [p * len(part) // len(content) async for p in upload.send(part)]
        percents += [percent async for percent in upload.send(content)]
    assert percents == sorted(set(percents))
    assert percents[-1] == 100
    assert await remote.download(path) == content


@pytest.mark.requirement("AU-28", "AU-05")
async def test_resumable_uploads_obey_the_policies(
    nora: Narrator, omar: Narrator, project: Project
) -> None:
    async with browser() as http:
        upload = _resumable(http, project, nora, omar.place().file("a.mp3"))
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            await upload.begin(10)


@pytest.mark.requirement("AU-19")
@pytest.mark.parametrize(
    ("order", "named"),
    [
        (["policies"], "storage tracking is missing"),
        (["tracking", "policies"], "bucket audiofiles is missing"),
        (["bucket", "policies"], "storage tracking is missing"),
    ],
)
async def test_a_forgotten_deployment_step_is_named(
    order: list[str], named: str, stack: Stack
) -> None:
    bare = await stack.create_project()
    connection = await bare.connect()
    try:
        for step in ("foundation", "projects", *order[:-1]):
            await apply_schema(connection, _only(step))
        with pytest.raises(MigrationError, match=named):
            await apply_schema(connection, _only(order[-1]))
    finally:
        await connection.close()
        await bare.drop()


@pytest.mark.requirement("AU-19")
async def test_the_deployment_steps_converge_in_any_valid_order(
    stack: Stack, project: Project
) -> None:
    bare = await stack.create_project()
    connection = await bare.connect()
    try:
        for step in ["foundation", "bucket", "tracking", "projects", "policies"]:
            await apply_schema(connection, _only(step))
        policies = "select count(*) from pg_policies where policyname like 'audio_%'"
        assert await connection.fetchval(policies) == 4
    finally:
        await connection.close()
        await bare.drop()


def _only(step: str) -> Schema:
    """Return one file of the schema, by a word of its name."""
    (folder,) = schema_folders(SCENARIO)
    word = {"tracking": "storage_tracking", "bucket": "audio_bucket"}.get(step, step)
    files = read_schema(folder or sql_root()).files
    return Schema((next(f for f in files if f.name.endswith(word)),))


def _resumable(
    http: httpx.AsyncClient, project: Project, who: Narrator, path: str
) -> ResumableUpload:
    return ResumableUpload(
        http,
        project.url,
        who.persona.token,
        bucket="audiofiles",
        path=path,
        mime_type=MP3,
        piece_bytes=60_000,
    )
