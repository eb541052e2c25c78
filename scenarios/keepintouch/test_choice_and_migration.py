"""Choosing a storage, its health, and moving from local disk to Supabase."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import allure
import pytest
from aiohttp.test_utils import TestClient, TestServer

from harness.stack.project import Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.fixtures import Sql
from scenarios.flaky_gateway import FlakyGateway
from scenarios.keepintouch.factory import (
    StorageConfigurationError,
    get_storage_service,
)
from scenarios.keepintouch.local_storage_service import LocalStorageService
from scenarios.keepintouch.migration import LocalToSupabase
from scenarios.keepintouch.storage_service import StorageService
from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService
from scenarios.keepintouch.web import make_app

pytestmark = allure.feature("keepintouch: choice and migration")

NewUser = Callable[[StorageService], Awaitable[str]]
URL = {"SUPABASE_URL": "http://127.0.0.1:1"}
KEY = {"SUPABASE_SERVICE_KEY": "key"}
ANON = {"SUPABASE_ANON_KEY": "anon"}
PRODUCTION = {"APP_ENV": "production"}
LOCAL = {"STORAGE_BACKEND": "local"}


class CrashError(Exception):
    """The process dies here."""


@pytest.mark.requirement("KT-18", "KT-14")
@pytest.mark.parametrize(
    ("environ", "backend"),
    [
        ({}, "local"),
        (ANON, "local"),
        (URL | KEY, "supabase"),
        (URL | KEY | PRODUCTION, "supabase"),
        (URL | KEY | LOCAL, "local"),
        (URL | LOCAL, "local"),
    ],
)
async def test_the_environment_chooses_and_the_choice_is_logged(
    environ: dict[str, str], backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    storage = get_storage_service(environ)
    assert storage.backend == backend
    assert f"using {'Supabase' if backend == 'supabase' else 'local'} storage" in (
        caplog.messages
    )
    await storage.close()


@pytest.mark.requirement("KT-18", "KT-14")
@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (URL, "SUPABASE_SERVICE_KEY"),
        (URL | ANON, "SUPABASE_SERVICE_KEY"),
        (KEY, "SUPABASE_URL"),
        (PRODUCTION, "never uses local"),
        (PRODUCTION | URL, "SUPABASE_SERVICE_KEY"),
        (PRODUCTION | LOCAL, "never uses local"),
        ({"STORAGE_BACKEND": "supabase"}, "SUPABASE_URL"),
        ({"STORAGE_BACKEND": "s3"}, "unknown STORAGE_BACKEND"),
    ],
)
def test_half_a_configuration_fails_at_the_start(
    environ: dict[str, str], named: str
) -> None:
    with pytest.raises(StorageConfigurationError, match=named):
        get_storage_service(environ)


@pytest.mark.requirement("KT-10")
async def test_local_settings_are_taken_from_the_environment(tmp_path: Path) -> None:
    storage = get_storage_service(
        {
            "LOCAL_STORAGE_BACKUP": str(tmp_path / "backup.json"),
            "LOCAL_STORAGE_TEMP_DIR": str(tmp_path / "files"),
        }
    )
    assert isinstance(storage, LocalStorageService)
    assert storage.backup_file == tmp_path / "backup.json"
    assert storage.temp_dir == (tmp_path / "files").resolve()


@pytest.mark.requirement("KT-17")
async def test_health_names_the_backend_and_its_state(
    local: LocalStorageService,
    behind_gateway: SupabaseStorageService,
    gateway: FlakyGateway,
) -> None:
    async with TestClient(TestServer(make_app(local))) as site:
        answer = await site.get("/health")
        assert (answer.status, await answer.json()) == (
            200,
            {"status": "ok", "storage_backend": "local"},
        )
    async with TestClient(TestServer(make_app(behind_gateway))) as site:
        assert (await (await site.get("/health")).json())["status"] == "ok"
        gateway.reset_all(path="/storage/v1")
        answer = await site.get("/health")
        assert (answer.status, await answer.json()) == (
            503,
            {"status": "degraded", "storage_backend": "supabase"},
        )


@pytest.fixture
async def source(local: LocalStorageService, new_user: NewUser) -> LocalStorageService:
    """Return a local storage with two users, two sessions and four documents."""
    for _ in range(2):
        user = await new_user(local)
        await local.create_onboarding_session(user)
        for name in ("cv.pdf", "résumé.pdf"):
            await local.add_document(
                user, f"{user} {name}".encode(), name, "text/plain"
            )
    session = await local.create_onboarding_session()
    await local.update_onboarding_session(session, {"step": 2})
    return local


@pytest.mark.requirement("KT-20", "KT-23")
async def test_everything_arrives_with_its_ids_and_bytes(
    source: LocalStorageService, supabase: SupabaseStorageService, project: Project
) -> None:
    migration = LocalToSupabase(source, supabase)
    assert not (await migration.verify()).is_clean
    done = await migration.run()
    assert (done.users, done.sessions, done.documents, done.failures) == (2, 3, 4, [])
    assert (await migration.verify()).is_clean
    for user in source.users:
        here = await source.get_documents_for_user(user)
        there = await supabase.get_documents_for_user(user)
        assert {d["id"] for d in here} == {d["id"] for d in there}
        for document in there:
            content = await supabase.read_file(user, document["file_path"])
            assert content == f"{user} {document['filename']}".encode()
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("KT-20")
async def test_a_second_run_doubles_nothing(
    source: LocalStorageService, supabase: SupabaseStorageService, sql: Sql
) -> None:
    await LocalToSupabase(source, supabase).run()
    again = await LocalToSupabase(source, supabase).run()
    assert (again.users, again.sessions, again.documents) == (0, 0, 0)
    assert await sql.fetchval("select count(*) from public.documents") == 4
    assert await sql.fetchval("select count(*) from storage.objects") == 4


@pytest.mark.requirement("KT-20", "KT-23")
@pytest.mark.parametrize("crash_at", range(13))
async def test_a_crash_at_any_step_and_a_rerun_bring_everything_once(
    crash_at: int,
    source: LocalStorageService,
    supabase: SupabaseStorageService,
    sql: Sql,
    project: Project,
) -> None:
    steps: list[str] = []

    def crash(step: str) -> None:
        steps.append(step)
        if len(steps) > crash_at:
            raise CrashError(step)

    # Two users, three sessions, four documents of two steps each.
    with pytest.raises(CrashError):
        await LocalToSupabase(source, supabase, checkpoint=crash).run()
    documents_without_file = await sql.fetchval(
        "select count(*) from public.documents d where not exists"
        " (select from storage.objects o where o.name = d.file_path)"
    )
    assert documents_without_file == 0
    await LocalToSupabase(source, supabase).run()
    assert (await LocalToSupabase(source, supabase).verify()).is_clean
    assert await sql.fetchval("select count(*) from storage.objects") == 4
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("KT-23")
async def test_rolling_back_removes_the_copies_and_keeps_the_local_data(
    source: LocalStorageService, supabase: SupabaseStorageService, sql: Sql
) -> None:
    migration = LocalToSupabase(source, supabase)
    await migration.run()
    assert await migration.roll_back() == 2
    for table in ("auth.users", "public.documents", "storage.objects"):
        assert await sql.fetchval(f"select count(*) from {table}") == 0
    assert await sql.fetchval("select count(*) from public.onboarding_sessions") == 0
    for document in source.documents.values():
        content = await source.read_file(document["user_id"], document["file_path"])
        assert content
    await migration.run()
    assert (await migration.verify()).is_clean


@pytest.mark.requirement("KT-23", "KT-20")
async def test_what_does_not_arrive_is_reported(
    source: LocalStorageService, supabase: SupabaseStorageService, sql: Sql
) -> None:
    first, second, *_ = source.documents.values()
    await source.delete_file(first["user_id"], first["file_path"])
    migration = LocalToSupabase(source, supabase)
    done = await migration.run()
    assert [failed for failed, _ in done.failures] == [first["id"]]
    await supabase.delete_file(second["user_id"], second["file_path"])
    report = await migration.verify()
    assert set(report.documents) == {first["id"], second["id"]}
    assert (report.users, report.sessions) == ((), ())
