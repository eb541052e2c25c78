"""Applying projects of the Supabase CLI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from harness.db.address import Connection, DatabaseAddress
from harness.db.migrations import applied_versions
from harness.db.sessions import rolled_back_as
from harness.db.supabase_project import apply_project, read_project
from harness.errors import MigrationError
from tests.integration.db.conftest import Connect

CONFIG = """
[api]
auto_expose_new_tables = {expose}
[db.vault]
api_key = "it's a \\\\ secret"
[storage.buckets.images]
public = true
file_size_limit = "1MiB"
allowed_mime_types = ["image/png", "image/*"]
[storage.buckets.plain]
"""
TODOS = """
create table public.todos (id int primary key, title text);
alter table public.todos enable row level security;
grant select on public.todos to project_reader;
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a project with roles, two migrations, a seed and buckets."""
    supabase = tmp_path / "supabase"
    (supabase / "migrations").mkdir(parents=True)
    (supabase / "config.toml").write_text(CONFIG.format(expose="true"))
    (supabase / "roles.sql").write_text("create role project_reader nologin;")
    (supabase / "migrations/20250101000000_todos.sql").write_text(TODOS)
    (supabase / "migrations/20250102000000_more.sql").write_text(
        "alter table public.todos add column done bool default false"
    )
    (supabase / "seed.sql").write_text("insert into public.todos values (1, 'one')")
    return tmp_path


async def todos(connection: Connection) -> int:
    count: int = await connection.fetchval("select count(*) from public.todos")
    return count


async def test_fresh_database_gets_everything(admin: Connection, folder: Path) -> None:
    applied = await apply_project(admin, read_project(folder, {}))
    assert [Path(label).name for label in applied] == [
        "20250101000000_todos.sql", "20250102000000_more.sql", "seed.sql",
    ]  # fmt: skip
    assert await applied_versions(admin) == ("20250101000000", "20250102000000")
    assert await todos(admin) == 1
    buckets = await admin.fetch(
        "select id, public, file_size_limit, allowed_mime_types"
        " from storage.buckets order by id"
    )
    assert [tuple(row) for row in buckets] == [
        ("images", True, 1048576, ["image/png", "image/*"]),
        ("plain", False, None, None),
    ]
    secret = "select decrypted_secret from vault.decrypted_secrets"
    assert await admin.fetchval(secret) == "it's a \\ secret"
    seeds = await admin.fetch("select path, hash from supabase_migrations.seed_files")
    (seed,) = read_project(folder, {}).seeds
    assert [tuple(row) for row in seeds] == [("supabase/seed.sql", seed.hash)]


async def test_second_time_applies_only_what_is_new(
    admin: Connection, folder: Path
) -> None:
    await apply_project(admin, read_project(folder, {}))
    assert await apply_project(admin, read_project(folder, {})) == ()
    new = folder / "supabase/migrations/20250103000000_new.sql"
    new.write_text("create table public.new ()")
    (folder / "supabase/seed.sql").write_text("insert into public.todos values (9)")
    applied = await apply_project(admin, read_project(folder, {}))
    assert [Path(label).name for label in applied] == [new.name]
    assert await todos(admin) == 1, "a changed seed is noted, not run again"
    (seed,) = read_project(folder, {}).seeds
    known = "select hash from supabase_migrations.seed_files"
    assert await admin.fetchval(known) == seed.hash


async def test_history_that_does_not_fit_is_refused(
    admin: Connection, folder: Path
) -> None:
    await apply_project(admin, read_project(folder, {}))
    earlier = folder / "supabase/migrations/20240101000000_early.sql"
    earlier.write_text("select 1")
    with pytest.raises(MigrationError, match="comes before 20250102000000"):
        await apply_project(admin, read_project(folder, {}))
    earlier.unlink()
    (folder / "supabase/migrations/20250102000000_more.sql").unlink()
    with pytest.raises(MigrationError, match="which has no file here") as caught:
        await apply_project(admin, read_project(folder, {}))
    assert "migration repair" in (caught.value.hint or "")


async def test_project_is_a_template_like_any_schema(
    clone_of: Callable[..., DatabaseAddress], folder: Path, connect: Connect
) -> None:
    project = read_project(folder, {})
    connection = await connect(clone_of(*project.schemas()))
    assert await todos(connection) == 1
    assert await apply_project(connection, project) == ()


@pytest.mark.parametrize("expose", ["true", "false"])
async def test_new_tables_are_exposed_as_configured(
    clone_of: Callable[..., DatabaseAddress],
    folder: Path,
    connect: Connect,
    expose: str,
) -> None:
    (folder / "supabase/config.toml").write_text(CONFIG.format(expose=expose))
    connection = await connect(clone_of(*read_project(folder, {}).schemas()))
    async with rolled_back_as(connection, "anon"):
        if expose == "true":
            assert await todos(connection) == 0
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await todos(connection)


async def test_failing_migration_stops_before_the_seed(
    admin: Connection, folder: Path
) -> None:
    bad = folder / "supabase/migrations/20250103000000_bad.sql"
    bad.write_text("select 1;\nselect * from nowhere")
    with pytest.raises(MigrationError) as caught:
        await apply_project(admin, read_project(folder, {}))
    assert (Path(caught.value.file).name, caught.value.line) == (bad.name, 2)
    assert await todos(admin) == 0
    assert await applied_versions(admin) == ("20250101000000", "20250102000000")


async def test_project_on_a_database_that_is_only_ours_to_log_in_as_postgres(
    postgres_role: Connection, folder: Path
) -> None:
    """The way it is with a hosted project: no superuser, no settings of ours."""
    (folder / "supabase/roles.sql").unlink()
    todos_sql = folder / "supabase/migrations/20250101000000_todos.sql"
    todos_sql.write_text(
        'create extension if not exists "uuid-ossp";'
        "create table public.todos (id int, title text)"
    )
    project = read_project(folder, {})
    await apply_project(postgres_role, project)
    assert await todos(postgres_role) == 1
