"""Supabase storage: schema, policies, volumes, migration, backup, upkeep."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import allure
import pytest
from faker import Faker
from storage3.exceptions import StorageApiError

from harness.stack.project import Persona, Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.browsing import browser
from scenarios.fixtures import AsPersona, Sql
from scenarios.flaky_gateway import FlakyGateway
from scenarios.keepintouch.backup import BackupError, back_up, restore
from scenarios.keepintouch.repositories import TABLES, all_rows
from scenarios.keepintouch.storage_service import (
    FileRejectedError,
    StorageService,
    StorageUnavailableError,
)
from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService
from scenarios.keepintouch.upkeep import find_orphans, sweep

pytestmark = allure.feature("keepintouch: supabase storage")

NewUser = Callable[[StorageService], Awaitable[str]]
BUCKET = "user-documents"


def signed_in(project: Project, user_id: str) -> Persona:
    return Persona(user_id, project.token(user_id), "authenticated")


@pytest.mark.requirement("KT-12", "KT-28")
async def test_nine_tables_have_keys_policies_and_timestamps(sql: Sql) -> None:
    rows = await sql.fetch(
        """
        select c.relname, c.relrowsecurity,
          exists (select from pg_policy p where p.polrelid = c.oid) as has_policy,
          exists (select from pg_trigger t where t.tgrelid = c.oid
                  and not t.tgisinternal) as has_trigger,
          exists (select from pg_constraint k where k.conrelid = c.oid
                  and k.contype = 'f') as has_key
        from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
        """
    )
    assert {row["relname"] for row in rows} == set(TABLES)
    assert all(all(tuple(row)[1:]) for row in rows)


@pytest.mark.requirement("KT-12")
async def test_every_foreign_key_is_indexed(sql: Sql) -> None:
    bare = await sql.fetch(
        """
        select k.conrelid::regclass, k.conname
        from pg_constraint k
        where k.contype = 'f' and k.connamespace = 'public'::regnamespace
          and not exists (
            select from pg_index i
            where i.indrelid = k.conrelid
              and (i.indkey::int2[])[0] = k.conkey[1])
        """
    )
    assert bare == []


@pytest.mark.requirement("KT-12")
async def test_updated_at_follows_every_change(
    supabase: SupabaseStorageService, new_user: NewUser, sql: Sql
) -> None:
    user = await new_user(supabase)
    stamps = [
        await sql.fetchval(
            "update public.users set name = name where id = $1::text::uuid"
            " returning updated_at",
            user,
        )
        for _ in range(5)
    ]
    assert stamps == sorted(set(stamps))


@pytest.mark.requirement("KT-15", "KT-13")
@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("{own}/documents/a.txt", True),
        ("{own}/profile/a.txt", True),
        ("{own}/a.txt", False),
        ("{own}/other/a.txt", False),
        ("{own}/documents/deeper/a.txt", False),
        ("{other}/documents/a.txt", False),
        ("documents/a.txt", False),
        ("a.txt", False),
    ],
)
async def test_a_user_uploads_into_two_folders_of_their_own(
    path: str,
    accepted: bool,
    project: Project,
    supabase: SupabaseStorageService,
    new_user: NewUser,
    as_persona: AsPersona,
) -> None:
    own, other = await new_user(supabase), await new_user(supabase)
    client = await as_persona(signed_in(project, own))
    bucket = client.storage.from_(BUCKET)
    name = path.format(own=own, other=other)
    if accepted:
        await bucket.upload(name, b"x", {"content-type": "text/plain"})
        await bucket.upload(
            name, b"y", {"content-type": "text/plain", "upsert": "true"}
        )
        assert await bucket.download(name) == b"y"
        assert await bucket.remove([name])
    else:
        with pytest.raises(StorageApiError) as refused:
            await bucket.upload(name, b"x", {"content-type": "text/plain"})
        assert refused.value.status == "403"


@pytest.mark.requirement("KT-15", "KT-16")
async def test_nobody_else_reaches_a_users_file(
    project: Project,
    supabase: SupabaseStorageService,
    new_user: NewUser,
    as_persona: AsPersona,
) -> None:
    own, other = await new_user(supabase), await new_user(supabase)
    path = await supabase.save_file(own, b"private", "a.txt")
    for stranger in (signed_in(project, other), project.anon):
        bucket = (await as_persona(stranger)).storage.from_(BUCKET)
        assert await bucket.list(f"{own}/documents") == []
        assert await bucket.remove([path]) == []
        with pytest.raises(StorageApiError):
            await bucket.download(path)
        with pytest.raises(StorageApiError):
            await bucket.create_signed_url(path, 60)
        with pytest.raises(StorageApiError):
            await bucket.update(path, b"evil", {"content-type": "text/plain"})
    assert await supabase.read_file(own, path) == b"private"


@pytest.mark.requirement("KT-15")
async def test_no_other_bucket_is_opened(
    project: Project,
    supabase: SupabaseStorageService,
    new_user: NewUser,
    as_persona: AsPersona,
    sql: Sql,
) -> None:
    await sql.execute(
        "insert into storage.buckets (id, name, public) values ('films', 'films', true)"
    )
    own = await new_user(supabase)
    bucket = (await as_persona(signed_in(project, own))).storage.from_("films")
    with pytest.raises(StorageApiError) as refused:
        await bucket.upload(f"{own}/documents/a.txt", b"x")
    assert refused.value.status == "403"


@pytest.mark.requirement("KT-15")
async def test_the_bucket_is_private_and_limited(
    supabase: SupabaseStorageService, new_user: NewUser
) -> None:
    user = await new_user(supabase)
    await supabase.save_file(user, bytes(26_214_400), "limit.txt")
    for content, kind in ((bytes(26_214_401), "text/plain"), (b"x", "text/html")):
        with pytest.raises(FileRejectedError):
            await supabase.save_file(user, content, "f", content_type=kind)
    path = await supabase.save_file(user, b"x", "a.txt")
    public = await supabase.client.storage.from_(BUCKET).get_public_url(path)
    async with browser() as anybody:
        assert (await anybody.get(public)).status_code in (400, 404)


@pytest.mark.requirement("KT-12", "KT-05", "KT-28")
@pytest.mark.parametrize("table", TABLES)
async def test_rows_are_their_users_alone(
    table: str,
    project: Project,
    supabase: SupabaseStorageService,
    new_user: NewUser,
    as_persona: AsPersona,
    sql: Sql,
) -> None:
    users = [await new_user(supabase) for _ in range(2)]
    for user in users:
        await _populate(sql, user)
    columns = "id, user_id, data" if table == "onboarding_sessions" else "*"
    owner = "id" if table == "users" else "user_id"
    for user in users:
        client = await as_persona(signed_in(project, user))
        rows: Any = (await client.table(table).select(columns).execute()).data
        assert [row[owner] for row in rows] == [user]
    anon = await as_persona(project.anon)
    with pytest.raises(Exception, match="permission denied"):
        await anon.table(table).select(columns).execute()


@pytest.mark.requirement("KT-26")
async def test_an_outage_between_file_and_document_leaves_neither(
    behind_gateway: SupabaseStorageService,
    gateway: FlakyGateway,
    new_user: NewUser,
    sql: Sql,
    project: Project,
) -> None:
    user = await new_user(behind_gateway)
    gateway.fail_all(503, path="/rest/v1/documents")
    with pytest.raises(Exception, match=r"outage|503"):
        await behind_gateway.add_document(user, b"x", "a.txt", "text/plain")
    gateway.fail_all(503, path="/storage/v1/object")
    with pytest.raises(StorageUnavailableError):
        await behind_gateway.add_document(user, b"x", "a.txt", "text/plain")
    assert await sql.fetchval("select count(*) from storage.objects") == 0
    assert await sql.fetchval("select count(*) from public.documents") == 0
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("KT-30")
async def test_a_hundred_calls_use_ten_connections_at_most(
    behind_gateway: SupabaseStorageService, gateway: FlakyGateway, new_user: NewUser
) -> None:
    user = await new_user(behind_gateway)
    gateway.delay_s = 0.02
    found = await asyncio.gather(*(behind_gateway.get_user(user) for _ in range(100)))
    assert all(found)
    assert 1 < gateway.peak <= 10


@pytest.mark.slow
@pytest.mark.requirement("KT-29", "KT-21")
async def test_ten_thousand_documents_are_all_listed_and_backed_up(
    supabase: SupabaseStorageService, new_user: NewUser, tmp_path: Path
) -> None:
    fake = Faker()
    fake.seed_instance(29)
    user = await new_user(supabase)
    for _ in range(20):
        await supabase.create_documents(
            [
                {
                    "user_id": user,
                    "file_path": f"{user}/documents/{uuid.uuid4()}_a.txt",
                    "filename": fake.file_name(extension="txt"),
                    "content_type": "text/plain",
                    "size_bytes": fake.random_int(1, 9_999_999),
                }
                for _ in range(500)
            ]
        )
    found = await supabase.get_documents_for_user(user)
    assert len({d["id"] for d in found}) == 10_000
    assert found == sorted(found, key=lambda d: (d["created_at"], d["id"]))
    saved = await back_up(supabase, tmp_path / "backup")
    assert saved.rows["documents"] == 10_000


@pytest.mark.requirement("KT-21", "KT-22")
async def test_restoring_a_backup_gives_back_exactly_what_was_there(
    project: Project,
    supabase: SupabaseStorageService,
    new_user: NewUser,
    sql: Sql,
    tmp_path: Path,
) -> None:
    for _ in range(3):
        user = await new_user(supabase)
        await _populate(sql, user)
        await supabase.add_document(user, user.encode(), "résumé.pdf", "text/plain")
        await supabase.save_file(user, b"me", "me.txt", folder="profile")
    await supabase.create_onboarding_session()
    before = await _everything(supabase)
    saved = await back_up(supabase, tmp_path / "backup")
    assert saved.files == 6
    with pytest.raises(BackupError, match="users already"):
        await restore(supabase, tmp_path / "backup")
    await _wipe(supabase, sql)
    restored = await restore(supabase, tmp_path / "backup")
    assert restored == saved
    assert await _everything(supabase) == before
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("KT-21")
async def test_a_backup_that_fails_leaves_the_older_one_whole(
    behind_gateway: SupabaseStorageService,
    gateway: FlakyGateway,
    new_user: NewUser,
    tmp_path: Path,
) -> None:
    user = await new_user(behind_gateway)
    await behind_gateway.save_file(user, b"first", "a.txt")
    await back_up(behind_gateway, tmp_path / "backup")
    before = await asyncio.to_thread(_tree, tmp_path)
    gateway.fail_all(503, path="/storage/v1/object/user-documents")
    with pytest.raises(StorageApiError):
        await back_up(behind_gateway, tmp_path / "backup")
    assert await asyncio.to_thread(_tree, tmp_path) == before


@pytest.mark.requirement("KT-22", "KT-23")
async def test_a_damaged_backup_is_not_restored(
    supabase: SupabaseStorageService, new_user: NewUser, sql: Sql, tmp_path: Path
) -> None:
    user = await new_user(supabase)
    path = await supabase.save_file(user, b"content", "a.txt")
    await back_up(supabase, tmp_path / "backup")
    await _wipe(supabase, sql)
    (tmp_path / "backup" / "files" / path).write_bytes(b"damaged")
    with pytest.raises(BackupError, match="damaged"):
        await restore(supabase, tmp_path / "backup")
    assert await sql.fetchval("select count(*) from public.users") == 0
    with pytest.raises(BackupError, match="no readable backup"):
        await restore(supabase, tmp_path / "nowhere")


@pytest.mark.requirement("KT-28")
async def test_orphans_are_found_and_swept(
    supabase: SupabaseStorageService, new_user: NewUser
) -> None:
    user = await new_user(supabase)
    kept = await supabase.add_document(user, b"x", "kept.txt", "text/plain")
    lost = await supabase.save_file(user, b"x", "lost.txt")
    gone = await supabase.add_document(user, b"x", "gone.txt", "text/plain")
    await supabase.delete_file(user, gone["file_path"])
    found = await sweep(supabase)
    assert (found.files, found.documents) == ((lost,), (gone["id"],))
    assert (await find_orphans(supabase)).files == ()
    assert await supabase.read_file(user, kept["file_path"]) == b"x"


async def _populate(sql: Sql, user: str) -> None:
    """Give a user one row in every table that hangs on users."""
    await sql.execute(
        f"""
        do $$
        declare
          kim uuid := '{user}';
          friend uuid;
        begin
          insert into public.onboarding_sessions (user_id, data)
            values (kim, '{{"step": 1}}');
          insert into public.documents
            (user_id, folder, stored_name, filename, content_type, size_bytes)
            values (kim, 'profile', kim::text, 'a.txt', 'text/plain', 1);
          insert into public.diary_entries (user_id, entry_date, body)
            values (kim, '2026-01-31', 'Dear diary');
          insert into public.contacts (user_id, name, birthday)
            values (kim, 'Friend', '1990-02-28') returning id into friend;
          insert into public.interactions (user_id, contact_id, kind)
            values (kim, friend, 'call');
          insert into public.reminders (user_id, contact_id, due_at)
            values (kim, friend, '2026-03-01 10:00+01');
          insert into public.messages (user_id, contact_id, body)
            values (kim, friend, 'Hello');
          insert into public.user_settings (user_id, settings)
            values (kim, '{{"theme": "dark"}}');
        end;
        $$
        """
    )


async def _everything(storage: SupabaseStorageService) -> dict[str, object]:
    rows: dict[str, object] = {
        table: [row async for row in all_rows(storage.client, table)]
        for table in TABLES
    }
    users = [row["id"] async for row in all_rows(storage.client, "users")]
    files = storage.client.storage.from_(BUCKET)
    for user in users:
        for folder in ("documents", "profile"):
            for entry in await files.list(f"{user}/{folder}"):
                path = f"{user}/{folder}/{entry['name']}"
                rows[path] = await files.download(path)
    return rows


async def _wipe(storage: SupabaseStorageService, sql: Sql) -> None:
    names = await sql.fetch("select name from storage.objects")
    if names:
        bucket = storage.client.storage.from_(BUCKET)
        await bucket.remove([row["name"] for row in names])
    await sql.execute("delete from public.onboarding_sessions")
    await sql.execute("delete from auth.users")


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
    }
