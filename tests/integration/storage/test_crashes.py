"""Crashes at every fault point: no row without bytes, no bytes without row, after.

The server is a process of its own that kills itself (or halts while PostgreSQL is shut
down immediately) at one named point of one operation; another is started on the same
files and database, and then API, table and bytes must agree.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pytest
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from harness.db.address import DatabaseAddress
from harness.db.cluster import Cluster
from harness.db.discovery import PostgresInstallation
from harness.db.launch import end_server, spawn_server, wait_until_ready
from harness.db.schema_files import Schema
from harness.db.templates import TemplateStore
from harness.protocols.jwt import ProjectKeys
from harness.protocols.tus import UploadId
from harness.servers.storage.faultpoints import FAULT_POINTS
from harness.servers.storage.standalone import (
    StandaloneSpec,
    StandaloneStorage,
    mint_token,
)

KEYS = ProjectKeys()
SERVICE = {"Authorization": f"Bearer {mint_token(KEYS, role='service_role')}"}
OLD, NEW = b"old " * 1000, b"new " * 100_000
CRASHED = (httpx.TransportError, BotoCoreError, ClientError)
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Api:
    """A storage server, spoken to as service_role."""

    port: int

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/storage/v1"

    def call(self, method: str, path: str, **kw: Any) -> httpx.Response:
        """Send a request."""
        headers = {**SERVICE, **kw.pop("headers", {})}
        with httpx.Client(timeout=TIMEOUT_S, verify=False, trust_env=False) as client:
            return client.request(method, self.url + path, headers=headers, **kw)

    def get(self, key: str) -> httpx.Response:
        """Read an object of the bucket."""
        return self.call("GET", f"/object/docs/{key}")

    def s3(self) -> Any:
        """Return an S3 client that does not try again."""
        return boto3.client(
            "s3",
            endpoint_url=f"{self.url}/s3",
            region_name=KEYS.s3.region,
            aws_access_key_id=KEYS.s3.access_key_id,
            aws_secret_access_key=KEYS.s3.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}),
        )


@contextmanager
def mortal(
    database: DatabaseAddress, folder: Path, **settings: str
) -> Iterator[tuple[Api, subprocess.Popen[bytes]]]:
    """Serve in a process of its own, which a fault point may end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.servers.storage.standalone"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(StandaloneSpec(database, folder, settings).to_json())
        process.stdin.write(b"\n")
        process.stdin.flush()
        try:
            yield Api(int(process.stdout.readline())), process
        finally:
            process.kill()


@contextmanager
def serving(database: DatabaseAddress, folder: Path) -> Iterator[Api]:
    """Serve in this process, from start to an orderly stop."""
    with StandaloneStorage(database, folder) as storage:
        yield Api(storage.port)


def upload(server: Api) -> None:
    server.call("POST", "/object/docs/new", content=NEW)


def overwrite(server: Api) -> None:
    server.call("PUT", "/object/docs/kept", content=NEW)


def copy(server: Api) -> None:
    body = {"bucketId": "docs", "sourceKey": "kept", "destinationKey": "new"}
    server.call("POST", "/object/copy", json=body)


def copy_over(server: Api) -> None:
    body = {"bucketId": "docs", "sourceKey": "other", "destinationKey": "kept"}
    server.call("POST", "/object/copy", json=body, headers={"x-upsert": "true"})


def move(server: Api) -> None:
    body = {"bucketId": "docs", "sourceKey": "kept", "destinationKey": "new"}
    server.call("POST", "/object/move", json=body)


def delete(server: Api) -> None:
    server.call("DELETE", "/object/docs/kept")


def delete_many(server: Api) -> None:
    server.call("DELETE", "/object/docs", json={"prefixes": ["kept", "other"]})


