"""Clients and disks that misbehave: each gets its answer, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_clean(storage: StandaloneStorage, sql: psycopg.Connection[Any]) -> bool:
    """Whether bytes and rows match, and nothing is unfinished."""
    rows = sql.execute("select version from storage.objects").fetchall()
    files = {path.name for path in storage.objects_dir.glob("objects/*/*")}
    notes = sql.execute("select count(*) from _storage.intents").fetchone()
    return (
        files == {version.replace("-", "") for (version,) in rows}
        and list(storage.objects_dir.glob("incoming/*")) == []
        and notes == (0,)
    )


def open_upload(storage: StandaloneStorage, key: str, length: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", storage.port), timeout=20)
    head = (
        f"POST /storage/v1/object/docs/{key} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {storage.service_key}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    peer.sendall(head.encode())
    return peer


def read_answer(peer: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = peer.recv(65536)
        if not data:
            break
        answer += data
    return answer


@pytest.mark.parametrize("sent", [0, 1000, 900_000])
def test_client_that_vanishes(admin: Any, storage: Any, sql: Any, sent: int) -> None:
    with open_upload(storage, "gone", 1_000_000) as peer:
        peer.sendall(b"x" * sent)
    wait_until(lambda: is_clean(storage, sql))
    assert sql.execute("select count(*) from storage.objects").fetchone() == (0,)
    assert admin.upload("docs/gone").status_code == 200


def test_client_that_is_slow(admin: Any, storage: Any) -> None:
    with open_upload(storage, "slow", 10) as peer:
        for _ in range(10):
            peer.sendall(b"x")
            # Others are served meanwhile.
            assert admin("GET", "/bucket/docs").status_code == 200
        assert b" 200 " in read_answer(peer)
    assert admin("GET", "/object/docs/slow").content == b"x" * 10


def test_body_longer_than_its_length(admin: Any, storage: Any, sql: Any) -> None:
    with open_upload(storage, "long", 5) as peer:
        peer.sendall(b"12345extra bytes that are no request\r\n\r\n")
        # The rest is a request that is none: the connection ends with a 400.
        status = read_answer(peer).split(b" ")[1]
        assert status in (b"200", b"400")
    wait_until(lambda: is_clean(storage, sql))
    stored = admin("GET", "/object/docs/long")
    assert stored.content == b"12345" or stored.json()["code"] == "NoSuchKey"


def test_downloader_that_stops_reading(admin: Any, storage: Any) -> None:
    admin.upload("docs/big", b"x" * 20_000_000)
    request = (
        "GET /storage/v1/object/docs/big HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {storage.service_key}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", storage.port), timeout=20) as peer:
        peer.sendall(request.encode())
        assert peer.recv(1000).startswith(b"HTTP/1.1 200")
        assert admin("GET", "/bucket/docs").status_code == 200
    assert len(admin("GET", "/object/docs/big").content) == 20_000_000


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_disk_that_is_full(
    database: DatabaseAddress,
    tiny_disk: Path,
    http: httpx.Client,
    sql: psycopg.Connection[Any],
) -> None:
    with StandaloneStorage(database, tiny_disk) as storage:
        headers = {"Authorization": f"Bearer {storage.service_key}"}

        def call(method: str, path: str, **kw: Any) -> httpx.Response:
            told = {**headers, **kw.pop("headers", {})}
            return http.request(method, storage.url + path, headers=told, **kw)

        call("POST", "/bucket", json={"name": "docs"}).raise_for_status()
        call("POST", "/object/docs/kept", content=b"old").raise_for_status()
        for size in (3_000_000, 100_000):
            answers = [
                call("PUT", "/object/docs/kept", content=os.urandom(size)),
                *(
                    call("POST", f"/object/docs/{size}-{n}", content=b"x" * size)
                    for n in range(25)
                ),
            ]
            full = [a for a in answers if not a.is_success]
            assert full
            for answer in full:
                assert answer.json()["message"] == (
                    "No space left on the storage device"
                )
            wait_until(lambda: is_clean(storage, sql))
        call("POST", "/bucket/docs/empty").raise_for_status()
        call("POST", "/object/docs/again", content=b"again").raise_for_status()
        wait_until(lambda: is_clean(storage, sql))


@pytest.mark.slow
def test_ten_thousand_small_uploads_at_once(admin: Any, storage: Any, sql: Any) -> None:
    request = (
        "POST /storage/v1/object/docs/many/{} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {storage.service_key}\r\nContent-Length: 4\r\n\r\n"
    )

    async def upload_share(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", storage.port)
        # All requests of a connection are on their way before the first is answered.
        for number in range(first, first + 50):
            writer.write(request.format(number).encode() + b"%04d" % (number % 10000))
        for _ in range(50):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    async def upload_all() -> None:
        async with asyncio.timeout(180):
            await asyncio.gather(*(upload_share(50 * n) for n in range(200)))

    asyncio.run(upload_all())
    count = "select count(*), count(distinct version) from storage.objects"
    assert sql.execute(count).fetchone() == (10_000, 10_000)
    wait_until(lambda: is_clean(storage, sql))
    assert admin("GET", "/object/docs/many/1234").content == b"1234"


def test_same_name_at_once_is_created_once(admin: Any, storage: Any, sql: Any) -> None:
    async def race() -> list[int]:
        headers = {"Authorization": f"Bearer {storage.service_key}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            url = f"{storage.url}/object/docs/race"
            posts = (client.post(url, content=b"%d" % n) for n in range(20))
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    statuses = asyncio.run(race())
    assert sorted(statuses) == [200] + [400] * 19
    wait_until(lambda: is_clean(storage, sql))


def test_overwrites_at_once_leave_one(admin: Any, storage: Any, sql: Any) -> None:
    async def race() -> None:
        headers = {"Authorization": f"Bearer {storage.service_key}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            url = f"{storage.url}/object/docs/race"
            move = {"bucketId": "docs", "sourceKey": "race", "destinationKey": "moved"}
            calls = [client.put(url, content=b"%d" % n * 1000) for n in range(20)]
            calls += [client.delete(url) for _ in range(3)]
            calls += [
                client.post(f"{storage.url}/object/move", json=move) for _ in range(3)
            ]
            for answer in await asyncio.gather(*calls):
                assert answer.status_code in (200, 400), answer.text

    asyncio.run(race())
    wait_until(lambda: is_clean(storage, sql))
    for (name,) in sql.execute("select name from storage.objects").fetchall():
        assert admin("GET", f"/object/docs/{name}").status_code == 200


def test_durable_storage_round_trip(
    database: DatabaseAddress, tmp_path: Path, http: httpx.Client
) -> None:
    settings = {"durability": "full"}
    with StandaloneStorage(database, tmp_path / "objects", settings) as storage:
        headers = {"Authorization": f"Bearer {storage.service_key}"}
        post = {"json": {"name": "docs"}, "headers": headers}
        http.post(f"{storage.url}/bucket", **post).raise_for_status()
        for size in (10, 1_000_000):
            url = f"{storage.url}/object/docs/{size}"
            http.post(url, content=b"x" * size, headers=headers).raise_for_status()
            assert http.get(url, headers=headers).content == b"x" * size


def test_form_that_ends_too_early_stores_nothing(admin: Any) -> None:
    head = '--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    cut = admin("POST", "/object/docs/cut", content=f"{head}data", headers=kind)
    assert (cut.status_code, cut.json()["code"]) == (400, "InvalidRequest")
    assert admin("GET", "/object/docs/cut").json()["code"] == "NoSuchKey"
    whole = f"{head}data\r\n--B--\r\n"
    assert admin("POST", "/object/docs/cut", content=whole, headers=kind).is_success


def test_paged_listing_goes_on_after_an_object_that_is_the_prefix(admin: Any) -> None:
    for key in ("f/", "f/1", "f/g/2", "h"):
        admin.upload(f"docs/{key}", b"x")
    body = {"prefix": "f/", "with_delimiter": True, "limit": 1}
    seen = []
    while True:
        page = admin("POST", "/object/list-v2/docs", json=body).json()
        seen += [each["name"] for each in (*page["folders"], *page["objects"])]
        if not page["hasNext"]:
            break
        body["cursor"] = page["nextCursor"]
    assert seen == ["f/", "f/1", "f/g/"]
