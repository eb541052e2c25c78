"""The profile picture: functions, triggers, and the URL after any history."""

from __future__ import annotations

from typing import Any

import allure
import pytest
from postgrest.exceptions import APIError

from harness.clock import seeded
from harness.stack.project import Persona, Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.browsing import browser
from scenarios.climber.avatars import AvatarOutbox, Avatars
from scenarios.climber.cast import Cast, LibraryOf
from scenarios.climber.media import Bucket
from scenarios.fixtures import AsPersona, Sql
from scenarios.public_url import set_public_url

pytestmark = allure.feature("climber: avatars")

PNG = "image/png"


@pytest.fixture(autouse=True)
async def _known_url(project: Project) -> None:
    await set_public_url(project)


@pytest.fixture
async def avatars(people: Cast, as_persona: AsPersona) -> Avatars:
    """Return the picture of ana."""
    return Avatars(await as_persona(people.ana), people.ana.id)


@pytest.fixture
async def outbox(people: Cast, as_persona: AsPersona) -> AvatarOutbox:
    """Return the outbox, with the service key."""
    return AvatarOutbox(await as_persona(people.service))


async def profile_url(sql: Sql, persona: Persona) -> str | None:
    url: str | None = await sql.fetchval(
        "select profile_image_url from public.user_profiles where id = $1::text::uuid",
        persona.id,
    )
    return url


async def served(url: str | None) -> bytes | None:
    assert url is not None
    async with browser() as anybody:
        answer = await anybody.get(url)
    return answer.content if answer.status_code == 200 else None


@pytest.mark.requirement("CL-16", "CL-17", "CL-44")
async def test_an_uploaded_avatar_is_served_at_the_url_that_was_returned(
    avatars: Avatars, outbox: AvatarOutbox, people: Cast, sql: Sql, project: Project
) -> None:
    url = await avatars.upload("my face (1).png", b"\x89PNG face", PNG)
    assert await outbox.drain() == 1
    assert await served(url) == b"\x89PNG face"
    assert await avatars.url() == url == await profile_url(sql, people.ana)
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("CL-17")
async def test_uploading_the_same_name_again_replaces_the_picture(
    avatars: Avatars, outbox: AvatarOutbox
) -> None:
    await avatars.upload("face.png", b"first", PNG)
    url = await avatars.upload("face.png", b"second", PNG)
    assert await outbox.drain() == 2
    assert await served(url) == b"second"


@pytest.mark.requirement("CL-17")
@pytest.mark.parametrize(
    ("name", "size", "content_type"),
    [
        ("evil.html", 10, "text/html"),
        ("big.png", 5_242_881, PNG),
        ("../face.png", 10, PNG),
        ("a/b.png", 10, PNG),
        ("..", 10, PNG),
        ("", 10, PNG),
        ("résumé.png", 10, PNG),
    ],
)
async def test_a_picture_that_storage_would_refuse_is_refused_at_once(
    name: str, size: int, content_type: str, avatars: Avatars, outbox: AvatarOutbox
) -> None:
    with pytest.raises(APIError):
        await avatars.upload(name, bytes(size), content_type)
    assert await outbox.drain() == 0


@pytest.mark.requirement("CL-17", "CL-18", "CL-16", "CL-41")
@pytest.mark.parametrize("caller", ["anon", "ana", "admin"])
async def test_nobody_touches_the_picture_of_another(
    caller: str, people: Cast, as_persona: AsPersona, library_of: LibraryOf, sql: Sql
) -> None:
    ben = await library_of(people.ben)
    await ben.store(Bucket.AVATARS, ben.path("ben.png"), b"ben", PNG)
    before = await profile_url(sql, people.ben)
    stranger = Avatars(await as_persona(people.named(caller)), people.ben.id)
    for attempt in (
        stranger.upload("evil.png", b"evil", PNG),
        stranger.delete(),
        stranger.url(),
    ):
        with pytest.raises(APIError) as refused:
            await attempt
        assert refused.value.code == "42501"
    assert await profile_url(sql, people.ben) == before
    assert await sql.fetchval("select count(*) from public.avatar_outbox") == 0


