"""Any history of calls by two users and the service leaves API, table, bytes agreed.

The model is a dictionary of keys; it decides what each call must answer.  Own folders
are the policy: a user does everything in the folder named after them, nothing else.
"""

from __future__ import annotations

import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
SERVICE = ""
TUS = {"Tus-Resumable": "1.0.0"}


class Backed(Protocol):
    """A served project and a look at the bytes it keeps."""

    storage: StandaloneStorage
    kept_versions: Callable[[], set[str]]


users = st.sampled_from([ALICE, BOB, SERVICE])
keys = st.sampled_from(
    [
        f"{who}/{name}"
        for who in (ALICE, BOB, "shared")
        for name in ("a", "dir/b", "c c")
    ]
)
bodies = st.sampled_from([b"", b"x", b"hello" * 100, b"\x00\xff" * 200_000])


class StorageMachine(RuleBasedStateMachine):
    """Calls and what they must do."""

    storage: ClassVar[StandaloneStorage]
    client: ClassVar[httpx.Client]
    database: ClassVar[psycopg.Connection[Any]]
    examples: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        """Work in a bucket of this example."""
        type(self).examples += 1
        self.bucket = f"example{self.examples}"
        self.objects: dict[str, bytes] = {}
        self.call(SERVICE, "POST", "/bucket", json={"name": self.bucket})

    def call(self, user: str, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Send a request."""
        role = "authenticated" if user else "service_role"
        token = self.storage.token(user, role=role)
        headers = {"Authorization": f"Bearer {token}", **kwargs.pop("headers", {})}
        answer = self.client.request(
            method, self.storage.url + path, headers=headers, **kwargs
        )
        assert answer.status_code < 500, answer.text
        return answer

    def may(self, user: str, key: str) -> bool:
        """Whether the policy lets a user touch a key."""
        return user == SERVICE or key.startswith(f"{user}/")

    def expect(self, answer: httpx.Response, code: str | None) -> bool:
        """Check an answer's code (None: success); return whether it succeeded."""
        told = None if answer.is_success else answer.json()["code"]
        assert told == code, (answer.request.url, answer.text)
        return code is None

    def write_code(self, user: str, key: str, upsert: bool) -> str | None:
        """Return the refusal of a write, if any."""
        if not self.may(user, key):
            return "AccessDenied"
        return "ResourceAlreadyExists" if key in self.objects and not upsert else None

    def read_code(self, user: str, key: str) -> str | None:
        """Return the refusal of a read, if any."""
        visible = key in self.objects and self.may(user, key)
        return None if visible else "NoSuchKey"

    @rule(user=users, key=keys, body=bodies, upsert=st.booleans())
    def upload(self, user: str, key: str, body: bytes, upsert: bool) -> None:
        """Upload a body."""
        answer = self.call(
            user,
            "POST",
            f"/object/{self.bucket}/{key}",
            content=body,
            headers={"x-upsert": "true"} if upsert else {},
        )
        if self.expect(answer, self.write_code(user, key, upsert)):
            self.objects[key] = body

    @rule(user=users, key=keys, body=bodies)
    def upload_form(self, user: str, key: str, body: bytes) -> None:
        """Upload a form, replacing."""
        answer = self.call(
            user, "PUT", f"/object/{self.bucket}/{key}", files={"": ("name", body)}
        )
        if self.expect(answer, self.write_code(user, key, True)):
            self.objects[key] = body

    @rule(user=users, key=keys, body=bodies)
    def upload_signed(self, user: str, key: str, body: bytes) -> None:
        """Upload to a signed URL."""
        path = f"/object/upload/sign/{self.bucket}/{key}"
        signed = self.call(user, "POST", path)
        if self.expect(signed, self.write_code(user, key, False)):
            put = self.call(SERVICE, "PUT", signed.json()["url"], content=body)
            assert put.is_success
            self.objects[key] = body

    @rule(user=users, key=keys, body=bodies, finish=st.booleans())
    def upload_resumable(self, user: str, key: str, body: bytes, finish: bool) -> None:
        """Upload in two parts, or give up after one."""
        pairs = {"bucketName": self.bucket, "objectName": key}
        metadata = ",".join(
            f"{name} {b64encode(value.encode()).decode()}"
            for name, value in pairs.items()
        )
        headers = {**TUS, "x-upsert": "true", "Upload-Metadata": metadata}
        created = self.call(
            user,
            "POST",
            "/upload/resumable",
            headers={**headers, "Upload-Length": str(len(body))},
        )
        if not self.may(user, key):
            assert created.status_code == 403
            return
        assert created.status_code == 201
        if not body:
            self.objects[key] = body
            return
        path = created.headers["Location"].removeprefix(self.storage.url)
        half = len(body) // 2
        for start, end in ((0, half), (half, len(body))) if finish else ((0, half),):
            patched = self.call(
                user,
                "PATCH",
                path,
                content=body[start:end],
                headers={
                    **TUS,
                    "x-upsert": "true",
                    "Upload-Offset": str(start),
                    "Content-Type": "application/offset+octet-stream",
                },
            )
            assert patched.status_code == 204, patched.text
        if finish:
            self.objects[key] = body
        else:
            gone = self.call(user, "DELETE", path, headers={**TUS, "x-upsert": "true"})
            assert gone.status_code == 204

    @rule(key=keys, sent=st.integers(0, 300_000))
    def upload_and_vanish(self, key: str, sent: int) -> None:
        """Go away in the middle of an upload."""
        path = f"/storage/v1/object/{self.bucket}/{key.replace(' ', '%20')}"
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {self.storage.service_key}\r\n"
            "Content-Length: 300001\r\n\r\n"
        )
        address = ("127.0.0.1", self.storage.port)
        with socket.create_connection(address, timeout=10) as peer:
            peer.sendall(head.encode() + b"v" * sent)

    @rule(user=users, key=keys)
    def download(self, user: str, key: str) -> None:
        """Read an object."""
        answer = self.call(user, "GET", f"/object/authenticated/{self.bucket}/{key}")
        if self.expect(answer, self.read_code(user, key)):
            assert answer.content == self.objects[key]

    @rule(user=users, key=keys)
    def sign(self, user: str, key: str) -> None:
        """Read an object by a signed URL."""
        answer = self.call(
            user, "POST", f"/object/sign/{self.bucket}/{key}", json={"expiresIn": 60}
        )
        if self.expect(answer, self.read_code(user, key)):
            got = self.client.get(self.storage.url + answer.json()["signedURL"])
            assert got.content == self.objects[key]

    @rule(user=users, source=keys, goal=keys, upsert=st.booleans())
    def copy(self, user: str, source: str, goal: str, upsert: bool) -> None:
        """Copy an object."""
        answer = self.call(
            user,
            "POST",
            "/object/copy",
            json={
                "bucketId": self.bucket,
                "sourceKey": source,
                "destinationKey": goal,
            },
            headers={"x-upsert": "true"} if upsert else {},
        )
        code = self.read_code(user, source) or self.write_code(user, goal, upsert)
        if self.expect(answer, code):
            self.objects[goal] = self.objects[source]

    @rule(user=users, source=keys, goal=keys)
    def move(self, user: str, source: str, goal: str) -> None:
        """Move an object."""
        answer = self.call(
            user,
            "POST",
            "/object/move",
            json={
                "bucketId": self.bucket,
                "sourceKey": source,
                "destinationKey": goal,
            },
        )
        code = self.read_code(user, source)
        if code is None and not self.may(user, goal):
            code = "AccessDenied"
        if code is None and goal in self.objects and goal != source:
            code = "ResourceAlreadyExists"
        if self.expect(answer, code):
            self.objects[goal] = self.objects.pop(source)

    @rule(user=users, key=keys)
    def delete(self, user: str, key: str) -> None:
        """Delete an object."""
        answer = self.call(user, "DELETE", f"/object/{self.bucket}/{key}")
        code = "AccessDenied" if not self.may(user, key) else None
        if self.expect(answer, code if key in self.objects else "NoSuchKey"):
            del self.objects[key]

    @rule(user=users, some=st.lists(keys, min_size=1, max_size=4))
    def delete_many(self, user: str, some: list[str]) -> None:
        """Delete several objects."""
        answer = self.call(
            user, "DELETE", f"/object/{self.bucket}", json={"prefixes": some}
        )
        gone = {row["name"] for row in answer.json()}
        assert gone == {k for k in some if k in self.objects and self.may(user, k)}
        for key in gone:
            del self.objects[key]

    @rule(user=users)
    def list_all(self, user: str) -> None:
        """List in both ways."""
        visible = {key for key in self.objects if self.may(user, key)}
        answer = self.call(user, "POST", f"/object/list-v2/{self.bucket}", json={})
        assert {entry["name"] for entry in answer.json()["objects"]} == visible
        folders = self.call(
            user, "POST", f"/object/list/{self.bucket}", json={"prefix": ""}
        )
        tops = {key.partition("/")[0] for key in visible}
        assert {entry["name"] for entry in folders.json()} == tops

    @rule()
    def empty(self) -> None:
        """Empty the bucket."""
        self.call(SERVICE, "POST", f"/bucket/{self.bucket}/empty")
        self.objects.clear()

    @invariant()
    def table_is_the_model(self) -> None:
        """Compare the table with the model."""
        rows = self.database.execute(
            "select name, (metadata ->> 'size')::int from storage.objects "
            "where bucket_id = %s",
            (self.bucket,),
        ).fetchall()
        assert dict(rows) == {key: len(body) for key, body in self.objects.items()}


@pytest.fixture
def machine(
    backed: Backed, database: DatabaseAddress
) -> Iterator[type[StorageMachine]]:
    """Give the machine its server, client and view of the table."""
    with (
        httpx.Client(timeout=30) as client,
        psycopg.connect(database.dsn("supabase_admin"), autocommit=True) as connection,
    ):
        StorageMachine.storage = backed.storage
        StorageMachine.client = client
        StorageMachine.database = connection
        yield StorageMachine


def test_any_history(machine: type[StorageMachine], backed: Backed) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Vanished uploads are given up when the server notices; then nothing is left over.
    versions = {
        version
        for (version,) in machine.database.execute(
            "select version from storage.objects"
        ).fetchall()
    }
    wait_until(lambda: backed.kept_versions() == versions)
    intents = "select count(*) from _storage.intents"
    wait_until(lambda: machine.database.execute(intents).fetchone() == (0,))


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