def tus(server: Api) -> None:
    """Upload in two chunks, over an object that exists."""
    tus_headers = {"Tus-Resumable": "1.0.0", "x-upsert": "true"}
    metadata = "bucketName ZG9jcw==,objectName a2VwdA=="
    created = server.call(
        "POST",
        "/upload/resumable",
        headers={
            **tus_headers,
            "Upload-Length": str(len(NEW)),
            "Upload-Metadata": metadata,
        },
    )
    half = len(NEW) // 2
    for start, end in ((0, half), (half, len(NEW))):
        server.call(
            "PATCH",
            created.headers["Location"].removeprefix(server.url),
            content=NEW[start:end],
            headers={
                **tus_headers,
                "Upload-Offset": str(start),
                "Content-Type": "application/offset+octet-stream",
            },
        )


def multipart(server: Api) -> None:
    s3 = server.s3()
    where = {"Bucket": "docs", "Key": "kept"}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    half = len(NEW) // 2
    parts = []
    for number, data in ((1, NEW[:half]), (2, NEW[half:])):
        etag = s3.upload_part(PartNumber=number, Body=data, **where)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)


def read_kept(server: Api) -> None:
    server.get("kept").raise_for_status()


Operation = Callable[[Api], None]
# Points and what they strike.  "kept" is OLD before, and OLD, NEW or gone after.
CASES: list[tuple[str, Operation]] = [
    *((p, upload) for p in ("permitted", "staged", "stored", "recorded")),
    *(
        (p, overwrite)
        for p in ("permitted", "staged", "stored", "recorded", "replaced")
    ),
    *((f"copy.{p}", copy) for p in ("permitted", "stored", "recorded")),
    *((p, copy_over) for p in ("recorded", "replaced")),
    *((f"move.{p}", move) for p in ("permitted", "stored", "recorded", "removed")),
    *((f"delete.{p}", delete) for p in ("recorded", "removed")),
    ("delete.recorded", delete_many),
    *((f"tus.{p}", tus) for p in ("created", "patched", "patched:2", "noted")),
    *((p, tus) for p in ("stored", "recorded", "replaced")),
    *(
        (f"multipart.{p}", multipart)
        for p in (
            "created",
            "part_stored",
            "part_recorded:2",
            "joined",
            "completed",
        )
    ),
    *((p, multipart) for p in ("stored", "recorded", "replaced")),
]
STRUCK = [(p if "." in p else f"upload.{p}", operation) for p, operation in CASES]


def test_every_fault_point_is_struck() -> None:
    struck = {point.partition(":")[0] for point, _ in STRUCK} | {"sweep.removed"}
    assert struck == set(FAULT_POINTS)


def prepare(database: DatabaseAddress, folder: Path) -> None:
    with serving(database, folder) as server:
        server.call("POST", "/bucket", json={"name": "docs"}).raise_for_status()
        for key in ("kept", "other"):
            path = f"/object/docs/{key}"
            server.call("POST", path, content=OLD).raise_for_status()


def strike(
    database: DatabaseAddress,
    folder: Path,
    point: str,
    operation: Operation,
    **settings: str,
) -> None:
    """Run an operation in which the server dies."""
    armed = {"fault_point": point, **settings}
    with mortal(database, folder, **armed) as (server, process):
        try:
            operation(server)
        except CRASHED:
            assert process.wait(TIMEOUT_S) == -signal.SIGKILL
            return
        pytest.fail("the fault point was not passed")


def assert_consistent(
    server: Api, database: DatabaseAddress, folder: Path
) -> dict[str, bytes]:
    """Compare API, table and bytes; return what there is."""
    contents = {}
    with psycopg.connect(database.dsn("supabase_admin"), autocommit=True) as connection:
        rows = connection.execute(
            "select name, version from storage.objects"
        ).fetchall()
        intents = "select count(*) from _storage.intents"
        assert connection.execute(intents).fetchone() == (0,)
    for name, _ in rows:
        answer = server.get(name)
        assert answer.status_code == 200, (name, answer.text)
        contents[name] = answer.content
    files = {path.name for path in folder.glob("objects/*/*")}
    assert files == {version.replace("-", "") for _, version in rows}
    assert list(folder.glob("incoming/*")) == []
    return contents