@pytest.mark.requirement("CL-18")
async def test_deleting_removes_every_picture_and_says_whether_there_was_one(
    avatars: Avatars,
    outbox: AvatarOutbox,
    people: Cast,
    library_of: LibraryOf,
    sql: Sql,
) -> None:
    assert await avatars.delete() is False
    ana = await library_of(people.ana)
    await ana.store(Bucket.AVATARS, ana.path("old.png"), b"old", PNG)
    await avatars.upload("new.png", b"new", PNG)
    await outbox.drain()
    assert await avatars.delete() is True
    await outbox.drain()
    assert await ana.files(Bucket.AVATARS, people.ana.id) == []
    assert await profile_url(sql, people.ana) is None
    assert await avatars.delete() is False


@pytest.mark.requirement("CL-19")
async def test_metadata_is_shown_to_those_who_may_see_the_file(
    people: Cast, as_persona: AsPersona, library_of: LibraryOf
) -> None:
    premium = await library_of(people.premium)
    path = premium.path("climb.mp4")
    await premium.store(Bucket.VIDEOS, path, b"12345", "video/mp4")

    async def metadata(persona: Persona) -> Any:
        client = await as_persona(persona)
        arguments = {"p_bucket_id": "training-videos", "p_file_path": path}
        return (await client.rpc("get_file_metadata", arguments).execute()).data

    assert await metadata(people.anon) == []
    (row,) = await metadata(people.ana)
    assert (row["file_name"], row["file_size"], row["content_type"]) == (
        path,
        5,
        "video/mp4",
    )


@pytest.mark.requirement("CL-26")
async def test_an_upload_sets_the_url_and_a_rename_moves_it(
    people: Cast, library_of: LibraryOf, sql: Sql
) -> None:
    ana = await library_of(people.ana)
    await ana.store(Bucket.AVATARS, ana.path("face.png"), b"face", PNG)
    assert await served(await profile_url(sql, people.ana)) == b"face"
    await ana.rename(Bucket.AVATARS, ana.path("face.png"), ana.path("new.png"))
    assert await served(await profile_url(sql, people.ana)) == b"face"


@pytest.mark.requirement("CL-27")
async def test_deleting_an_older_picture_keeps_the_url_of_the_newer(
    people: Cast, library_of: LibraryOf, sql: Sql
) -> None:
    ana = await library_of(people.ana)
    await ana.store(Bucket.AVATARS, ana.path("old.png"), b"old", PNG)
    await ana.store(Bucket.AVATARS, ana.path("new.png"), b"new", PNG)
    await ana.remove(Bucket.AVATARS, ana.path("old.png"))
    assert await served(await profile_url(sql, people.ana)) == b"new"
    await ana.remove(Bucket.AVATARS, ana.path("new.png"))
    assert await profile_url(sql, people.ana) is None


@pytest.mark.requirement("CL-26", "CL-27", "CL-39", "HX-06")
@pytest.mark.parametrize("seed", range(4))
async def test_the_url_is_that_of_the_newest_picture_after_any_history(
    seed: int, people: Cast, library_of: LibraryOf, sql: Sql, project: Project
) -> None:
    random = seeded(seed)
    ana = await library_of(people.ana)
    newest_last: dict[str, bytes] = {}
    names = [ana.path(name) for name in ("a.png", "b.png", "c.png")]
    for step in range(25):
        name, other = random.sample(names, 2)
        action = random.choice(["store", "store", "rename", "copy", "nested", "remove"])
        content = f"{seed}-{step}".encode()
        if action == "store":
            await ana.store(Bucket.AVATARS, name, content, PNG, replace=True)
            newest_last.pop(name, None)
            newest_last[name] = content
        elif action == "nested":
            draft = ana.path(f"drafts/{step}.png")
            await ana.store(Bucket.AVATARS, draft, content, PNG)
        elif action == "remove":
            await ana.remove(Bucket.AVATARS, name)
            newest_last.pop(name, None)
        elif name in newest_last and other not in newest_last:
            if action == "rename":
                await ana.rename(Bucket.AVATARS, name, other)
                newest_last[other] = newest_last.pop(name)
            else:
                await ana.duplicate(Bucket.AVATARS, name, other)
                newest_last[other] = newest_last[name]
        url = await profile_url(sql, people.ana)
        expected = next(reversed(newest_last), None)
        assert (url or "").rpartition("/")[2] == (expected or "").rpartition("/")[2], (
            f"after step {step}, {action} {name} {other}"
        )
        if expected is not None:
            assert await served(url) == newest_last[expected]
    await assert_rows_and_bytes_agree(project)
