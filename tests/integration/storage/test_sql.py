"""The storage schema itself: functions, guards, grants, indexes (storage-api 3.11)."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, RaiseException


@pytest.fixture
def bucket(sql: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Have a bucket and some objects in it."""
    sql.execute("insert into storage.buckets (id, name) values ('b', 'b')")
    for name in ("a/b/c.txt", "a/d", "A/e", "z", "a-x"):
        sql.execute(
            "insert into storage.objects (bucket_id, name, metadata) "
            "values ('b', %s, '{\"size\": 5}')",
            (name,),
        )
    return sql


@pytest.mark.parametrize(
    ("name", "folder", "file", "extension"),
    [
        ("top", [], "top", "top"),
        ("a/b/c.txt", ["a", "b"], "c.txt", "txt"),
        ("a/noext", ["a"], "noext", "noext"),
        ("a/b.tar.gz", ["a"], "b.tar.gz", "gz"),
        ("a.b/c", ["a.b"], "c", "c"),
        ("a/", ["a"], "", ""),
    ],
)
def test_names(
    sql: psycopg.Connection[Any],
    name: str,
    folder: list[str],
    file: str,
    extension: str,
) -> None:
    row = sql.execute(
        "select storage.foldername(%(n)s), storage.filename(%(n)s), "
        "storage.extension(%(n)s)",
        {"n": name},
    ).fetchone()
    assert row == (folder, file, extension)


def test_operations(sql: psycopg.Connection[Any]) -> None:
    query = (
        "select storage.operation(), "
        "storage.allow_any_operation(array['object.list', 'storage.object.upload']), "
        "storage.allow_any_operation(array['object.list']), "
        "storage.allow_only_operation('object.upload'), "
        "storage.allow_only_operation('storage.object.list')"
    )
    with sql.transaction():
        sql.execute("set local storage.operation = 'storage.object.upload'")
        row = sql.execute(query).fetchone()
    assert row == ("storage.object.upload", True, False, True, False)


@pytest.mark.parametrize("table", ["objects", "buckets"])
def test_direct_deletes_are_refused(
    bucket: psycopg.Connection[Any], table: str
) -> None:
    message = "Direct deletion from storage tables is not allowed"
    with pytest.raises(InsufficientPrivilege, match=message):
        bucket.execute(f"delete from storage.{table} where false")
    with bucket.transaction():
        bucket.execute("set local storage.allow_delete_query = 'true'")
        bucket.execute(f"delete from storage.{table} where false")


def test_bucket_names_have_at_most_100_characters(
    sql: psycopg.Connection[Any],
) -> None:
    insert = "insert into storage.buckets (id, name) values ('x', %s)"
    with pytest.raises(RaiseException, match="is too long"):
        sql.execute(insert, ("x" * 101,))
    sql.execute(insert, ("x" * 100,))


def test_can_insert_object_leaves_nothing(bucket: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.DatabaseError) as raised:
        bucket.execute("select storage.can_insert_object('b', 'new', null, null)")
    assert raised.value.sqlstate == "PT200"
    count = "select count(*) from storage.objects where name = 'new'"
    assert bucket.execute(count).fetchone() == (0,)


def test_generated_and_stamped_columns(bucket: psycopg.Connection[Any]) -> None:
    row = bucket.execute(
        "update storage.objects set version = 'v' where name = 'a/b/c.txt' "
        "returning path_tokens, updated_at > created_at"
    ).fetchone()
    assert row == (["a", "b", "c.txt"], True)


def test_size_by_bucket(bucket: psycopg.Connection[Any]) -> None:
    rows = bucket.execute("select * from storage.get_size_by_bucket()").fetchall()
    assert rows == [(25, "b")]


def test_search(bucket: psycopg.Connection[Any]) -> None:
    def names(*args: Any) -> list[str]:
        marks = ", ".join(["%s"] * len(args))
        query = f"select name from storage.search({marks})"
        return [row[0] for row in bucket.execute(query, args).fetchall()]

    assert names("", "b") == ["a-x", "a", "z"]
    assert names("a/", "b", 100, 2) == ["b", "d", "e"]
    assert names("", "b", 100, 1, 0, "A") == ["a-x", "a"]
    assert names("", "b", 1, 1, 1) == ["a"]
    assert names("", "b", 100, 1, 0, "", "created_at", "desc") == ["a", "A", "a-x", "z"]


def test_delimiter_listing(bucket: psycopg.Connection[Any]) -> None:
    def names(*args: Any) -> list[str]:
        marks = ", ".join(["%s"] * len(args))
        query = f"select name from storage.list_objects_with_delimiter({marks})"
        return [row[0] for row in bucket.execute(query, args).fetchall()]

    assert names("b", "", "/") == ["A", "a-x", "a", "z"]
    assert names("b", "a", "/") == ["a-x", "a"]
    assert names("b", "", "/", 2) == ["A", "a-x"]
    assert names("b", "", "/", 10, "a-x") == ["a", "z"]
    assert names("b", "", "/", 10, "", "a") == ["z"]
    assert names("b", "", "/", 10, "", "", "desc") == ["z", "a", "a-x", "A"]
    keys = bucket.execute(
        "select key, name from storage.search_v2('a/', 'b', 10, 2)"
    ).fetchall()
    assert keys == [("b", "a/b"), ("d", "a/d")]


def test_no_function_runs_as_its_owner(sql: psycopg.Connection[Any]) -> None:
    definers = sql.execute(
        "select proname from pg_proc where prosecdef and pronamespace in "
        "('storage'::regnamespace, '_storage'::regnamespace)"
    ).fetchall()
    assert definers == []


def test_everything_has_row_security_and_no_policies(
    sql: psycopg.Connection[Any],
) -> None:
    open_tables = sql.execute(
        "select relname from pg_class where relkind = 'r' and not relrowsecurity "
        "and relnamespace = 'storage'::regnamespace"
    ).fetchall()
    assert open_tables == []
    policies = "select count(*) from pg_policies where schemaname = 'storage'"
    assert sql.execute(policies).fetchone() == (0,)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_clients_cannot_reach_what_is_the_servers(
    bucket: psycopg.Connection[Any], role: str
) -> None:
    with bucket.transaction(force_rollback=True):
        bucket.execute(f"set local role {role}")
        with pytest.raises(InsufficientPrivilege, match="schema _storage"):
            bucket.execute("select * from _storage.intents")
    privileges = bucket.execute(
        "select has_table_privilege(%(r)s, 'storage.objects', 'insert'), "
        "has_table_privilege(%(r)s, 'storage.s3_multipart_uploads', 'select'), "
        "has_table_privilege(%(r)s, 'storage.s3_multipart_uploads', 'insert')",
        {"r": role},
    ).fetchone()
    assert privileges == (True, True, role == "service_role")
