"""What the API allows is what SQL as that role decides, whatever the policies are.

For drawn policies on storage.objects and storage.buckets every operation is decided
twice: by the statement that the Storage API runs as the caller, executed here in a
transaction that is rolled back, and by a call of the API itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import InsufficientPrivilege, UniqueViolation

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
OWN, OTHER = f"{ALICE}/own", f"{BOB}/other"
NEW_OWN, NEW_OTHER = f"{ALICE}/new", f"{BOB}/new"
CONDITIONS = {
    "none": None,
    "own": "(storage.foldername(name))[1] = auth.uid()::text",
    "owner": "owner_id = auth.uid()::text",
    "small": "coalesce((metadata ->> 'contentLength')::int, 0) < 100",
    "operation": "storage.allow_any_operation(array['object.upload', 'object.list'])",
    "all": "true",
}
COMMANDS = ("select", "insert", "update", "delete")
policies = st.tuples(*[st.sampled_from(sorted(CONDITIONS)) for _ in COMMANDS])
INSERT = (
    "insert into storage.objects as o (name, owner, owner_id, bucket_id, metadata, "
    "version) values (%(key)s, %(me)s::uuid, %(me)s::text, 'docs', %(metadata)s, '1')"
)
UPSERT = (
    f"{INSERT} on conflict (name, bucket_id) do update set metadata = "
    "excluded.metadata, version = excluded.version, owner = excluded.owner, "
    "owner_id = excluded.owner_id returning o.*"
)
SELECT = "select name from storage.objects where bucket_id = 'docs' and name = %(key)s"
MOVE = (
    "update storage.objects set name = %(goal)s, owner = %(me)s::uuid, "
    "owner_id = %(me)s::text, version = '1' "
    "where bucket_id = 'docs' and name = %(key)s returning *"
)
DELETE = (
    "delete from storage.objects where bucket_id = 'docs' and name = %(key)s "
    "returning *"
)


@dataclass(frozen=True, slots=True)
class World:
    """A served project and its database."""

    storage: StandaloneStorage
    client: httpx.Client
    database: psycopg.Connection[Any]

    def call(self, user: str, method: str, path: str, **kw: Any) -> httpx.Response:
        """Send a request as a user, or as the service."""
        role = "authenticated" if user else "service_role"
        headers = {"Authorization": f"Bearer {self.storage.token(user, role=role)}"}
        headers |= kw.pop("headers", {})
        url = self.storage.url + path
        return self.client.request(method, url, headers=headers, **kw)

    def restore(self) -> None:
        """Have exactly the two objects again."""
        self.call("", "POST", "/bucket/docs/empty")
        for user, key in ((ALICE, OWN), (BOB, OTHER)):
            self.call("", "PUT", f"/object/docs/{key}", content=b"bytes")
            self.database.execute(
                "update storage.objects set owner = %s, owner_id = %s where name = %s",
                (user, user, key),
            )

    def set_policies(self, table: str, drawn: Sequence[str]) -> None:
        """Replace the policies of a table; one condition a command."""
        for command in COMMANDS:
            self.database.execute(f"drop policy if exists p_{command} on {table}")
        for command, name in zip(COMMANDS, drawn, strict=True):
            condition = CONDITIONS[name]
            if condition is None:
                continue
            using = f"using ({condition})" if command != "insert" else ""
            check = (
                f"with check ({condition})" if command in ("insert", "update") else ""
            )
            self.database.execute(
                f"create policy p_{command} on {table} for {command} "
                f"to authenticated {using} {check}"
            )

    @contextmanager
    def as_alice(self, operation: str) -> Iterator[None]:
        """Be Alice in a transaction that is rolled back."""
        claims = orjson.dumps({"sub": ALICE, "role": "authenticated"}).decode()
        told = {
            "request.jwt.claims": claims,
            "storage.operation": operation,
            "storage.allow_delete_query": "true",
            "role": "authenticated",
        }
        with self.database.transaction(force_rollback=True):
            for name, value in told.items():
                self.database.execute("select set_config(%s, %s, true)", (name, value))
            yield

    def decide(self, operation: str, *statements: tuple[str, dict[str, Any]]) -> bool:
        """Whether every statement succeeds as Alice and, if it returns, finds a row."""
        try:
            with self.as_alice(operation):
                for statement, values in statements:
                    cursor = self.database.execute(
                        statement, {"me": ALICE, "metadata": "{}", **values}
                    )
                    if cursor.description is not None and not cursor.fetchall():
                        return False
        except (InsufficientPrivilege, UniqueViolation):
            return False
        return True


@pytest.fixture
def world(database: DatabaseAddress, tmp_path: Path) -> Iterator[World]:
    with (
        StandaloneStorage(database, tmp_path / "objects") as storage,
        httpx.Client(timeout=30) as client,
        psycopg.connect(database.dsn("supabase_admin"), autocommit=True) as connection,
    ):
        made = World(storage, client, connection)
        made.call("", "POST", "/bucket", json={"name": "docs"}).raise_for_status()
        yield made


def metadata_of(size: int) -> str:
    told = {"mimetype": "application/octet-stream", "contentLength": size}
    return orjson.dumps(told).decode()


EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@EXAMPLES
@given(drawn=policies)
def test_objects(world: World, drawn: tuple[str, ...]) -> None:
    world.set_policies("storage.objects", drawn)
    world.restore()
    for key in (OWN, OTHER):
        check_reads(world, key)
    for key, size in ((NEW_OWN, 5), (NEW_OTHER, 5), (NEW_OWN, 500), (OWN, 5)):
        check_upload(world, key, size)
    for key in (OWN, OTHER, NEW_OWN, NEW_OTHER):
        check_upsert(world, key)
    for source, goal in (
        (OWN, NEW_OWN),
        (OTHER, NEW_OWN),
        (OWN, NEW_OTHER),
        (OWN, OTHER),
    ):
        check_copy_and_move(world, source, goal)
    for key in (OWN, OTHER):
        check_deletes(world, key)


def check_reads(world: World, key: str) -> None:
    get = "storage.object.get_authenticated"
    visible = world.decide(get, (SELECT, {"key": key}))
    answer = world.call(ALICE, "GET", f"/object/docs/{key}")
    assert answer.is_success == visible, ("get", key, answer.text)
    signable = world.decide("storage.object.sign", (SELECT, {"key": key}))
    sign = {"expiresIn": 60}
    signed = world.call(ALICE, "POST", f"/object/sign/docs/{key}", json=sign)
    assert signed.is_success == signable, ("sign", key, signed.text)
    many = world.decide("storage.object.sign_many", (SELECT, {"key": key}))
    batch = world.call(
        ALICE, "POST", "/object/sign/docs", json={"expiresIn": 60, "paths": [key]}
    )
    assert (batch.json()[0]["signedURL"] is not None) == many
    listed = world.decide("storage.object.list", (SELECT, {"key": key}))
    folder = {"prefix": key.partition("/")[0]}
    names = world.call(ALICE, "POST", "/object/list/docs", json=folder).json()
    assert (key.partition("/")[2] in {e["name"] for e in names}) == listed
    listed = world.decide("storage.object.list_v2", (SELECT, {"key": key}))
    page = world.call(ALICE, "POST", "/object/list-v2/docs", json={}).json()
    assert (key in {entry["name"] for entry in page["objects"]}) == listed


def check_upload(world: World, key: str, size: int) -> None:
    values = {"key": key, "metadata": metadata_of(size)}
    allowed = world.decide("storage.object.upload", (INSERT, values))
    answer = world.call(ALICE, "POST", f"/object/docs/{key}", content=b"x" * size)
    assert answer.is_success == allowed, ("upload", key, answer.text)
    if allowed:
        world.restore()


def check_upsert(world: World, key: str) -> None:
    values = {"key": key, "metadata": metadata_of(5)}
    allowed = world.decide("storage.object.upload", (UPSERT, values))
    answer = world.call(
        ALICE,
        "POST",
        f"/object/docs/{key}",
        content=b"other",
        headers={"x-upsert": "true"},
    )
    assert answer.is_success == allowed, ("upsert", key, answer.text)
    if allowed:
        world.restore()


def check_copy_and_move(world: World, source: str, goal: str) -> None:
    row = world.database.execute(SELECT.replace("name", "metadata", 1), {"key": source})
    metadata = orjson.dumps(row.fetchone()[0]).decode()  # type: ignore[index]
    body = {"bucketId": "docs", "sourceKey": source, "destinationKey": goal}
    allowed = world.decide(
        "storage.object.copy",
        (SELECT, {"key": source}),
        (INSERT, {"key": goal, "metadata": metadata}),
    )
    answer = world.call(ALICE, "POST", "/object/copy", json=body)
    assert answer.is_success == allowed, ("copy", source, goal, answer.text)
    if allowed:
        world.restore()
    allowed = world.decide(
        "storage.object.move",
        (SELECT, {"key": source}),
        (MOVE, {"key": source, "goal": goal}),
    )
    answer = world.call(ALICE, "POST", "/object/move", json=body)
    assert answer.is_success == allowed, ("move", source, goal, answer.text)
    if allowed:
        world.restore()


def check_deletes(world: World, key: str) -> None:
    allowed = world.decide("storage.object.delete", (DELETE, {"key": key}))
    answer = world.call(ALICE, "DELETE", f"/object/docs/{key}")
    assert answer.is_success == allowed, ("delete", key, answer.text)
    if allowed:
        world.restore()
    allowed = world.decide("storage.object.delete_many", (DELETE, {"key": key}))
    answer = world.call(ALICE, "DELETE", "/object/docs", json={"prefixes": [key]})
    assert [row["name"] for row in answer.json()] == ([key] if allowed else [])
    if allowed:
        world.restore()


@EXAMPLES
@given(drawn=st.tuples(*[st.sampled_from(["none", "all"]) for _ in COMMANDS]))
def test_buckets(world: World, drawn: tuple[str, ...]) -> None:
    world.set_policies("storage.buckets", drawn)
    select, insert, update, delete = (name == "all" for name in drawn)
    listed = world.call(ALICE, "GET", "/bucket").json()
    assert [bucket["id"] for bucket in listed] == (["docs"] if select else [])
    assert world.call(ALICE, "GET", "/bucket/docs").is_success == select
    made = world.call(ALICE, "POST", "/bucket", json={"name": "mine"})
    assert made.is_success == insert
    if not insert:
        world.call("", "POST", "/bucket", json={"name": "mine"}).raise_for_status()
    # Without SELECT an UPDATE or DELETE with a WHERE finds nothing.
    changed = world.call(ALICE, "PUT", "/bucket/mine", json={"public": True})
    assert changed.is_success == (update and select)
    removed = world.call(ALICE, "DELETE", "/bucket/mine")
    assert removed.is_success == (delete and select)
    if not removed.is_success:
        world.call("", "DELETE", "/bucket/mine").raise_for_status()
