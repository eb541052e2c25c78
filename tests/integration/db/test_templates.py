"""Template databases, their clones, and clones made ahead of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio

from harness.db.clone_pool import ClonePool
from harness.db.cluster import Cluster
from harness.db.fingerprint import catalog_diff, fingerprint
from harness.db.schema_files import Schema, SchemaFile
from harness.db.templates import TemplateStore
from harness.errors import MigrationError
from tests.integration.db.conftest import Connect

DEADLINE_S = 20.0


@pytest_asyncio.fixture
async def store(postgres: Cluster) -> AsyncIterator[TemplateStore]:
    """Open a store; what a test makes is dropped after it."""
    async with TemplateStore(postgres.address()) as opened:
        before = set(await opened.databases("harness_"))
        yield opened
        for name in set(await opened.databases("harness_")) - before:
            await opened.drop(name)


@pytest.fixture
def schema(platform_schema: Schema, request: pytest.FixtureRequest) -> list[Schema]:
    """Return the platform and one table, with a comment that only this test has."""
    text = f"create table public.things (id int); -- {request.node.name}"
    return [platform_schema, Schema((SchemaFile("1_a.sql", "1", "a", text),))]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)


async def test_clone_is_like_its_template_and_belongs_to_postgres(
    store: TemplateStore, schema: list[Schema], connect: Connect
) -> None:
    template = await store.template(schema)
    one = await connect(store.address(await store.clone(template)))
    two = await connect(store.address(await store.clone(template, "harness_named")))
    await one.execute("insert into things values (1)")
    assert await two.fetchval("select count(*) from things") == 0
    assert await two.fetchval("select current_database()") == "harness_named"
    assert catalog_diff(await fingerprint(one), await fingerprint(two)) == ()
    owner = "select pg_get_userbyid(datdba) from pg_database where datname = $1"
    assert await one.fetchval(owner, "harness_named") == "postgres"


async def test_same_files_are_applied_once(
    store: TemplateStore, schema: list[Schema], postgres: Cluster
) -> None:
    others = [store.sibling() for _ in range(3)]
    for other in others:
        await other.open()
    names = await asyncio.gather(*(s.template(schema) for s in [store, *others]))
    assert len(set(names)) == 1
    oid = "select oid from pg_database where datname = $1"
    connection = await asyncpg.connect(
        **postgres.address().connect_args("supabase_admin")
    )
    before = await connection.fetchval(oid, names[0])
    assert await store.template(schema) == names[0]
    assert await connection.fetchval(oid, names[0]) == before
    await connection.close()
    for other in others:
        await other.close()


async def test_failing_schema_leaves_no_template(
    store: TemplateStore, platform_schema: Schema
) -> None:
    broken = Schema((SchemaFile("1_a.sql", "1", "a", "select 1;\nselect 1 / 0"),))
    before = await store.databases("harness_template_")
    for _ in range(2):
        with pytest.raises(MigrationError) as caught:
            await store.template([platform_schema, broken])
        assert (caught.value.file, caught.value.line) == ("1_a.sql", 2)
    assert await store.databases("harness_template_") == before


async def test_half_built_template_is_built_again(
    store: TemplateStore, schema: list[Schema], connect: Connect
) -> None:
    name = await store.template(schema)
    admin = await connect(store.address("_supabase"))
    # As a crash of the builder would leave it: there, but not marked.
    await admin.execute(f'alter database "{name}" is_template false')
    spoiler = await connect(store.address(name))
    await spoiler.execute("drop table things")
    assert await store.template(schema) == name
    clone = await connect(store.address(await store.clone(name)))
    assert await clone.fetchval("select count(*) from things") == 0


async def test_settings_of_database_and_roles_reach_the_clone_alone(
    store: TemplateStore, platform_schema: Schema, connect: Connect
) -> None:
    text = (
        "alter database postgres set statement_timeout = '77s';"
        "alter role authenticator set pgrst.db_schemas = 'public, \"o''dd\"';"
        "alter role authenticator set search_path = 'My Schema', public"
    )
    schema = [platform_schema, Schema((SchemaFile("1_a.sql", "1", "a", text),))]
    clone = await store.clone(await store.template(schema))
    plain = await store.clone(await store.template([platform_schema]))
    login = await connect(store.address(clone), "authenticator")
    assert await login.fetchval("show pgrst.db_schemas") == 'public, "o\'dd"'
    assert await login.fetchval("show search_path") == '"My Schema", public'
    admin = await connect(store.address(clone))
    assert await admin.fetchval("show statement_timeout") == "77s"
    other = await connect(store.address(plain), "authenticator")
    unset = "select current_setting('pgrst.db_schemas', true)"
    assert await other.fetchval(unset) in (None, "")
    assert await other.fetchval("show statement_timeout") == "8s"


async def test_role_of_one_project_does_not_break_the_next(
    store: TemplateStore, platform_schema: Schema, connect: Connect
) -> None:
    def schema(attribute: str) -> list[Schema]:
        text = f"create role harness_reader {attribute}; grant anon to harness_reader"
        return [platform_schema, Schema((SchemaFile("1_a.sql", "1", "a", text),))]

    await store.template(schema("nologin"))
    await store.template(schema("login"))
    admin = await connect(store.address("_supabase"))
    can_login = "select rolcanlogin from pg_roles where rolname = 'harness_reader'"
    assert await admin.fetchval(can_login) is True
    await admin.execute("drop role harness_reader")
    twice = "create role harness_twice; create role harness_twice"
    with pytest.raises(MigrationError, match="already exists"):
        await store.template(
            [platform_schema, Schema((SchemaFile("1_a.sql", "1", "a", twice),))]
        )
    with pytest.raises(MigrationError, match='"anon" already exists'):
        await store.template(
            [platform_schema, Schema((SchemaFile("1", "1", "a", "create role anon"),))]
        )


async def test_drop_ends_sessions_and_slots(
    store: TemplateStore, platform_schema: Schema, connect: Connect
) -> None:
    name = await store.clone(await store.template([platform_schema]))
    session = await connect(store.address(name))
    await session.execute(
        "select pg_create_logical_replication_slot('harness_slot', 'pgoutput')"
    )
    await store.drop(name)
    await store.drop(name)
    admin = await connect(store.address("_supabase"))
    slots = "select count(*) from pg_replication_slots where slot_name = 'harness_slot'"
    assert await admin.fetchval(slots) == 0
    assert name not in await store.databases("harness_")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await session.fetchval("select 1")


async def test_pool_gives_each_taker_a_database_of_its_own(
    store: TemplateStore, schema: list[Schema], connect: Connect
) -> None:
    async with ClonePool(store, await store.template(schema), size=3) as pool:
        addresses = await asyncio.gather(*(pool.take() for _ in range(7)))
        named = await pool.take("harness_mine")
    assert len({a.dbname for a in addresses}) == 7
    assert named.dbname == "harness_mine"
    # Closing the pool drops what waited, not what was taken.
    assert await store.databases("harness_pool_") == ()
    connection = await connect(named)
    assert await connection.fetchval("select count(*) from things") == 0


async def test_pool_of_a_dead_client_is_cleared_by_the_next(
    store: TemplateStore, schema: list[Schema], connect: Connect
) -> None:
    template = await store.template(schema)
    abandoned = await store.clone(template, "harness_pool_0000dead_0")
    async with ClonePool(store, template) as living:
        await living.take()

        async def one_is_waiting() -> bool:
            return bool(await store.databases("harness_pool_"))

        await eventually(one_is_waiting)
        assert abandoned not in await store.databases("harness_pool_")
        waiting = set(await store.databases("harness_pool_"))
        async with ClonePool(store, template):
            assert waiting <= set(await store.databases("harness_pool_"))


async def test_pool_that_cannot_prepare_says_why(store: TemplateStore) -> None:
    async with ClonePool(store, "harness_no_such_template") as pool:
        with pytest.raises(asyncpg.InvalidCatalogNameError, match="no_such_template"):
            await pool.take()
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await pool.take()
