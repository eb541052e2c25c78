"""The roles, schemas and privileges that a project starts with."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from harness.db.address import Connection, DatabaseAddress
from harness.db.discovery import PostgresInstallation
from harness.db.fingerprint import catalog_diff, fingerprint
from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema
from harness.db.sessions import as_role, rolled_back_as
from tests.integration.db.conftest import Connect

API_ROLES = ("anon", "authenticated", "service_role")


async def test_platform_when_applied_again_changes_nothing(
    admin: Connection, platform_schema: Schema
) -> None:
    before = await fingerprint(admin)
    await apply_schema(admin, platform_schema)
    assert catalog_diff(before, await fingerprint(admin)) == ()


@pytest.mark.parametrize(
    ("role", "attributes"),
    [
        ("anon", "------"),
        ("authenticated", "------"),
        ("service_role", "-----b"),
        ("authenticator", "---l--"),
        ("postgres", "-cdlrb"),
        ("supabase_admin", "scdlrb"),
        ("supabase_auth_admin", "-c-l--"),
        ("supabase_storage_admin", "-c-l--"),
        ("supabase_realtime_admin", "------"),
        ("supabase_replication_admin", "---lr-"),
        ("supabase_read_only_user", "---l-b"),
        ("dashboard_user", "-cd-r-"),
        ("pgbouncer", "---l--"),
    ],
)
async def test_role_has_the_attributes_of_the_platform(
    admin: Connection, role: str, attributes: str
) -> None:
    seen = await admin.fetchval(
        """
        select concat(
          case when rolsuper then 's' else '-' end,
          case when rolcreaterole then 'c' else '-' end,
          case when rolcreatedb then 'd' else '-' end,
          case when rolcanlogin then 'l' else '-' end,
          case when rolreplication then 'r' else '-' end,
          case when rolbypassrls then 'b' else '-' end)
        from pg_roles where rolname = $1
        """,
        role,
    )
    assert seen == attributes


async def test_authenticator_becomes_api_roles_but_inherits_nothing(
    database: DatabaseAddress, connect: Connect
) -> None:
    login = await connect(database, "authenticator")
    for role in API_ROLES:
        async with rolled_back_as(login, role):
            assert await login.fetchval("select current_user") == role
    for role in ("postgres", "supabase_admin", "supabase_auth_admin"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute(f"set role {role}")
    inherits = "select pg_has_role('authenticator', 'service_role', 'usage')"
    assert await login.fetchval(inherits) is False


@pytest.mark.parametrize(
    "login", ["postgres", "authenticator", "supabase_storage_admin", "supabase_admin"]
)
async def test_login_over_tcp_asks_for_the_documented_password(
    database: DatabaseAddress, login: str
) -> None:
    address = DatabaseAddress("127.0.0.1", database.port, database.dbname, "postgres")
    connection = await asyncpg.connect(**address.connect_args(login))
    assert await connection.fetchval("select session_user") == login
    await connection.close()
    wrong = DatabaseAddress("127.0.0.1", database.port, database.dbname, "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**wrong.connect_args(login))


@pytest.mark.parametrize("owner", ["postgres", "supabase_admin"])
async def test_new_objects_in_public_are_open_to_the_api_roles(
    admin: Connection, owner: str
) -> None:
    await admin.execute(f"set session authorization {owner}")
    await admin.execute("create table notes (id serial primary key)")
    await admin.execute("create function f() returns int language sql return 1")
    for role in API_ROLES:
        granted = await admin.fetchrow(
            """
            select has_table_privilege($1, 'notes', 'select, insert, update, delete'),
              has_sequence_privilege($1, 'notes_id_seq', 'usage'),
              has_function_privilege($1, 'f()', 'execute')
            """,
            role,
        )
        assert tuple(granted) == (True, True, True)


async def test_search_path_of_a_login_finds_extensions(
    postgres_role: Connection,
) -> None:
    assert await postgres_role.fetchval("show search_path") == (
        '"$user", public, extensions'
    )
    made = await postgres_role.fetchval("select uuid_generate_v4()")
    assert made.version == 4


async def test_postgres_adds_policies_and_triggers_to_service_tables(
    postgres_role: Connection,
) -> None:
    for statement in (
        "create policy p on storage.objects for select to anon using (true)",
        "alter policy p on storage.objects using (bucket_id = 'a')",
        "drop policy p on storage.objects",
        "create policy p on storage.buckets for select to anon using (true)",
        "create policy p on realtime.messages for select to anon using (true)",
        "create function public.t() returns trigger language plpgsql as"
        " 'begin return new; end'",
        "create trigger t after insert on storage.objects"
        " for each row execute function public.t()",
        "create trigger t after insert on auth.users"
        " for each row execute function public.t()",
        "drop trigger t on storage.objects",
        "create table public.profiles (id uuid primary key references auth.users"
        " on delete cascade)",
        "insert into auth.users (id, email) values"
        " ('00000000-0000-0000-0000-000000000001', 'a@example.com')",
        "delete from auth.users",
        "drop table public.profiles",
    ):
        await postgres_role.execute(statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("alter table storage.objects add column x int", "must be owner of table obj"),
        ("alter table storage.objects disable row level security", "must be owner"),
        ("drop table storage.objects cascade", "must be owner of table objects"),
        ("create table storage.mine (id int)", "permission denied for schema storage"),
        ("create index i on storage.objects (name)", "permission denied|must be owner"),
        ("create function auth.x() returns int return 1", "permission denied for sch"),
        ("alter table auth.users drop column email", "must be owner of"),
        ("drop function auth.email()", "must be owner of function email"),
        ("create table realtime.mine (id int)", "permission denied for schema realt"),
    ],
)
async def test_postgres_cannot_reshape_what_services_own(
    postgres_role: Connection, statement: str, message: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=message):
        await postgres_role.execute(statement)


async def test_postgres_owns_the_publication_and_fills_it(
    postgres_role: Connection,
) -> None:
    await postgres_role.execute("create table t (id int primary key)")
    await postgres_role.execute("alter publication supabase_realtime add table t")
    published = "select tablename from pg_publication_tables where pubname = $1"
    rows = await postgres_role.fetch(published, "supabase_realtime")
    assert [row["tablename"] for row in rows] == ["t"]


async def test_postgres_is_no_superuser_and_cannot_become_one(
    postgres_role: Connection,
) -> None:
    for statement in (
        "set role supabase_admin",
        "alter role postgres superuser",
        "create role r superuser",
        "alter role supabase_admin password 'x'",
        "copy (select 1) to program 'true'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await postgres_role.execute(statement)
    await postgres_role.execute("create role harness_test_role")
    await postgres_role.execute("drop role harness_test_role")


async def test_ddl_tells_the_rest_service_to_reload(
    postgres_role: Connection, admin: Connection
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await admin.add_listener("pgrst", lambda *args: heard.put_nowait(args[3]))
    await postgres_role.execute("create table t (id int)")
    assert await asyncio.wait_for(heard.get(), 5) == "reload schema"
    await postgres_role.execute("drop table t")
    assert await asyncio.wait_for(heard.get(), 5) == "reload schema"


async def test_vault_gives_secrets_back_to_postgres_only(
    admin: Connection, postgres_role: Connection
) -> None:
    await postgres_role.execute("select vault.create_secret('s3cret', 'key', 'why')")
    read = "select decrypted_secret from vault.decrypted_secrets where name = 'key'"
    assert await postgres_role.fetchval(read) == "s3cret"
    await postgres_role.execute(
        "select vault.update_secret((select id from vault.secrets), 'new')"
    )
    assert await postgres_role.fetchval(read) == "new"
    for role in ("anon", "authenticated"):
        async with rolled_back_as(admin, role):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await admin.fetch(read)


async def test_as_role_carries_claims_and_ends_with_its_transaction(
    admin: Connection,
) -> None:
    user = "7b0a3ba7-4a04-4b1c-8f35-0b8a5a0f1d11"
    claims = {"sub": user, "app_metadata": {"tier": "free"}, "email": "é@x.org"}
    await admin.execute("create table public.seen (who uuid, role text)")
    async with as_role(admin, "authenticated", claims):
        await admin.execute("insert into seen select auth.uid(), auth.role()")
        tier = "select auth.jwt() -> 'app_metadata' ->> 'tier'"
        assert await admin.fetchval(tier) == "free"
        assert await admin.fetchval("select auth.email()") == "é@x.org"
    assert await admin.fetchval("select current_user") == "supabase_admin"
    row = await admin.fetchrow("select who::text, role from seen")
    assert tuple(row) == (user, "authenticated")
    async with rolled_back_as(admin, "anon"):
        assert await admin.fetchval("select auth.uid()") is None
        await admin.execute("delete from seen")
    assert await admin.fetchval("select count(*) from seen") == 1


async def test_as_role_inside_a_transaction_is_refused(admin: Connection) -> None:
    async with admin.transaction():
        with pytest.raises(RuntimeError, match="transaction of its own"):
            async with as_role(admin, "anon"):
                pass


async def test_rolled_back_as_works_as_a_savepoint(admin: Connection) -> None:
    async with admin.transaction():
        async with rolled_back_as(admin, "anon"):
            assert await admin.fetchval("select current_user") == "anon"
        assert await admin.fetchval("select current_user") == "supabase_admin"


async def test_postgres_does_not_become_the_owners_of_service_tables(
    postgres_role: Connection, postgres_installation: PostgresInstallation
) -> None:
    if postgres_installation.major < 16:
        pytest.skip("PostgreSQL 15 cannot tell inheriting from becoming")
    for owner in ("supabase_auth_admin", "supabase_storage_admin"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await postgres_role.execute(f"set role {owner}")
