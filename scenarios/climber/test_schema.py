"""The schema itself: files, order, columns, helpers, cost of the policies."""

from __future__ import annotations

import re

import allure
import asyncpg
import pytest

from harness.db.catalog_reading import read_catalog
from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema, SchemaFile, read_schema
from harness.errors import MigrationError
from harness.stack.base import Stack
from harness.stack.project import Project
from scenarios.climber import SCENARIO
from scenarios.climber.cast import Cast
from scenarios.fixtures import Sql, become
from scenarios.schemas import schema_folders

pytestmark = allure.feature("climber: schema")

FILES = (
    "foundation",
    "accounts",
    "training_tables",
    "storage_buckets",
    "storage_policies",
    "avatars",
    "storage_functions",
    "realtime_channels",
    "realtime_subscriptions",
)


def _files() -> tuple[SchemaFile, ...]:
    (folder,) = schema_folders(SCENARIO)
    return read_schema(folder).files


@pytest.mark.requirement("CL-30")
def test_the_schema_is_these_files_in_this_order() -> None:
    assert tuple(file.name for file in _files()) == FILES


@pytest.mark.requirement("CL-31")
async def test_missing_prerequisites_are_named(stack: Stack) -> None:
    bare = await stack.create_project()
    (buckets,) = (f for f in _files() if f.name == "storage_buckets")
    connection = await bare.connect()
    try:
        with pytest.raises(MigrationError, match=r"prerequisite.*ST-MT-2-6") as refused:
            await apply_schema(connection, Schema((buckets,)))
    finally:
        await connection.close()
        await bare.drop()
    assert refused.value.file.endswith("_storage_buckets.sql")


@pytest.mark.requirement("CL-48", "CL-05", "CL-20", "HX-02")
async def test_applying_again_changes_nothing(project: Project, sql: Sql) -> None:
    before = await read_catalog(sql)
    (folder,) = schema_folders(SCENARIO)
    await apply_schema(sql, read_schema(folder))
    assert await read_catalog(sql) == before


@pytest.mark.requirement("CL-21")
async def test_the_table_of_channels_has_the_declared_columns(sql: Sql) -> None:
    await sql.execute("set search_path = ''")
    rows = await sql.fetch(
        """
        select a.attname, format_type(a.atttypid, a.atttypmod),
               pg_get_expr(d.adbin, d.adrelid)
        from pg_attribute a
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = 'public.realtime_channels'::regclass and a.attnum > 0
        order by a.attnum
        """
    )
    assert [tuple(row) for row in rows] == [
        ("id", "uuid", "extensions.uuid_generate_v4()"),
        ("channel_name", "character varying(255)", None),
        ("table_name", "character varying(255)", None),
        (
            "event_types",
            "text[]",
            "ARRAY['INSERT'::text, 'UPDATE'::text, 'DELETE'::text]",
        ),
        ("is_active", "boolean", "true"),
        ("created_at", "timestamp with time zone", "now()"),
        ("updated_at", "timestamp with time zone", "now()"),
    ]


@pytest.mark.requirement("CL-21")
@pytest.mark.parametrize(
    "values",
    [
        "(null, default, default)",
        "('user_profiles', default, default)",
        "(repeat('x', 256), default, default)",
        "('c', array['TRUNCATE'], default)",
        "('c', '{}', default)",
        "('c', null, default)",
        "('c', default, null)",
    ],
)
async def test_a_broken_channel_is_refused(values: str, sql: Sql) -> None:
    with pytest.raises((asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)):
        await sql.execute(
            "insert into public.realtime_channels"
            f" (channel_name, event_types, is_active) values {values}"
        )


@pytest.mark.requirement("CL-28")
async def test_every_lookup_by_index_column_has_an_index(sql: Sql) -> None:
    await sql.execute("set enable_seqscan = off")
    for table, condition in (
        ("storage.objects", "bucket_id = 'user-avatars'"),
        ("public.realtime_channels", "channel_name = 'user_profiles'"),
        ("public.realtime_channels", "is_active = true"),
        ("public.realtime_channels", "table_name = 'user_profiles'"),
    ):
        plan = await sql.fetch(f"explain select from {table} where {condition}")
        assert "Index" in "\n".join(row[0] for row in plan)


@pytest.mark.requirement("CL-28")
async def test_no_index_repeats_another(sql: Sql) -> None:
    repeated = await sql.fetch(
        """
        select a.indexrelid::regclass, b.indexrelid::regclass
        from pg_index a
        join pg_index b on a.indrelid = b.indrelid and a.indexrelid > b.indexrelid
          and a.indkey = b.indkey and a.indclass = b.indclass
          and a.indcollation = b.indcollation
          and a.indpred is null and b.indpred is null
          and a.indexprs is null and b.indexprs is null
        where a.indrelid in ('storage.objects'::regclass,
                             'public.realtime_channels'::regclass)
        """
    )
    assert repeated == []


