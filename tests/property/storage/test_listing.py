"""Listing through the API gives what storage.search gives the same user.

The API finds candidates as the owner and asks the policy about those alone; this holds
it to the plain function, which puts every row to the policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
POLICY = (
    "create policy visible on storage.objects for select to authenticated "
    "using ((metadata ->> 'visible')::boolean)"
)
segments = st.sampled_from(["a", "b", "Dir", "dir", "d-x", "z z", "0", "_", "a.b"])
# A name may end in a slash, or have nothing between two.
names = st.lists(segments | st.just(""), min_size=1, max_size=4).map("/".join)
names = names.filter(bool)
trees = st.dictionaries(names, st.booleans(), max_size=25)
asked = st.fixed_dictionaries(
    {
        "prefix": st.sampled_from(["", "dir", "Dir/", "a", "a/dir", "z z", "none"]),
        "search": st.sampled_from(["", "d", "DI", "a/", "b", "_"]),
        "limit": st.integers(1, 6),
        "offset": st.integers(0, 4),
        "sortBy": st.fixed_dictionaries(
            {"column": st.just("name"), "order": st.sampled_from(["asc", "desc"])}
        ),
    }
)


@pytest.fixture
def listing(
    database: DatabaseAddress, tmp_path: Path
) -> Iterator[tuple[StandaloneStorage, httpx.Client, psycopg.Connection[Any]]]:
    with (
        StandaloneStorage(database, tmp_path / "objects") as storage,
        httpx.Client() as client,
        psycopg.connect(database.dsn("supabase_admin"), autocommit=True) as connection,
    ):
        connection.execute(POLICY)
        connection.execute("insert into storage.buckets (id, name) values ('b', 'b')")
        connection.execute(
            "select set_config('storage.allow_delete_query', 'true', false)"
        )
        yield storage, client, connection


@settings(
    max_examples=200,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(tree=trees, body=asked)
def test_api_lists_what_sql_lists(
    listing: tuple[StandaloneStorage, httpx.Client, psycopg.Connection[Any]],
    tree: dict[str, bool],
    body: dict[str, Any],
) -> None:
    storage, client, connection = listing
    # Names that differ in case only are in no order: keep one of them.
    spellings = {name.lower(): (name, visible) for name, visible in tree.items()}
    connection.execute("delete from storage.objects")
    for name, visible in spellings.values():
        connection.execute(
            "insert into storage.objects (bucket_id, name, metadata) values "
            "('b', %s, jsonb_build_object('visible', %s::boolean))",
            (name, visible),
        )
    answer = client.post(
        f"{storage.url}/object/list/b",
        json=body,
        headers={"Authorization": f"Bearer {storage.token(ALICE)}"},
    )
    listed = [(e["name"].lower(), e["id"]) for e in answer.json()]
    assert listed == expected(connection, body)


def expected(
    connection: psycopg.Connection[Any], body: dict[str, Any]
) -> list[tuple[str, str | None]]:
    prefix = body["prefix"]
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    claims = orjson.dumps({"sub": ALICE, "role": "authenticated"}).decode()
    with connection.transaction(force_rollback=True):
        connection.execute(
            "select set_config('request.jwt.claims', %s, true)", (claims,)
        )
        connection.execute("set local role authenticated")
        rows = connection.execute(
            "select name, id::text "
            "from storage.search(%s, 'b', %s, %s, %s, %s, 'name', %s)",
            (
                prefix,
                body["limit"],
                prefix.count("/") + 1,
                body["offset"],
                body["search"],
                body["sortBy"]["order"],
            ),
        ).fetchall()
    return [(name.lower(), object_id) for name, object_id in rows]


@settings(
    max_examples=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    tree=st.sets(names, max_size=12),
    body=st.fixed_dictionaries(
        {
            "prefix": st.sampled_from(["", "a", "a/", "dir/", "/"]),
            "with_delimiter": st.booleans(),
            "sortBy": st.fixed_dictionaries(
                {
                    "column": st.sampled_from(["name", "created_at"]),
                    "order": st.sampled_from(["asc", "desc"]),
                }
            ),
        }
    ),
    limit=st.integers(1, 3),
)
@example(
    tree={"//", "/a", "a"},
    body={
        "prefix": "",
        "with_delimiter": True,
        "sortBy": {"column": "name", "order": "asc"},
    },
    limit=1,
)
@example(
    tree={"//a", "/b"},
    body={
        "prefix": "/",
        "with_delimiter": True,
        "sortBy": {"column": "name", "order": "asc"},
    },
    limit=1,
)
def test_pages_add_up_to_the_whole_list(
    listing: tuple[StandaloneStorage, httpx.Client, psycopg.Connection[Any]],
    tree: set[str],
    body: dict[str, Any],
    limit: int,
) -> None:
    storage, client, connection = listing
    connection.execute("delete from storage.objects")
    for name in sorted(tree):
        connection.execute(
            "insert into storage.objects (bucket_id, name) values ('b', %s)", (name,)
        )

    def page(more: dict[str, Any]) -> Any:
        answer = client.post(
            f"{storage.url}/object/list-v2/b",
            json={**body, **more},
            headers={"Authorization": f"Bearer {storage.service_key}"},
        )
        return answer.raise_for_status().json()

    whole = page({"limit": 1000})
    assert not whole["hasNext"]
    folders, objects = [], []
    more: dict[str, Any] = {"limit": limit}
    for _ in range(len(tree) + 1):
        part = page(more)
        folders += part["folders"]
        objects += part["objects"]
        if not part["hasNext"]:
            break
        more["cursor"] = part["nextCursor"]
    assert not part["hasNext"], "the pages never end"
    assert [each["name"] for each in objects] == [e["name"] for e in whole["objects"]]
    assert [each["name"] for each in folders] == [e["name"] for e in whole["folders"]]