@pytest.mark.parametrize(
    ("point", "operation"), STRUCK, ids=[f"{p}-{o.__name__}" for p, o in STRUCK]
)
def test_server_killed(
    database: DatabaseAddress, tmp_path: Path, point: str, operation: Operation
) -> None:
    prepare(database, tmp_path)
    strike(database, tmp_path, point, operation)
    with serving(database, tmp_path) as server:
        assert server.call("GET", "/bucket/docs").status_code == 200
        contents = assert_consistent(server, database, tmp_path)
        assert_outcome(operation, point, contents)
        # And whatever was interrupted can be done now.
        operation(server)
    with serving(database, tmp_path) as server:
        assert server.call("GET", "/bucket/docs").status_code == 200
        after = assert_consistent(server, database, tmp_path)
    assert_done(operation, after)


def assert_outcome(
    operation: Operation, point: str, contents: dict[str, bytes]
) -> None:
    """Before its row is written an operation has changed nothing, after it all."""
    is_recorded = point.endswith((".recorded", ".replaced", ".removed", ".completed"))
    if operation in (move, copy, upload) and not is_recorded:
        assert contents == {"kept": OLD, "other": OLD}
    elif operation in (overwrite, tus, multipart):
        assert contents == {"kept": NEW if is_recorded else OLD, "other": OLD}
    elif is_recorded:
        assert_done(operation, contents)


def assert_done(operation: Operation, contents: dict[str, bytes]) -> None:
    wanted = {
        upload: {"kept": OLD, "other": OLD, "new": NEW},
        overwrite: {"kept": NEW, "other": OLD},
        copy: {"kept": OLD, "other": OLD, "new": OLD},
        copy_over: {"kept": OLD, "other": OLD},
        move: {"new": OLD, "other": OLD},
        delete: {"other": OLD},
        delete_many: {},
        tus: {"kept": NEW, "other": OLD},
        multipart: {"kept": NEW, "other": OLD},
    }
    assert contents == wanted[operation]


DURABLE_POINTS = [
    ("upload.stored", overwrite),
    ("upload.recorded", overwrite),
    ("move.stored", move),
    ("tus.noted", tus),
    ("multipart.part_recorded", multipart),
]


@pytest.mark.parametrize(
    ("point", "operation"),
    DURABLE_POINTS,
    ids=[f"{p}-{o.__name__}" for p, o in DURABLE_POINTS],
)
def test_durable_server_killed(
    database: DatabaseAddress, tmp_path: Path, point: str, operation: Operation
) -> None:
    prepare(database, tmp_path)
    strike(database, tmp_path, point, operation, durability="full")
    with serving(database, tmp_path) as server:
        assert server.call("GET", "/bucket/docs").status_code == 200
        assert_outcome(operation, point, assert_consistent(server, database, tmp_path))


def test_server_killed_while_it_sweeps(
    database: DatabaseAddress, tmp_path: Path
) -> None:
    prepare(database, tmp_path)
    strike(database, tmp_path, "upload.recorded", overwrite)
    strike(database, tmp_path, "sweep.removed", read_kept)
    with serving(database, tmp_path) as server:
        assert server.get("kept").content == NEW
        assert_consistent(server, database, tmp_path)