@pytest.mark.requirement("CL-29")
async def test_updated_at_grows_with_every_update(sql: Sql) -> None:
    async with sql.transaction():
        stamps = [
            await sql.fetchval(
                "update public.realtime_channels set is_active = true"
                " where channel_name = 'user_profiles' returning updated_at"
            )
            for _ in range(50)
        ]
    assert stamps == sorted(set(stamps))


@pytest.mark.requirement("CL-34")
@pytest.mark.parametrize("command", ["select * from", "update", "delete from"])
async def test_policies_look_the_caller_up_once_a_statement(
    command: str, people: Cast, project: Project
) -> None:
    connection = await project.connect()
    statement = f"explain (verbose) {command} storage.objects"
    if command == "update":
        statement += " set last_accessed_at = now()"
    try:
        async with connection.transaction():
            await become(connection, people.premium)
            plan = [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()
    filters = [line for line in plan if "Filter:" in line]
    assert filters
    assert any("InitPlan" in line for line in plan)
    per_row = re.compile(r"has_role|current_setting|auth\.uid|auth\.role")
    assert [line for line in filters if per_row.search(line)] == []


@pytest.mark.requirement("CL-45")
async def test_has_role_tells_the_truth_about_the_caller_only(
    people: Cast, project: Project
) -> None:
    connection = await project.connect()

    async def answer(caller: str, about: str | None, role: str) -> bool:
        async with connection.transaction():
            await become(connection, people.named(caller))
            known: bool = await connection.fetchval(
                "select public.has_role($1::text::uuid, $2)",
                about and people.named(about).id,
                role,
            )
            return known

    try:
        assert await answer("premium", "premium", "premium_user") is True
        assert await answer("premium", "premium", "admin") is False
        assert await answer("admin", "admin", "admin") is True
        # The role admin does not imply the role premium_user.
        assert await answer("admin", "admin", "premium_user") is False
        assert await answer("ana", "ana", "premium_user") is False
        assert await answer("ana", None, "admin") is False
        assert await answer("ana", "admin", "admin") is False
        assert await answer("service", "admin", "admin") is True
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await answer("anon", "admin", "admin")
    finally:
        await connection.close()


@pytest.mark.requirement("CL-46", "CL-17", "CL-45")
async def test_every_function_has_a_fixed_search_path(sql: Sql) -> None:
    loose = await sql.fetch(
        """
        select p.oid::regprocedure::text
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('public', 'private')
          and not coalesce(p.proconfig, '{}') @> array['search_path=""']
        """
    )
    assert loose == []


@pytest.mark.requirement("CL-46")
async def test_the_helper_of_updated_at_is_in_public_and_not_callable(
    people: Cast, sql: Sql
) -> None:
    assert await sql.fetchval(
        "select to_regprocedure('public.update_updated_at_column()') is not null"
    )
    assert not await sql.fetchval(
        "select has_function_privilege('authenticated',"
        " 'public.update_updated_at_column()', 'execute')"
    )


@pytest.mark.requirement("CL-17", "CL-18", "CL-25", "CL-40")
async def test_anonymous_callers_have_two_functions(sql: Sql) -> None:
    rows = await sql.fetch(
        """
        select p.proname from pg_proc p
        where p.pronamespace = 'public'::regnamespace
          and has_function_privilege('anon', p.oid, 'execute')
        """
    )
    assert {row["proname"] for row in rows} == {
        "get_file_metadata",
        "storage_public_url",
    }


@pytest.mark.requirement("CL-47")
async def test_ids_are_generated_without_extensions_in_the_search_path(
    sql: Sql,
) -> None:
    await sql.execute("set search_path = ''")
    made = await sql.fetchval(
        "insert into public.realtime_channels (channel_name) values ('c') returning id"
    )
    assert made.version == 4


@pytest.mark.requirement("CL-44")
@pytest.mark.parametrize(
    ("base", "name", "url"),
    [
        ("https://x.test", "a/b.png", "https://x.test/{}/app-assets/a/b.png"),
        ("https://x.test/", "a b.png", "https://x.test/{}/app-assets/a%20b.png"),
        (
            "http://x:1/p/q",
            "a?b&c+d.png",
            "http://x:1/p/q/{}/app-assets/a%3Fb%26c%2Bd.png",
        ),
        ("", "a.png", "/{}/app-assets/a.png"),
    ],
)
async def test_public_urls_come_from_the_configured_base(
    base: str, name: str, url: str, sql: Sql
) -> None:
    await sql.execute("select set_config('app.settings.public_url', $1, false)", base)
    made = await sql.fetchval(
        "select public.storage_public_url('app-assets', $1)", name
    )
    assert made == url.format("storage/v1/object/public")


@pytest.mark.requirement("CL-41", "CL-40")
async def test_every_public_table_has_row_level_security(sql: Sql) -> None:
    open_tables = await sql.fetch(
        "select relname from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind in ('r', 'p') and not relrowsecurity"
    )
    assert open_tables == []
