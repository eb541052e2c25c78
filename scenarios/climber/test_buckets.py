"""The four buckets: what they are, and what they take to the byte."""

from __future__ import annotations

from pathlib import Path

import allure
import pytest

from harness.resources import sql_root
from harness.stack.project import Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.browsing import browser
from scenarios.climber.cast import BUCKETS, Cast, LibraryOf
from scenarios.climber.media import Bucket, FileRefusedError, Refusal
from scenarios.fixtures import Sql

pytestmark = allure.feature("climber: buckets")

# Who may upload into each bucket.
UPLOADER = {
    Bucket.AVATARS: "ana",
    Bucket.VIDEOS: "premium",
    Bucket.MOUNTAINS: "admin",
    Bucket.ASSETS: "admin",
}
SMALL = [Bucket.AVATARS, Bucket.MOUNTAINS, Bucket.ASSETS]


@pytest.mark.requirement("CL-01", "CL-02", "CL-03", "CL-04", "CL-35")
async def test_the_four_buckets_have_the_declared_limits(sql: Sql) -> None:
    rows = await sql.fetch(
        "select id, public, file_size_limit, allowed_mime_types from storage.buckets"
    )
    assert {
        bucket: (public, limit, tuple(types)) for bucket, public, limit, types in rows
    } == BUCKETS


@pytest.mark.requirement("CL-01", "CL-03", "CL-04", "CL-33")
@pytest.mark.parametrize("bucket", SMALL)
async def test_a_file_of_exactly_the_limit_is_accepted(
    bucket: Bucket, people: Cast, library_of: LibraryOf
) -> None:
    who = people.named(UPLOADER[bucket])
    library = await library_of(who)
    _, limit, types = BUCKETS[bucket]
    await library.store(bucket, library.path("limit"), bytes(limit), types[0])
    assert [f.size for f in await library.files(bucket, who.id)] == [limit]


@pytest.mark.requirement("CL-01", "CL-03", "CL-04", "CL-33")
@pytest.mark.parametrize("bucket", SMALL)
async def test_one_byte_more_than_the_limit_is_refused(
    bucket: Bucket, people: Cast, library_of: LibraryOf, project: Project
) -> None:
    who = people.named(UPLOADER[bucket])
    library = await library_of(who)
    _, limit, types = BUCKETS[bucket]
    with pytest.raises(FileRefusedError) as refused:
        await library.store(bucket, library.path("over"), bytes(limit + 1), types[0])
    assert refused.value.reason is Refusal.TOO_LARGE
    assert await library.files(bucket, who.id) == []
    await assert_rows_and_bytes_agree(project)


@pytest.mark.slow
@pytest.mark.requirement("CL-02", "CL-33")
async def test_a_video_of_100_mib_fits_and_one_byte_more_does_not(
    people: Cast, library_of: LibraryOf
) -> None:
    library = await library_of(people.premium)
    limit = BUCKETS[Bucket.VIDEOS][1]
    video = bytes(limit + 1)
    path = library.path("climb.mp4")
    with pytest.raises(FileRefusedError) as refused:
        await library.store(Bucket.VIDEOS, path, video, "video/mp4")
    assert refused.value.reason is Refusal.TOO_LARGE
    await library.store(Bucket.VIDEOS, path, video[:limit], "video/mp4")
    stored = await library.files(Bucket.VIDEOS, people.premium.id)
    assert [f.size for f in stored] == [limit]


@pytest.mark.requirement("CL-01", "CL-02", "CL-03", "CL-04")
@pytest.mark.parametrize(
    ("bucket", "content_type"),
    [(bucket, kind) for bucket in Bucket for kind in BUCKETS[bucket][2]],
)
async def test_every_declared_type_is_accepted(
    bucket: Bucket, content_type: str, people: Cast, library_of: LibraryOf
) -> None:
    library = await library_of(people.named(UPLOADER[bucket]))
    await library.store(bucket, library.path("file"), b"content", content_type)


@pytest.mark.requirement("CL-01", "CL-02", "CL-03", "CL-04", "CL-33")
@pytest.mark.parametrize(
    ("bucket", "content_type"),
    [
        (Bucket.AVATARS, "image/gif"),
        (Bucket.AVATARS, "image/svg+xml"),
        (Bucket.AVATARS, "image/png;charset=utf-8"),
        (Bucket.AVATARS, "IMAGE/PNG"),
        (Bucket.AVATARS, "text/html"),
        (Bucket.VIDEOS, "video/x-msvideo"),
        (Bucket.VIDEOS, "image/png"),
        (Bucket.MOUNTAINS, "image/svg+xml"),
        (Bucket.ASSETS, "video/mp4"),
    ],
)
async def test_any_other_declared_type_is_refused(
    bucket: Bucket,
    content_type: str,
    people: Cast,
    library_of: LibraryOf,
    project: Project,
) -> None:
    library = await library_of(people.named(UPLOADER[bucket]))
    with pytest.raises(FileRefusedError) as refused:
        await library.store(bucket, library.path("file"), b"content", content_type)
    assert refused.value.reason is Refusal.WRONG_TYPE
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("CL-33")
async def test_the_declared_type_counts_because_content_is_not_sniffed(
    people: Cast, library_of: LibraryOf
) -> None:
    library = await library_of(people.ana)
    path = library.path("spoofed.png")
    await library.store(Bucket.AVATARS, path, b"<html>not a picture", "image/png")
    async with browser() as anybody:
        served = await anybody.get(await library.public_url(Bucket.AVATARS, path))
    # A browser is told the declared type, so the page in the file never runs.
    assert served.headers["content-type"] == "image/png"


@pytest.mark.requirement("CL-02", "CL-03")
async def test_public_buckets_serve_anybody_and_private_ones_nobody(
    people: Cast, library_of: LibraryOf
) -> None:
    premium, admin = await library_of(people.premium), await library_of(people.admin)
    await premium.store(Bucket.VIDEOS, premium.path("v.mp4"), b"video", "video/mp4")
    await admin.store(Bucket.MOUNTAINS, "eiger.jpg", b"eiger", "image/jpeg")
    async with browser() as anybody:
        video = await anybody.get(
            await premium.public_url(Bucket.VIDEOS, premium.path("v.mp4"))
        )
        mountain = await anybody.get(
            await admin.public_url(Bucket.MOUNTAINS, "eiger.jpg")
        )
    assert video.status_code in (400, 404)
    assert (mountain.status_code, mountain.content) == (200, b"eiger")


@pytest.mark.requirement("CL-05", "CL-37")
async def test_applying_again_restores_a_bucket_that_drifted(
    sql: Sql, project: Project
) -> None:
    await sql.execute(
        "update storage.buckets set public = not public, file_size_limit = 1,"
        " allowed_mime_types = null"
    )
    statements = _bucket_file().read_text(encoding="utf-8")
    owner = await project.connect("postgres")
    try:
        await owner.execute(statements)
        restored = await sql.fetch("select *, xmin::text from storage.buckets")
        await owner.execute(statements)
        again = await sql.fetch("select *, xmin::text from storage.buckets")
    finally:
        await owner.close()
    assert {r["id"]: r["file_size_limit"] for r in restored} == {
        name: limit for name, (_, limit, _) in BUCKETS.items()
    }
    assert restored == again


def _bucket_file() -> Path:
    return next((sql_root() / "climber").glob("*_storage_buckets.sql"))