@pytest.mark.parametrize("point", ["tus.patched", "upload.stored"])
def test_tus_resumes_after_the_crash(
    database: DatabaseAddress, tmp_path: Path, point: str
) -> None:
    prepare(database, tmp_path)
    strike(database, tmp_path, point, tus)
    note = next((tmp_path / "tus").glob("*.json"))
    version = note.stem
    with serving(database, tmp_path) as server:
        path = f"/upload/resumable/{UploadId('docs', 'kept', version).encode()}"
        tus_headers = {"Tus-Resumable": "1.0.0", "x-upsert": "true"}
        offset = int(
            server.call("HEAD", path, headers=tus_headers).headers["Upload-Offset"]
        )
        assert 0 < offset < len(NEW)
        done = server.call(
            "PATCH",
            path,
            content=NEW[offset:],
            headers={
                **tus_headers,
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
            },
        )
        assert (done.status_code, done.headers["tus-complete"]) == (204, "1")
        assert server.get("kept").content == NEW
        assert list((tmp_path / "tus").iterdir()) == []


def test_multipart_completes_after_the_crash(
    database: DatabaseAddress, tmp_path: Path
) -> None:
    prepare(database, tmp_path)
    strike(database, tmp_path, "multipart.joined", multipart)
    with serving(database, tmp_path) as server:
        s3 = server.s3()
        upload_id = s3.list_multipart_uploads(Bucket="docs")["Uploads"][0]["UploadId"]
        s3.complete_multipart_upload(Bucket="docs", Key="kept", UploadId=upload_id)
        assert server.get("kept").content == NEW
        assert list((tmp_path / "multipart").iterdir()) == []


# PostgreSQL ---------------------------------------------------------------------------

DATABASE_POINTS = [
    ("upload.permitted", upload),
    ("upload.stored", overwrite),
    ("upload.recorded", overwrite),
    ("move.stored", move),
    ("move.recorded", move),
    ("copy.stored", copy),
    ("delete.recorded", delete),
    ("tus.noted", tus),
    ("multipart.joined", multipart),
]


@pytest.mark.parametrize(
    ("point", "operation"),
    DATABASE_POINTS,
    ids=[f"{p}-{o.__name__}" for p, o in DATABASE_POINTS],
)
def test_database_shut_down_immediately(
    postgres_installation: PostgresInstallation,
    platform_schema: Schema,
    tmp_path: Path,
    point: str,
    operation: Operation,
) -> None:
    with Cluster.start(postgres_installation) as cluster:
        database = asyncio.run(platform_database_on(cluster, platform_schema))
        prepare(database, tmp_path)
        armed = {"fault_point": point, "fault_action": "stop"}
        with mortal(database, tmp_path, **armed) as (server, process):
            pid = process.pid
            caller = threading.Thread(target=call_anyhow, args=(operation, server))
            caller.start()
            assert os.waitid(os.P_PID, pid, os.WSTOPPED) is not None
            os.kill(cluster.pid, signal.SIGQUIT)
            os.waitid(os.P_PID, cluster.pid, os.WEXITED | os.WNOWAIT)
            restarted = spawn_server(cluster.plan)
            try:
                wait_until_ready(cluster.plan, restarted, timeout_s=TIMEOUT_S)
                os.kill(pid, signal.SIGCONT)
                caller.join(TIMEOUT_S)
                assert not caller.is_alive()
                process.kill()
                process.wait(TIMEOUT_S)
                with serving(database, tmp_path) as fresh:
                    assert fresh.call("GET", "/bucket/docs").status_code == 200
                    contents = assert_consistent(fresh, database, tmp_path)
            finally:
                end_server(restarted)
    # The operation was done or was not; nothing in between.
    assert contents.get("other") == OLD
    if "kept" in contents:
        assert contents["kept"] in (OLD, NEW)
    else:
        assert operation in (delete, move)


def call_anyhow(operation: Operation, server: Api) -> None:
    """Do an operation whose outcome is not known: the database goes meanwhile."""
    try:
        operation(server)
    except (*CRASHED, KeyError):
        # A refused creation has no Location to go on with.
        return


async def platform_database_on(cluster: Cluster, schema: Schema) -> DatabaseAddress:
    async with TemplateStore(cluster.address()) as store:
        template = await store.template([schema])
        return store.address(await store.clone(template))
