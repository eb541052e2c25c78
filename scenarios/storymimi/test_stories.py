"""Stories: made whole or not at all, without stalling anybody, and deleted whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import allure
import pytest
from aiohttp.test_utils import TestClient, TestServer
from postgrest.exceptions import APIError

from harness.stack.project import Persona, Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.browsing import browser
from scenarios.fixtures import AsPersona, Sql
from scenarios.flaky_gateway import FlakyGateway
from scenarios.storymimi.clients import storage_client
from scenarios.storymimi.image_storage import ImageStorage
from scenarios.storymimi.maintenance import backup, report
from scenarios.storymimi.stories import StoryRepository
from scenarios.storymimi.story_service import (
    RateLimitedError,
    StoryFailedError,
    StoryRequest,
    StoryService,
)
from scenarios.storymimi.telling import PlainStoryteller, png
from scenarios.storymimi.web import Signed, make_app

pytestmark = allure.feature("storymimi: stories")

ServiceWith = Callable[..., StoryService]
UPLOAD = "/storage/v1/object/story-images/"


def asks(author: Persona, title: str = "The mouse") -> StoryRequest:
    return StoryRequest(author.id, title, "A mouse that travels")


@pytest.mark.requirement("SM-09", "SM-18", "SM-04")
async def test_a_story_comes_back_with_its_scenes_and_pictures(
    service_with: ServiceWith, mia: Persona, stories: StoryRepository
) -> None:
    made = await service_with().create_new_story(asks(mia))
    assert set(made) == {
        "story_id",
        "title",
        "scenes",
        "created_at",
        "updated_at",
        "user_id",
    }
    assert (made["title"], made["user_id"]) == ("The mouse", mia.id)
    assert [scene["idx"] for scene in made["scenes"]] == [0, 1, 2]
    async with browser() as reader:
        for scene in made["scenes"]:
            shown = await reader.get(scene["image_url"])
            assert shown.content == png(scene["text"])
    stored = await stories.find(made["story_id"])
    assert stored is not None
    assert (stored.status, stored.updated_at) == ("ready", made["updated_at"])
    assert len(await stories.scenes(made["story_id"])) == 3


@pytest.mark.requirement("SM-09")
async def test_the_time_of_the_last_change_is_that_of_the_finished_story(
    service_with: ServiceWith, mia: Persona
) -> None:
    made = await service_with().create_new_story(asks(mia))
    created, updated = (
        datetime.fromisoformat(made[key]) for key in ("created_at", "updated_at")
    )
    assert updated > created


@pytest.mark.requirement("SM-10")
@pytest.mark.parametrize("broken", [[0], [2], [1, 2], [0, 1, 2]])
async def test_a_picture_that_fails_leaves_a_failed_story_and_no_orphan(
    broken: list[int],
    service_with: ServiceWith,
    mia: Persona,
    sql: Sql,
    project: Project,
) -> None:
    with pytest.raises(StoryFailedError) as failed:
        await service_with(PlainStoryteller(broken=broken)).create_new_story(asks(mia))
    status = await sql.fetchval("select status from public.stories")
    assert (status, failed.value.story_id != "") == ("failed", True)
    assert await sql.fetchval("select count(*) from storage.objects") == 0
    assert await sql.fetchval("select count(*) from public.scenes") == 0
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("SM-10", "SM-13")
@pytest.mark.parametrize("uploads_before", [0, 1, 2])
async def test_an_outage_in_the_middle_leaves_no_orphan(
    uploads_before: int,
    service_with: ServiceWith,
    gateway: FlakyGateway,
    mia: Persona,
    sql: Sql,
) -> None:
    passed: list[str] = []

    def plan(method: str, path: str) -> int | None:
        if method == "POST" and UPLOAD in path:
            if len(passed) >= uploads_before and path not in passed:
                return 503
            passed.append(path)
        return None

    gateway.plan = plan
    with pytest.raises(StoryFailedError):
        await service_with().create_new_story(asks(mia))
    assert len(passed) == uploads_before
    assert await sql.fetchval("select count(*) from storage.objects") == 0


@pytest.mark.requirement("SM-10")
async def test_a_storyteller_that_fails_leaves_a_failed_story(
    service_with: ServiceWith, mia: Persona, sql: Sql
) -> None:
    class Speechless(PlainStoryteller):
        async def scenes(self, title: str, prompt: str) -> list[str]:
            raise TimeoutError("the model did not answer")

    with pytest.raises(StoryFailedError, match="did not answer"):
        await service_with(Speechless()).create_new_story(asks(mia))
    assert await sql.fetchval("select status from public.stories") == "failed"


@pytest.mark.requirement("SM-11", "SM-18")
async def test_slow_uploads_run_side_by_side_and_stall_nobody(
    service_with: ServiceWith, gateway: FlakyGateway, mia: Persona
) -> None:
    gateway.delay_s = 0.6
    longest_stall_s = 0.0
    done = False

    async def watch() -> None:
        nonlocal longest_stall_s
        while not done:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest_stall_s = max(longest_stall_s, time.perf_counter() - before)

    watcher = asyncio.create_task(watch())
    await service_with(PlainStoryteller(5)).create_new_story(asks(mia))
    done = True
    await watcher
    assert gateway.peak == 5
    # An upload that blocked the loop would have stalled it as long as it was held back.
    assert longest_stall_s < gateway.delay_s


@pytest.mark.requirement("SM-17")
async def test_the_sixth_story_in_a_minute_is_one_too_many(
    service_with: ServiceWith, mia: Persona, sql: Sql
) -> None:
    service = service_with(PlainStoryteller(0))
    for _ in range(5):
        await service.create_new_story(asks(mia))
    with pytest.raises(RateLimitedError):
        await service.create_new_story(asks(mia))
    await sql.execute("update public.rate_limits set at = at - interval '1 minute'")
    await service.create_new_story(asks(mia))


@pytest.mark.requirement("SM-17")
async def test_parallel_requests_count_right(
    service_with: ServiceWith, mia: Persona
) -> None:
    service = service_with(PlainStoryteller(0))
    outcomes = await asyncio.gather(
        *(service.create_new_story(asks(mia)) for _ in range(12)),
        return_exceptions=True,
    )
    assert len([o for o in outcomes if isinstance(o, dict)]) == 5
    assert len([o for o in outcomes if isinstance(o, RateLimitedError)]) == 7


@pytest.mark.requirement("SM-17", "SM-09")
async def test_the_web_interface_answers_with_the_right_status(
    service_with: ServiceWith, mia: Persona
) -> None:
    service = service_with(PlainStoryteller(1))

    async def sign_in(token: str) -> Signed | None:
        return Signed(mia.id, service) if token == mia.token else None

    signed = {"Authorization": f"Bearer {mia.token}"}
    story: dict[str, Any] = {"title": "The mouse", "prompt": "A mouse"}
    async with TestClient(TestServer(make_app(sign_in))) as site:
        assert (await site.post("/stories", json=story)).status == 401
        for wrong in ({}, {"title": " ", "prompt": "x"}, {"title": "x" * 201}):
            answer = await site.post("/stories", json=wrong, headers=signed)
            assert answer.status == 400
        statuses = [
            (await site.post("/stories", json=story, headers=signed)).status
            for _ in range(6)
        ]
        unknown = await site.delete(f"/stories/{mia.id}", headers=signed)
    assert statuses == [201] * 5 + [429]
    assert unknown.status == 404


@pytest.mark.requirement("SM-21")
async def test_stories_and_scenes_are_their_authors_alone(
    service_with: ServiceWith, mia: Persona, leo: Persona, as_persona: AsPersona
) -> None:
    made = await service_with().create_new_story(asks(mia))
    stranger = await as_persona(leo)
    for table in ("stories", "scenes"):
        assert (await stranger.table(table).select("*").execute()).data == []
        everything = stranger.table(table).delete().neq("text", "")
        if table == "stories":
            everything = stranger.table(table).delete().neq("title", "")
        assert (await everything.execute()).data == []
    planted = {"story_id": made["story_id"], "idx": 9, "text": "evil"}
    with pytest.raises(APIError) as refused:
        await stranger.table("scenes").insert(planted).execute()
    assert refused.value.code == "42501"
    repository = StoryRepository(stranger)
    assert await repository.find(made["story_id"]) is None


@pytest.mark.requirement("SM-22")
async def test_deleting_a_story_removes_its_pictures_only(
    service_with: ServiceWith, mia: Persona, sql: Sql, project: Project
) -> None:
    service = service_with()
    first, second = [await service.create_new_story(asks(mia)) for _ in range(2)]
    assert await service.delete_story(mia.id, first["story_id"]) is True
    assert await service.delete_story(mia.id, first["story_id"]) is False
    left = await sql.fetch("select name from storage.objects")
    assert len(left) == 3
    assert all(f"/{second['story_id']}/" in row["name"] for row in left)
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("SM-22")
async def test_a_deletion_that_fails_halfway_can_be_repeated(
    service_with: ServiceWith, gateway: FlakyGateway, mia: Persona, sql: Sql
) -> None:
    service = service_with()
    made = await service.create_new_story(asks(mia))
    gateway.fail_all(503, path="/storage/v1/object/story-images")
    with pytest.raises(Exception, match="cannot remove"):
        await service.delete_story(mia.id, made["story_id"])
    gateway.recover()
    assert await service.delete_story(mia.id, made["story_id"]) is True
    assert await sql.fetchval("select count(*) from storage.objects") == 0


@pytest.mark.requirement("SM-20")
async def test_maintenance_reports_usage_settings_and_versions(
    service_with: ServiceWith, mia: Persona, project: Project
) -> None:
    await service_with().create_new_story(asks(mia))
    service = storage_client(project.url, project.service_role_key)
    told = await asyncio.to_thread(report, service)
    assert (told.images, told.image_bytes) == (3, 3 * len(png("")))
    assert told.stories_by_status == {"ready": 1}
    assert (told.bucket_public, told.bucket_types) == (True, ("image/png",))
    assert set(told.versions) == {"supabase", "storage3", "postgrest", "httpx"}
    _close(service)


@pytest.mark.requirement("SM-20")
async def test_a_backup_holds_every_row_and_picture(
    service_with: ServiceWith, mia: Persona, project: Project, tmp_path: Path
) -> None:
    made = await service_with().create_new_story(asks(mia))
    service = storage_client(project.url, project.service_role_key)
    assert await asyncio.to_thread(backup, service, tmp_path) == 3
    rows, pictures = await asyncio.to_thread(_read_backup, tmp_path)
    assert pictures == {png(scene["text"]) for scene in made["scenes"]}
    assert made["story_id"] in rows
    _close(service)


@pytest.mark.requirement("SM-18")
async def test_one_upload_is_one_request(
    images: ImageStorage, stories: StoryRepository, gateway: FlakyGateway, mia: Persona
) -> None:
    story = await stories.create(mia.id, "The mouse", "A mouse")
    await asyncio.to_thread(images.upload_image, mia.id, story.id, 0, png("x"))
    assert [method for method, _ in gateway.seen] == ["POST"]


def _read_backup(folder: Path) -> tuple[str, set[bytes]]:
    pictures = {path.read_bytes() for path in folder.rglob("*.png")}
    return (folder / "stories.json").read_text(encoding="utf-8"), pictures


def _close(client: Any) -> None:
    client.storage.session.close()
    client.auth.close()
    client.postgrest.session.close()
