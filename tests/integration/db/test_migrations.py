"""Applying schema files: transactions, history, places of errors, extensions."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from harness.db.address import Connection
from harness.db.fingerprint import catalog_diff, fingerprint
from harness.db.migrations import applied_versions, apply_schema
from harness.db.schema_files import Schema, SchemaFile, read_schema
from harness.db.shims import shim_names
from harness.errors import ExtensionMissingError, MigrationError, StackError


def schema(*texts: str) -> Schema:
    """Return a schema with one file for each text, versions 1, 2, ..."""
    files = (
        SchemaFile(f"{i}_step.sql", str(i), "step", text)
        for i, text in enumerate(texts, 1)
    )
    return Schema(tuple(files))


async def relations(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "select relname from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind = 'r' order by 1"
    )
    return [row["relname"] for row in rows]


async def test_files_run_as_postgres_and_are_recorded(admin: Connection) -> None:
    texts = ("create table a (x int);\n-- why\ninsert into a values (1)", "select 1")
    await apply_schema(admin, schema(*texts))
    owner = "select tableowner from pg_tables where tablename = 'a'"
    assert await admin.fetchval(owner) == "postgres"
    assert await applied_versions(admin) == ("1", "2")
    row = await admin.fetchrow(
        "select name, statements from supabase_migrations.schema_migrations"
        " where version = '1'"
    )
    assert row["name"] == "step"
    assert row["statements"] == [
        "create table a (x int)",
        "-- why\ninsert into a values (1)",
    ]
    assert await admin.fetchval("select session_user") == "supabase_admin"
    assert await admin.fetchval("select current_user") == "supabase_admin"


async def test_platform_files_are_not_recorded(admin: Connection) -> None:
    assert await applied_versions(admin) == ()


async def test_failing_file_leaves_nothing_and_earlier_files_stay(
    admin: Connection,
) -> None:
    with pytest.raises(MigrationError) as caught:
        await apply_schema(
            admin,
            schema(
                "create table kept (x int)",
                "create table gone (x int);\n\n-- é\ninsert into gone\nvalues (1 / 0)",
            ),
        )
    error = caught.value
    assert (error.file, error.line, error.sqlstate) == ("2_step.sql", 4, "22012")
    assert error.statement == "insert into gone\nvalues (1 / 0)"
    assert str(error) == "2_step.sql:4: division by zero [22012]"
    assert await relations(admin) == ["kept"]
    assert await applied_versions(admin) == ("1",)


async def test_error_position_inside_a_statement_is_told_as_a_line(
    admin: Connection,
) -> None:
    with pytest.raises(MigrationError, match=r"\(line 5\)") as caught:
        await apply_schema(
            admin,
            schema("select 1;\n\nselect\n  'é',\n  nowhere.column\nfrom (select) s"),
        )
    assert caught.value.line == 3
    assert caught.value.sqlstate == "42P01"


async def test_error_inside_a_block_is_told_as_a_line_of_the_file(
    admin: Connection,
) -> None:
    block = "select 1;\ndo\nlanguage plpgsql $x$\nbegin\n  perform 1 / 0;\nend $x$;"
    with pytest.raises(MigrationError, match=r"zero \(line 5\)") as caught:
        await apply_schema(admin, schema(block))
    assert caught.value.line == 2


async def test_syntax_error_in_the_last_file_changes_nothing(
    admin: Connection,
) -> None:
    with pytest.raises(MigrationError) as caught:
        await apply_schema(admin, schema("create table a ()", "select 1;\ncreat tabel"))
    assert (caught.value.line, caught.value.sqlstate) == (2, "42601")
    assert await relations(admin) == []


async def test_hint_of_the_server_is_kept(admin: Connection) -> None:
    with pytest.raises(MigrationError) as caught:
        await apply_schema(
            admin, schema("create table a (note int);", "select noet from a")
        )
    assert caught.value.hint is not None
    assert "a.note" in caught.value.hint


async def test_deferred_constraint_fails_at_the_end_of_its_file(
    admin: Connection,
) -> None:
    text = (
        "create table a (id int primary key);\n"
        "create table b (a int references a deferrable initially deferred);\n"
        "insert into b values (1);"
    )
    with pytest.raises(MigrationError) as caught:
        await apply_schema(admin, schema(text))
    assert (caught.value.sqlstate, caught.value.line) == ("23503", 3)
    assert await relations(admin) == []


async def test_settings_and_roles_of_a_file_do_not_reach_the_next(
    admin: Connection,
) -> None:
    first = (
        "select pg_catalog.set_config('search_path', '', false);"
        "set statement_timeout = '200ms'; create table public.a ()"
    )
    await apply_schema(admin, schema(first, "create table b (); select pg_sleep(0.3)"))
    assert await relations(admin) == ["a", "b"]


async def test_own_transaction_control_of_a_file_is_obeyed(admin: Connection) -> None:
    text = (
        "begin; create table a (); commit;"
        "create table b (); rollback;"
        "create table c (); savepoint s; create table d (); rollback to s;"
    )
    await apply_schema(admin, schema(text))
    assert await relations(admin) == ["a", "c"]
    assert await applied_versions(admin) == ("1",)


async def test_concurrent_index_splits_the_transaction_of_its_file(
    admin: Connection,
) -> None:
    index = "create index concurrently i on a (x);"
    text = f"create table a (x int); {index} vacuum a; create table b ()"
    await apply_schema(admin, schema(text))
    valid = "select indisvalid from pg_index where indexrelid = 'i'::regclass"
    assert await admin.fetchval(valid)
    assert await applied_versions(admin) == ("1",)


async def test_failure_after_a_concurrent_index_keeps_what_came_before(
    admin: Connection,
) -> None:
    text = (
        "create table a (x int); create index concurrently i on a (x);"
        "create table b (); select 1 / 0"
    )
    with pytest.raises(MigrationError, match="division by zero"):
        await apply_schema(admin, schema(text))
    assert await relations(admin) == ["a"]
    assert await applied_versions(admin) == ()


async def test_role_left_behind_fails_as_in_the_cli(admin: Connection) -> None:
    with pytest.raises(MigrationError, match="could not be recorded") as caught:
        await apply_schema(admin, schema("create table a (); set role anon"))
    assert caught.value.sqlstate == "42501"
    assert await relations(admin) == []


async def test_documented_database_name_means_this_one(admin: Connection) -> None:
    await apply_schema(
        admin, schema("alter database postgres set timezone to 'Europe/Rome'")
    )
    setting = await admin.fetchval(
        "select setconfig from pg_db_role_setting s join pg_database d"
        " on d.oid = s.setdatabase where datname = current_database()"
    )
    assert "TimeZone=Europe/Rome" in setting


async def test_extension_reserved_for_superusers_is_created(admin: Connection) -> None:
    await apply_schema(
        admin,
        schema(
            "create extension if not exists pg_stat_statements with schema extensions;"
            "create extension citext; alter extension citext set schema extensions;"
            "comment on extension citext is 'x'; create table a (e citext)",
            "drop extension pg_stat_statements",
        ),
    )
    installed = await admin.fetch("select extname from pg_extension")
    assert "citext" in {row[0] for row in installed}
    assert await relations(admin) == ["a"]


async def test_unavailable_extension_is_named_with_the_way_to_get_it(
    admin: Connection,
) -> None:
    with pytest.raises(ExtensionMissingError) as caught:
        await apply_schema(
            admin, schema("select 1;\ncreate extension if not exists postgis;")
        )
    error = caught.value
    assert 'extension "postgis" is not available' in str(error)
    assert (error.file, error.line) == ("1_step.sql", 2)
    assert "apt-get install postgresql-" in (error.hint or "")


@pytest.mark.parametrize("name", ["uuid-ossp", "pgcrypto"])
async def test_preinstalled_extension_may_be_asked_for_again(
    admin: Connection, name: str
) -> None:
    await apply_schema(
        admin,
        schema(
            f'create extension if not exists "{name}";'
            f'create extension if not exists "{name}" with schema extensions;'
            f"comment on extension \"{name}\" is 'x'"
        ),
    )
    with pytest.raises(MigrationError, match="already exists") as caught:
        await apply_schema(admin, schema(f'create extension "{name}"'))
    assert caught.value.sqlstate == "42710"


async def test_shims_exist_for_what_platforms_always_have() -> None:
    assert {"uuid-ossp", "pgcrypto"} <= shim_names()


async def test_applying_twice_is_idempotent(admin: Connection) -> None:
    texts = (
        "create table if not exists a (id int); create or replace view v as table a",
        "grant select on a to anon",
    )
    await apply_schema(admin, schema(*texts))
    before = await fingerprint(admin)
    await apply_schema(admin, schema(*texts))
    assert catalog_diff(before, await fingerprint(admin)) == ()


async def test_fingerprint_shows_what_changed(admin: Connection) -> None:
    await admin.execute("create table a (id int primary key)")
    before = await fingerprint(admin)
    await admin.execute(
        "alter table a enable row level security;"
        "create policy p on a for select to anon using (id > 0);"
        "alter table a alter id set default 3;"
        "alter publication supabase_realtime add table a;"
        "insert into storage.buckets (id, name, public) values ('b', 'b', true)"
    )
    changes = catalog_diff(before, await fingerprint(admin))
    kinds = {change.split()[0] for change in changes}
    assert kinds == {
        "+policy", "-relation", "+relation", "-column", "+column", "+published",
        "+bucket",
    }  # fmt: skip


async def test_folder_is_read_in_order_with_seed_last(
    tmp_path: Path, admin: Connection
) -> None:
    (tmp_path / "20250102000000_b.sql").write_text("insert into a values (2)")
    (tmp_path / "20250101000000_a.sql").write_text("\ufeffcreate table a (x int)")
    (tmp_path / "seed.sql").write_text("insert into a values (3)")
    (tmp_path / "notes.sql").write_text("this is not sql")
    read = read_schema(tmp_path)
    assert read.skipped == ("notes.sql",)
    await apply_schema(admin, read)
    rows = await admin.fetch("select x from a")
    assert [row["x"] for row in rows] == [2, 3]
    assert await applied_versions(admin) == ("20250101000000", "20250102000000")


async def test_lost_connection_is_a_fault_of_the_stack(admin: Connection) -> None:
    with pytest.raises((StackError, asyncpg.PostgresError, MigrationError)) as caught:
        await apply_schema(
            admin,
            Schema(
                (
                    SchemaFile(
                        "x.sql",
                        "",
                        "x",
                        "select pg_terminate_backend(pg_backend_pid())",
                    ),
                ),
                role="supabase_admin",
            ),
        )
    assert isinstance(caught.value, StackError)
