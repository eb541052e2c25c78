"""Files through their whole life, and what is left when something goes wrong."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

import allure
import httpx
import pytest

from harness.clock import seeded
from harness.stack.project import Persona, Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.browsing import browser
from scenarios.climber.cast import Cast, LibraryOf
from scenarios.climber.media import Bucket, FileRefusedError, MediaLibrary, Refusal
from scenarios.fixtures import AsPersona, Sql
from scenarios.waiting import until

pytestmark = allure.feature("climber: uploads")

PNG = "image/png"
MP4 = "video/mp4"


@pytest.mark.requirement("CL-36", "CL-37", "CL-02")
async def test_a_video_lives_from_upload_over_a_signed_link_to_deletion(
    people: Cast, library_of: LibraryOf, project: Project
) -> None:
    premium = await library_of(people.premium)
    path = premium.path("climb.mp4")
    video = bytes(range(256)) * 1000
    await premium.store(Bucket.VIDEOS, path, video, MP4)
    link = await premium.link(Bucket.VIDEOS, path)
    async with browser() as anybody:
        served = await anybody.get(link)
        assert (served.content, served.headers["content-type"]) == (video, MP4)
        await assert_rows_and_bytes_agree(project)
        await premium.remove(Bucket.VIDEOS, path)
        gone = await anybody.get(link)
    assert gone.json()["statusCode"] == "404"


@pytest.mark.requirement("CL-36", "CL-37", "CL-35", "HX-04")
@pytest.mark.parametrize("bucket", list(Bucket))
async def test_every_bucket_stores_renames_copies_and_deletes(
    bucket: Bucket, people: Cast, library_of: LibraryOf, project: Project
) -> None:
    uploader = {
        Bucket.AVATARS: people.ana,
        Bucket.VIDEOS: people.premium,
    }.get(bucket, people.admin)
    kind = MP4 if bucket is Bucket.VIDEOS else PNG
    library = await library_of(uploader)
    one, two, three = (library.path(name) for name in ("one", "two", "three"))
    await library.store(bucket, one, b"1", kind)
    await library.store(bucket, one, b"22", kind, replace=True)
    await library.duplicate(bucket, one, two)
    await library.rename(bucket, one, three)
    assert [(f.name, f.size) for f in await library.files(bucket, uploader.id)] == [
        ("three", 2),
        ("two", 2),
    ]
    await assert_rows_and_bytes_agree(project)
    assert sorted(await library.remove(bucket, two, three)) == [three, two]
    assert await library.files(bucket, uploader.id) == []


@pytest.mark.requirement("CL-32")
@pytest.mark.parametrize(
    ("expected", "bucket", "path", "size", "content_type"),
    [
        (Refusal.FORBIDDEN, "user-avatars", "{other}/a.png", 10, PNG),
        (Refusal.NOT_FOUND, "no-such-bucket", "{own}/a.png", 10, PNG),
        (Refusal.EXISTS, "user-avatars", "{own}/taken.png", 10, PNG),
        (Refusal.TOO_LARGE, "user-avatars", "{own}/a.png", 5_242_881, PNG),
        (Refusal.WRONG_TYPE, "user-avatars", "{own}/a.png", 10, "text/html"),
        (Refusal.BAD_REQUEST, "user-avatars", "{own}/%C3%A9.png", 10, PNG),
    ],
)
async def test_a_refused_upload_has_a_stable_reason_and_leaves_nothing(
    expected: Refusal,
    bucket: str,
    path: str,
    size: int,
    content_type: str,
    people: Cast,
    library_of: LibraryOf,
    project: Project,
    sql: Sql,
) -> None:
    ana = await library_of(people.ana)
    await ana.store(Bucket.AVATARS, ana.path("taken.png"), b"taken", PNG)
    name = path.format(own=people.ana.id, other=people.ben.id)
    answer = await _post(project, people.ana, f"{bucket}/{name}", size, content_type)
    assert _reason(answer) is expected, answer.text
    assert await sql.fetchval("select count(*) from storage.objects") == 1
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("CL-32")
@pytest.mark.parametrize("token", ["not-a-token", "a.b.c", None])
async def test_an_upload_without_a_valid_token_is_refused(
    token: str | None, people: Cast, project: Project, sql: Sql
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with browser() as http:
        answer = await http.post(
            f"{project.url}/storage/v1/object/user-avatars/{people.ana.id}/a.png",
            content=b"face",
            headers={"Content-Type": PNG, **headers},
        )
    assert answer.status_code == 400
    assert await sql.fetchval("select count(*) from storage.objects") == 0


@pytest.mark.requirement("CL-32", "CL-42")
async def test_an_aborted_upload_leaves_nothing(
    people: Cast, library_of: LibraryOf, project: Project, sql: Sql
) -> None:
    where = urlsplit(project.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(
        f"POST {where.path}/storage/v1/object/user-avatars/{people.ana.id}/half.png"
        f" HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: {PNG}\r\n"
        f"Authorization: Bearer {people.ana.token}\r\n"
        "Content-Length: 100000\r\n\r\n".encode()
        + bytes(50_000)
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    ana = await library_of(people.ana)
    await ana.store(Bucket.AVATARS, ana.path("whole.png"), b"whole", PNG)
    names = await sql.fetch("select name from storage.objects")
    assert [row["name"] for row in names] == [ana.path("whole.png")]
    await assert_rows_and_bytes_agree(project)
    assert reader.at_eof() or not await reader.read()


@pytest.mark.requirement("CL-38")
async def test_every_operation_leaves_one_structured_record(
    people: Cast, library_of: LibraryOf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="scenarios.climber.media")
    ana = await library_of(people.ana)
    path = ana.path("a.png")
    await ana.store(Bucket.AVATARS, path, b"a", PNG)
    with pytest.raises(FileRefusedError):
        await ana.store(Bucket.AVATARS, path, b"a", PNG)
    await ana.fetch(Bucket.AVATARS, path)
    await ana.remove(Bucket.AVATARS, path)
    assert [
        (record.__dict__["operation"], record.__dict__.get("reason"))
        for record in caplog.records
        if record.name == "scenarios.climber.media"
    ] == [("store", None), ("store", Refusal.EXISTS), ("fetch", None), ("remove", None)]


@pytest.mark.requirement("CL-39", "CL-42")
@pytest.mark.parametrize("seed", range(3))
async def test_rows_and_bytes_agree_after_a_random_history(
    seed: int, people: Cast, library_of: LibraryOf, project: Project
) -> None:
    random = seeded(seed)
    libraries = [await library_of(people.ana), await library_of(people.ben)]
    reasons = set()
    for step in range(30):
        library = random.choice(libraries)
        source, target = (library.path(n) for n in random.sample("abcd", 2))
        action = random.choice(["store", "replace", "rename", "copy", "remove"])
        content = f"{seed} {step}".encode() * random.randrange(50)
        try:
            await _act(library, action, source, target, content)
        except FileRefusedError as refused:
            reasons.add(refused.reason)
    # Missing sources and taken targets are part of a history.
    assert reasons <= {Refusal.NOT_FOUND, Refusal.EXISTS}
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("CL-39")
async def test_uploads_of_one_name_at_once_leave_one_whole_file(
    people: Cast, library_of: LibraryOf, project: Project, sql: Sql
) -> None:
    ana = await library_of(people.ana)
    path = ana.path("face.png")
    contents = [bytes([i]) * 10_000 for i in range(8)]
    await asyncio.gather(
        *(ana.store(Bucket.AVATARS, path, c, PNG, replace=True) for c in contents)
    )
    assert await ana.fetch(Bucket.AVATARS, path) in contents
    assert await sql.fetchval("select count(*) from storage.objects") == 1
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("CL-36", "CL-41")
async def test_a_stored_video_shows_up_live_in_the_table_of_videos(
    people: Cast, as_persona: AsPersona, library_of: LibraryOf, sql: Sql
) -> None:
    premium = await library_of(people.premium)
    path = premium.path("climb.mp4")
    await premium.store(Bucket.VIDEOS, path, b"video", MP4)
    client = await as_persona(people.premium)
    await (
        client.table("video_content")
        .insert(
            {
                "owner_user_id": people.premium.id,
                "title": "North face",
                "storage_path": path,
                "is_published": True,
            }
        )
        .execute()
    )

    async def seen_by_ana() -> bool:
        found = (
            await (await as_persona(people.ana))
            .table("video_content")
            .select("title, storage_path")
            .execute()
        )
        return found.data == [{"title": "North face", "storage_path": path}]

    assert await until(seen_by_ana, "ana sees the published video")


async def _act(
    library: MediaLibrary, action: str, source: str, target: str, content: bytes
) -> None:
    match action:
        case "rename":
            await library.rename(Bucket.AVATARS, source, target)
        case "copy":
            await library.duplicate(Bucket.AVATARS, source, target)
        case "remove":
            await library.remove(Bucket.AVATARS, source)
        case _:
            replace = action == "replace"
            await library.store(Bucket.AVATARS, source, content, PNG, replace=replace)


async def _post(
    project: Project, persona: Persona, path: str, size: int, content_type: str
) -> httpx.Response:
    async with browser() as http:
        return await http.post(
            f"{project.url}/storage/v1/object/{path}",
            content=bytes(size),
            headers={
                "Authorization": f"Bearer {persona.token}",
                "Content-Type": content_type,
            },
        )


def _reason(answer: httpx.Response) -> Refusal | None:
    return {
        "400": Refusal.BAD_REQUEST,
        "403": Refusal.FORBIDDEN,
        "404": Refusal.NOT_FOUND,
        "409": Refusal.EXISTS,
        "413": Refusal.TOO_LARGE,
        "415": Refusal.WRONG_TYPE,
    }.get(answer.json()["statusCode"])
