"""The official CLI on our database, and our own runner on the same project."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from harness.db.address import Connection, DatabaseAddress
from harness.db.fingerprint import catalog_diff, fingerprint
from harness.db.supabase_project import apply_project, read_project
from harness.errors import MigrationError
from tests.conformance.supabase_cli.conftest import RunCli

pytestmark = pytest.mark.conformance

PUSH = ("db", "push", "--include-seed", "--include-roles")
VERSIONS = ("20250101000000", "20250102000000", "20250103000000")


@pytest_asyncio.fixture
async def admin(database: DatabaseAddress) -> AsyncIterator[Connection]:
    """Connect to the database that the CLI works on."""
    connection = await asyncpg.connect(**database.connect_args("supabase_admin"))
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def twin(clone_of: Callable[..., DatabaseAddress]) -> AsyncIterator[Connection]:
    """Connect to a second database, which our own runner works on."""
    connection = await asyncpg.connect(**clone_of().connect_args("supabase_admin"))
    yield connection
    await connection.close()


async def history(connection: Connection) -> list[tuple[object, ...]]:
    """Return what both tools write down about what they applied."""
    rows = await connection.fetch(
        """
        select version, name, statements from supabase_migrations.schema_migrations
        union all
        select path, hash, null from supabase_migrations.seed_files
        order by 1
        """
    )
    return [tuple(row) for row in rows]


async def tasks(connection: Connection) -> list[str]:
    rows = await connection.fetch("select title from public.tasks order by 1")
    return [row["title"] for row in rows]


async def test_push_and_our_runner_leave_the_same_database(
    cli: RunCli,
    project: Path,
    database: DatabaseAddress,
    admin: Connection,
    twin: Connection,
) -> None:
    pushed = cli(*PUSH, database=database)
    assert pushed.status == 0, pushed.said
    await apply_project(twin, read_project(project, {}))
    assert catalog_diff(await fingerprint(admin), await fingerprint(twin)) == ()
    assert await history(admin) == await history(twin)
    assert await tasks(admin) == await tasks(twin) == ["seeded"]


async def test_cli_sees_what_our_runner_applied(
    cli: RunCli, project: Path, database: DatabaseAddress, admin: Connection
) -> None:
    listed = cli("migration", "list", database=database)
    assert [listed.said.count(version) for version in VERSIONS] == [1, 1, 1]
    await apply_project(admin, read_project(project, {}))
    listed = cli("migration", "list", database=database)
    assert [listed.said.count(version) for version in VERSIONS] == [2, 2, 2]
    pushed = cli(*PUSH[:3], database=database)
    assert pushed.status == 0, pushed.said
    assert "up to date" in pushed.said
    assert await tasks(admin) == ["seeded"]


async def test_our_runner_sees_what_the_cli_pushed(
    cli: RunCli, project: Path, database: DatabaseAddress, admin: Connection
) -> None:
    assert cli(*PUSH, database=database).status == 0
    assert await apply_project(admin, read_project(project, {})) == ()
    new = project / "supabase/migrations/20250104000000_new.sql"
    new.write_text("create table public.new ()")
    applied = await apply_project(admin, read_project(project, {}))
    assert [Path(label).name for label in applied] == [new.name]
    assert "up to date" in cli("db", "push", database=database).said


async def test_changed_seed_is_noted_but_not_run_again_by_either(
    cli: RunCli,
    project: Path,
    database: DatabaseAddress,
    admin: Connection,
    twin: Connection,
) -> None:
    assert cli(*PUSH, database=database).status == 0
    await apply_project(twin, read_project(project, {}))
    seed = project / "supabase/seeds/tasks.sql"
    seed.write_text(seed.read_text().replace("seeded", "changed"))
    pushed = cli(*PUSH[:3], database=database)
    assert pushed.status == 0, pushed.said
    await apply_project(twin, read_project(project, {}))
    assert await history(admin) == await history(twin)
    assert await tasks(admin) == await tasks(twin) == ["seeded"]


async def test_reset_leaves_the_platform_and_applies_everything_again(
    cli: RunCli, database: DatabaseAddress, admin: Connection
) -> None:
    assert cli(*PUSH, database=database).status == 0
    before = await fingerprint(admin)
    await admin.execute(
        "set role postgres; create table public.drift (); create schema drift;"
        "create table drift.more (); reset role"
    )
    await admin.execute(
        "insert into public.tasks (owner, title) select id, 'drift' from profiles"
    )
    reset = cli("db", "reset", database=database)
    assert reset.status == 0, reset.said
    assert await tasks(admin) == ["seeded"]
    assert catalog_diff(before, await fingerprint(admin)) == ()


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("create table public.half (); select 1 / 0", "22012"),
        ("create table public.half (); select * from nowhere", "42P01"),
        ("create table public.half (); set role anon", "42501"),
        ("create table storage.half ()", "42501"),
        ("alter table storage.objects enable row level security", "42501"),
        ("alter role supabase_admin password 'x'", "42501"),
    ],
)
async def test_migration_fails_alike_in_both(
    cli: RunCli,
    project: Path,
    database: DatabaseAddress,
    admin: Connection,
    twin: Connection,
    text: str,
    sqlstate: str,
) -> None:
    for old in (project / "supabase/migrations").iterdir():
        old.unlink()
    (project / "supabase/migrations/20250101000000_bad.sql").write_text(text)
    pushed = cli("db", "push", database=database)
    assert pushed.status != 0
    assert f"SQLSTATE {sqlstate}" in pushed.said
    with pytest.raises(MigrationError) as caught:
        await apply_project(twin, read_project(project, {}), seed=False)
    assert caught.value.sqlstate == sqlstate
    half = "select to_regclass('public.half')"
    assert await admin.fetchval(half) is await twin.fetchval(half) is None


async def test_history_that_does_not_fit_is_refused_by_both(
    cli: RunCli, project: Path, database: DatabaseAddress, admin: Connection
) -> None:
    assert cli(*PUSH, database=database).status == 0
    early = project / "supabase/migrations/20240101000000_early.sql"
    early.write_text("select 1")
    assert cli("db", "push", database=database).status != 0
    with pytest.raises(MigrationError, match="comes before"):
        await apply_project(admin, read_project(project, {}))
    early.unlink()
    (project / "supabase/migrations/20250103000000_index.sql").unlink()
    assert cli("db", "push", database=database).status != 0
    with pytest.raises(MigrationError, match="no file here"):
        await apply_project(admin, read_project(project, {}))


async def test_types_are_generated_from_our_catalog(
    cli: RunCli, database: DatabaseAddress
) -> None:
    assert cli(*PUSH, database=database).status == 0
    generated = cli("gen", "types", "--lang", "typescript", database=database)
    assert generated.status == 0, generated.said
    for part in ('"tasks"', '"profiles"', '"task_state"', '"open"', "Relationships"):
        assert part in generated.said


async def test_inspection_and_advisors_run(
    cli: RunCli, database: DatabaseAddress
) -> None:
    assert cli(*PUSH, database=database).status == 0
    sizes = cli("inspect", "db", "table-stats", database=database)
    assert sizes.status == 0, sizes.said
    assert "tasks" in sizes.said
    advice = cli("db", "advisors", database=database)
    assert advice.status == 0, advice.said
