"""The five schemas: each alone, all in one database, in any order, twice."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import asyncpg
import pytest

from harness.db.address import DatabaseAddress
from harness.db.fingerprint import catalog_diff, fingerprint
from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema, read_schema
from scenarios.requirements import load_requirements, shown_by
from tests.conftest import CloneOf

ROOT = Path(__file__).resolve().parents[3]
SQL = ROOT / "sql"
SYSTEMS = ("climber", "audiobook", "storymimi", "keepintouch", "wedsync")
ORDERS = (SYSTEMS, SYSTEMS[::-1], (*SYSTEMS[2:], *SYSTEMS[:2]))


def schema_of(system: str) -> Schema:
    return read_schema(SQL / system)


async def connect(database: DatabaseAddress) -> asyncpg.Connection:
    return await asyncpg.connect(**database.connect_args("supabase_admin"))


@pytest.mark.parametrize("system", SYSTEMS)
async def test_a_schema_applied_again_changes_nothing(
    system: str, clone_of: CloneOf
) -> None:
    connection = await connect(clone_of(schema_of(system)))
    try:
        before = await fingerprint(connection)
        await apply_schema(connection, schema_of(system))
        assert catalog_diff(before, await fingerprint(connection)) == ()
    finally:
        await connection.close()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_draft_applies_to_a_fresh_database(system: str, clone_of: CloneOf) -> None:
    clone_of(read_schema(SQL / system / "draft"))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_all_five_apply_together_in_any_order(
    order: tuple[str, ...], clone_of: CloneOf
) -> None:
    connection = await connect(clone_of(*(schema_of(system) for system in order)))
    try:
        before = await fingerprint(connection)
        for system in order:
            await apply_schema(connection, schema_of(system))
        assert catalog_diff(before, await fingerprint(connection)) == ()
        columns = await connection.fetch(
            "select attname from pg_attribute where attnum > 0 and not attisdropped"
            " and attrelid = 'public.user_profiles'::regclass"
        )
    finally:
        await connection.close()
    assert {row["attname"] for row in columns} == {
        "id",
        "email",
        "display_name",
        "profile_image_url",
        "user_type",
        "supplier_id",
        "couple_id",
        "created_at",
        "updated_at",
    }


async def test_the_order_of_the_five_leaves_the_same_policies(
    clone_of: CloneOf,
) -> None:
    told = []
    for order in ORDERS[:2]:
        connection = await connect(clone_of(*(schema_of(system) for system in order)))
        try:
            lines = await fingerprint(connection)
        finally:
            await connection.close()
        told.append({line for line in lines if line.startswith(("policy", "function"))})
    assert told[0] == told[1]


async def test_together_nobody_reaches_a_bucket_of_another_system(
    clone_of: CloneOf,
) -> None:
    """Each system's policies name their bucket: their union opens no other."""
    connection = await connect(clone_of(*(schema_of(system) for system in SYSTEMS)))
    user = "f0000000-0000-4000-8000-000000000001"
    try:
        await connection.execute(
            "insert into auth.users (id, email) values ($1::text::uuid, 'x@x.test')",
            user,
        )
        buckets = await connection.fetch("select id from storage.buckets order by id")
        allowed = {
            (bucket, folder)
            for (bucket,), folder in itertools.product(
                buckets, ("", "/documents", "/profile")
            )
            if await _may_insert(connection, user, bucket, f"{user}{folder}/a.png")
        }
    finally:
        await connection.close()
    assert len(buckets) == 7
    assert allowed == {
        ("user-avatars", ""),
        ("user-avatars", "/documents"),
        ("user-avatars", "/profile"),
        ("user-documents", "/documents"),
        ("user-documents", "/profile"),
    }


def test_the_foundation_is_the_same_everywhere() -> None:
    texts = {
        path.read_text(encoding="utf-8") for path in SQL.glob("*/*_foundation.sql")
    }
    assert len(texts) == 1
    limits = {p.read_text(encoding="utf-8") for p in SQL.glob("*/*_rate_limits.sql")}
    assert len(limits) == 1


def test_versions_are_unique_across_systems() -> None:
    names = [path.name for system in SYSTEMS for path in (SQL / system).glob("*.sql")]
    versions = [name.partition("_")[0] for name in names]
    assert len(set(versions)) == len(versions)
    assert all(re.fullmatch(r"\d{14}_[a-z_]+\.sql", name) for name in names)


def test_every_requirement_is_shown_by_a_scenario() -> None:
    shown = shown_by(ROOT / "scenarios")
    requirements = load_requirements()
    assert len(requirements) == 182
    # The phases of a run show that the stack starts.
    assert set(requirements) - set(shown) == {"HX-01"}
    assert set(shown) <= set(requirements)


async def _may_insert(
    connection: asyncpg.Connection, user: str, bucket: str, name: str
) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            "select set_config('role', 'authenticated', true),"
            " set_config('request.jwt.claims', json_build_object("
            "   'sub', $1::text, 'role', 'authenticated')::text, true)",
            user,
        )
        await connection.execute(
            "insert into storage.objects (bucket_id, name) values ($1, $2)",
            bucket,
            name,
        )
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await transaction.rollback()
    return True
