"""Pictures: clients, bucket, names, bytes, URLs, retries, validation."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import allure
import pytest
from hypothesis import given
from hypothesis import strategies as st
from supabase import Client, create_client

from harness.stack.project import Persona, Project
from scenarios.browsing import browser
from scenarios.fixtures import Sql
from scenarios.flaky_gateway import FlakyGateway
from scenarios.storymimi.clients import (
    ClientSettingsError,
    database_client,
    storage_client,
)
from scenarios.storymimi.image_storage import (
    MAX_BYTES,
    PNG_SIGNATURE,
    BucketError,
    ImageStorage,
    ImageStorageError,
    InvalidImageError,
)
from scenarios.storymimi.image_urls import ForeignUrlError, path_of, public_url
from scenarios.storymimi.stories import StoryRepository
from scenarios.storymimi.telling import png

pytestmark = allure.feature("storymimi: images")

ImagesOf = Callable[[Persona], ImageStorage]
UPLOAD = "/storage/v1/object/story-images/"


@pytest.fixture
async def story_id(stories: StoryRepository, mia: Persona) -> str:
    """Return a story of mia."""
    return (await stories.create(mia.id, "The mouse", "A mouse")).id


@pytest.mark.requirement("SM-01")
def test_a_client_takes_no_is_async(project: Project) -> None:
    make: Any = create_client
    with pytest.raises(TypeError, match="is_async"):
        make(project.url, project.anon_key, is_async=True)
    assert isinstance(storage_client(project.url, project.anon_key), Client)


@pytest.mark.requirement("SM-02")
def test_the_storage_client_is_that_of_the_supabase_client(project: Project) -> None:
    client = storage_client(project.url, project.anon_key)
    assert ImageStorage(client, project.url).storage is client.storage
    client.storage.session.close()


@pytest.mark.requirement("SM-12")
@pytest.mark.parametrize(
    ("url", "key"),
    [("", "key"), ("localhost:54321", "key"), ("ftp://x", "key"), ("http://x", "")],
)
async def test_a_wrong_url_or_key_fails_at_the_start(url: str, key: str) -> None:
    with pytest.raises(ClientSettingsError):
        storage_client(url, key)
    with pytest.raises(ClientSettingsError):
        await database_client(url, key)


@pytest.mark.requirement("SM-03", "SM-18")
def test_ensuring_a_bucket_that_exists_makes_none(
    images_of: ImagesOf, gateway: FlakyGateway, project: Project
) -> None:
    service = images_of(project.service)
    service.ensure_bucket()
    service.ensure_bucket()
    assert ("POST", "/storage/v1/bucket") not in gateway.seen


@pytest.mark.requirement("SM-03", "SM-04", "SM-19")
async def test_ensuring_a_missing_bucket_makes_it_public_with_limits(
    images_of: ImagesOf, project: Project, sql: Sql
) -> None:
    await _drop_bucket(sql)
    images_of(project.service).ensure_bucket()
    row = await sql.fetchrow("select * from storage.buckets")
    assert row is not None
    assert (row["public"], row["file_size_limit"]) == (True, MAX_BYTES)
    assert row["allowed_mime_types"] == ["image/png"]


@pytest.mark.requirement("SM-03")
async def test_a_bucket_that_somebody_else_makes_meanwhile_is_fine(
    images_of: ImagesOf, gateway: FlakyGateway, project: Project
) -> None:
    gateway.fail_next(404, method="GET", path="/storage/v1/bucket/story-images")
    images_of(project.service).ensure_bucket()
    assert ("POST", "/storage/v1/bucket") in gateway.seen


@pytest.mark.requirement("SM-03", "SM-08", "SM-19")
async def test_a_missing_bucket_that_may_not_be_made_is_an_error(
    images: ImageStorage, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    await _drop_bucket(sql)
    with pytest.raises(BucketError, match="create bucket"):
        images.ensure_bucket()
    assert [r.__dict__["operation"] for r in caplog.records if r.levelname == "ERROR"]


@pytest.mark.requirement("SM-03")
def test_an_unreachable_server_is_an_error(
    images_of: ImagesOf, gateway: FlakyGateway, project: Project
) -> None:
    gateway.reset_all()
    with pytest.raises(BucketError, match="look up bucket"):
        images_of(project.service).ensure_bucket()


@pytest.mark.requirement("SM-03", "SM-04")
async def test_a_private_bucket_is_an_error(
    images_of: ImagesOf, project: Project, sql: Sql
) -> None:
    await sql.execute("update storage.buckets set public = false")
    with pytest.raises(BucketError, match="private"):
        images_of(project.service).ensure_bucket()


@pytest.mark.requirement("SM-04", "SM-06", "SM-07")
async def test_anybody_gets_exactly_the_stored_bytes_at_the_url(
    images: ImageStorage, mia: Persona, story_id: str
) -> None:
    picture = png("a mouse")
    url = images.upload_image(mia.id, story_id, 0, picture)
    async with browser() as anybody:
        served = await anybody.get(url)
        head = await anybody.head(url)
    assert (served.status_code, served.content) == (200, picture)
    assert head.headers["content-type"] == "image/png"


@pytest.mark.requirement("SM-05", "SM-22")
def test_a_thousand_names_are_all_different(
    monkeypatch: pytest.MonkeyPatch, images: ImageStorage
) -> None:
    monkeypatch.setattr(images, "_upload", lambda path, image: None)
    urls = {images.upload_image("u", "s", n % 3, png("")) for n in range(1000)}
    assert len(urls) == 1000
    name = re.compile(r".*/story-images/u/s/scene_\d+_[0-9a-f-]{36}\.png")
    assert all(name.fullmatch(url) for url in urls)


BASES = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z0-9]{1,20}(\.[a-z]{2,5})?(:[1-9][0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["", "/p/ref"]),
    st.sampled_from(["", "/", "//"]),
)
PATHS = st.lists(
    st.from_regex(r"[A-Za-z0-9_!'() &$=@;:+,?-]{1,12}", fullmatch=True),
    min_size=1,
    max_size=4,
).map("/".join)


@pytest.mark.requirement("SM-07", "SM-16", "SM-19")
@given(base=BASES, path=PATHS)
def test_a_public_url_is_valid_for_any_base_and_path(base: str, path: str) -> None:
    url = public_url(base, path)
    ours, made = urlsplit(base), urlsplit(url)
    assert (made.scheme, made.netloc) == (ours.scheme, ours.netloc)
    assert url.count("://") == 1
    assert (made.query, made.fragment) == ("", "")
    assert path_of(base, url) == path


@pytest.mark.requirement("SM-16")
@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://evil.test/storage/v1/object/public/story-images/u/s/a.png",
        "http://host.test@evil.test/storage/v1/object/public/story-images/a.png",
        "https://host.test/storage/v1/object/public/story-images/a.png",
        "http://host.test/storage/v1/object/public/other-bucket/a.png",
        "http://host.test/storage/v1/object/public/story-images/../x/a.png",
        "http://host.test/storage/v1/object/public/story-images/%2e%2e/a.png",
        "http://host.test/storage/v1/object/public/story-images/a.png?token=x",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_is_not_ours_is_never_used(url: str) -> None:
    with pytest.raises(ForeignUrlError):
        path_of("http://host.test", url)


@pytest.mark.requirement("SM-13")
@pytest.mark.parametrize("failures", [(503,), (503, 503), (500, 429), (0, 502)])
async def test_a_transient_failure_is_tried_again_without_doubles(
    failures: tuple[int, ...],
    images: ImageStorage,
    gateway: FlakyGateway,
    mia: Persona,
    story_id: str,
    sql: Sql,
) -> None:
    gateway.fail_next(*failures, path=UPLOAD)
    images.upload_image(mia.id, story_id, 0, png("a mouse"))
    tries = [path for method, path in gateway.seen if UPLOAD in path]
    assert len(tries) == len(failures) + 1
    assert len(set(tries)) == 1
    assert await sql.fetchval("select count(*) from storage.objects") == 1


@pytest.mark.requirement("SM-13", "SM-08")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415])
def test_a_refusal_is_not_tried_again_and_is_logged_once(
    status: int,
    images: ImageStorage,
    gateway: FlakyGateway,
    mia: Persona,
    story_id: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway.fail_all(status, path=UPLOAD)
    with pytest.raises(ImageStorageError) as failed:
        images.upload_image(mia.id, story_id, 0, png("a mouse"))
    assert failed.value.__cause__ is not None
    assert len([p for _, p in gateway.seen if UPLOAD in p]) == 1
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.__dict__["operation"] == "upload"
    assert record.__dict__["bucket"] == "story-images"
    assert record.__dict__["path"].startswith(f"{mia.id}/{story_id}/scene_0_")


@pytest.mark.requirement("SM-13")
def test_an_outage_that_lasts_is_given_up(
    images: ImageStorage, gateway: FlakyGateway, mia: Persona, story_id: str
) -> None:
    gateway.fail_all(503, path=UPLOAD)
    with pytest.raises(ImageStorageError):
        images.upload_image(mia.id, story_id, 0, png("a mouse"))
    assert len([p for _, p in gateway.seen if UPLOAD in p]) == 3


@pytest.mark.requirement("SM-14", "SM-19")
@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"GIF89a picture",
        b"\xff\xd8\xff jpeg",
        b"<svg/>",
        PNG_SIGNATURE[:7],
        PNG_SIGNATURE + bytes(MAX_BYTES),
    ],
    ids=["empty", "gif", "jpeg", "svg", "cut", "too large"],
)
def test_what_is_no_png_or_too_large_is_never_sent(
    image: bytes, images: ImageStorage, gateway: FlakyGateway, mia: Persona
) -> None:
    with pytest.raises(InvalidImageError):
        images.upload_image(mia.id, "story", 0, image)
    assert gateway.seen == []


@pytest.mark.requirement("SM-14")
async def test_an_image_of_exactly_the_limit_is_stored(
    images: ImageStorage, mia: Persona, story_id: str
) -> None:
    picture = PNG_SIGNATURE + bytes(MAX_BYTES - len(PNG_SIGNATURE))
    images.upload_image(mia.id, story_id, 0, picture)


@pytest.mark.requirement("SM-15", "SM-19", "SM-21")
async def test_pictures_are_stored_by_the_author_of_the_story_only(
    images_of: ImagesOf, mia: Persona, leo: Persona, project: Project, story_id: str
) -> None:
    for who, folder in ((project.anon, mia.id), (leo, mia.id), (leo, leo.id)):
        with pytest.raises(ImageStorageError, match="row-level security"):
            images_of(who).upload_image(folder, story_id, 0, png("x"))
    images_of(mia).upload_image(mia.id, story_id, 0, png("x"))
    assert images_of(leo).images_of(mia.id, story_id) == []
    assert len(images_of(mia).images_of(mia.id, story_id)) == 1


async def _drop_bucket(sql: Sql) -> None:
    async with sql.transaction():
        await sql.execute("set local storage.allow_delete_query = 'true'")
        await sql.execute("delete from storage.buckets")
