"""The tus routes on the wire: headers, statuses, words, resumption, expiry, locks."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.clock import ManualClock
from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {"Content-Type": "application/offset+octet-stream"}


def metadata(**pairs: str) -> str:
    told = {"bucketName": "docs", "objectName": f"{ALICE}/file", **pairs}
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}"
        for name, value in told.items()
    )


def create(api: Any, length: int | None = 10, **headers: str) -> httpx.Response:
    size = (
        {"Upload-Defer-Length": "1"}
        if length is None
        else {"Upload-Length": str(length)}
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {**TUS, **size, "Upload-Metadata": metadata(), **named}
    return api("POST", "/upload/resumable", headers=told)


def path_of(api: Any, created: httpx.Response) -> str:
    assert created.status_code == 201, created.text
    return str(created.headers["location"]).removeprefix(api.base)


def patch(api: Any, path: str, offset: int, body: bytes, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {**TUS, **OFFSET, "Upload-Offset": str(offset), **named}
    return api("PATCH", path, content=body, headers=told)


def test_options_tell_what_there_is(nobody: Any) -> None:
    answer = nobody("OPTIONS", "/upload/resumable")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-extension"] == (
        "creation,creation-with-upload,creation-defer-length,termination,expiration"
    )
    assert answer.headers["tus-max-size"].isdigit()
    assert answer.headers["access-control-max-age"] == "86400"


def test_whole_upload(alice: Any, sql: Any) -> None:
    created = create(alice, Upload_Metadata=metadata(cacheControl="60"))
    assert created.headers["tus-resumable"] == "1.0.0"
    assert "upload-expires" in created.headers
    path = path_of(alice, created)
    segment = path.rpartition("/")[2]
    decoded = base64.urlsafe_b64decode(segment + "==").decode()
    assert decoded.startswith(f"docs/{ALICE}/file/")
    first = patch(alice, path, 0, b"01234")
    assert (first.status_code, first.headers["upload-offset"]) == (204, "5")
    assert "tus-complete" not in first.headers
    head = alice("HEAD", path, headers=TUS)
    assert (head.status_code, head.headers["upload-offset"]) == (200, "5")
    assert head.headers["upload-length"] == "10"
    assert head.headers["upload-metadata"] == metadata(cacheControl="60")
    assert head.headers["cache-control"] == "no-store"
    last = patch(alice, path, 5, b"56789")
    assert (last.status_code, last.headers["tus-complete"]) == (204, "1")
    row = sql.execute(
        "select version, user_metadata, metadata ->> 'cacheControl', owner_id "
        "from storage.objects"
    ).fetchone()
    assert row == (decoded.rpartition("/")[2], None, "max-age=60", ALICE)
    assert alice("GET", f"/object/docs/{ALICE}/file").content == b"0123456789"
    done = alice("HEAD", path, headers=TUS)
    assert done.headers["upload-offset"] == "10"


def test_refusals(alice: Any, bob: Any, nobody: Any, admin: Any) -> None:
    admin("POST", "/bucket", json={"name": "small", "file_size_limit": 5})
    admin("POST", "/bucket", json={"name": "png", "allowed_mime_types": ["image/png"]})

    def refused(answer: httpx.Response, status: int, text: str) -> None:
        assert (answer.status_code, answer.text) == (status, text)
        assert answer.headers["content-type"].startswith("text/plain")

    headers = {"Upload-Length": "1", "Upload-Metadata": metadata()}
    missing = alice("POST", "/upload/resumable", headers=headers)
    refused(missing, 412, "Tus-Resumable Required")
    refused(create(alice, Tus_Resumable="0.9"), 400, "Invalid tus-resumable")
    bare = alice("POST", "/upload/resumable", headers={**TUS, "Upload-Length": "1"})
    refused(bare, 400, "Metadata header is required")
    both = create(alice, Upload_Defer_Length="1")
    refused(both, 400, "Upload-Length or Upload-Defer-Length header required")
    none = metadata(bucketName="none")
    refused(create(alice, Upload_Metadata=none), 404, "Bucket not found")
    bad_key = metadata(objectName="a~b")
    refused(create(alice, Upload_Metadata=bad_key), 400, "Invalid key: a~b")
    denied = "new row violates row-level security policy"
    refused(create(bob), 403, denied)
    big = metadata(bucketName="small", objectName="a")
    refused(create(admin, Upload_Metadata=big), 413, "Maximum size exceeded")
    text = metadata(bucketName="png", objectName="a", contentType="text/plain")
    refused(
        create(admin, Upload_Metadata=text),
        415,
        "mime type text/plain is not supported",
    )
    alice.upload(f"docs/{ALICE}/file")
    refused(create(alice), 409, "The resource already exists")
    path = path_of(alice, create(alice, x_upsert="true"))
    refused(patch(alice, path, 0, b"x"), 409, "The resource already exists")
    refused(patch(alice, path, 3, b"x", x_upsert="true"), 409, "Upload-Offset conflict")
    long = patch(alice, path, 0, b"x" * 11, x_upsert="true")
    refused(long, 413, "upload's size exceeded")
    wrong = patch(alice, path, 0, b"x", Content_Type="text/plain")
    refused(wrong, 400, "Invalid content-type")
    gone = patch(alice, path[:-4] + "AAAA", 0, b"x", x_upsert="true")
    refused(gone, 404, "The file for this url was not found")
    json = create(nobody)
    assert json.status_code == 400
    assert json.json()["code"] == "InvalidRequest"


def test_another_author_is_refused_even_where_the_policy_allows(
    alice: Any, bob: Any, sql: Any
) -> None:
    sql.execute(
        "create policy everybody on storage.objects for all to authenticated "
        "using (true) with check (true)"
    )
    path = path_of(alice, create(alice))
    assert patch(bob, path, 0, b"stolen").status_code == 403
    assert bob("DELETE", path, headers=TUS).status_code == 403
    assert patch(alice, path, 0, b"0123456789").status_code == 204


def test_empty_upload_is_finished_at_once(alice: Any) -> None:
    assert create(alice, length=0).status_code == 201
    assert alice("GET", f"/object/docs/{ALICE}/file").content == b""


def test_creation_with_upload_and_deferred_length(alice: Any) -> None:
    told = {
        **TUS,
        **OFFSET,
        "Upload-Defer-Length": "1",
        "Upload-Metadata": metadata(),
    }
    created = alice("POST", "/upload/resumable", headers=told, content=b"0123")
    assert created.headers["upload-offset"] == "4"
    path = path_of(alice, created)
    head = alice("HEAD", path, headers=TUS)
    assert head.headers["upload-defer-length"] == "1"
    assert "upload-length" not in head.headers
    done = patch(alice, path, 4, b"56", Upload_Length="6")
    assert done.headers["tus-complete"] == "1"
    assert alice("GET", f"/object/docs/{ALICE}/file").content == b"012356"


def test_method_may_be_told_by_a_header(alice: Any) -> None:
    path = path_of(alice, create(alice))

    def told(method: str, body: bytes = b"", **headers: str) -> httpx.Response:
        named = {"X-HTTP-Method-Override": method, **TUS, **headers}
        answer: httpx.Response = alice("POST", path, content=body, headers=named)
        return answer

    assert (
        told("PATCH", b"01234", **OFFSET, **{"Upload-Offset": "0"}).status_code == 204
    )
    assert told("HEAD").headers["upload-offset"] == "5"
    assert told("DELETE").status_code == 204
    assert told("HEAD").status_code == 404
    assert told("GET").json()["code"] == "InvalidRequest"


def test_termination(alice: Any, storage: Any) -> None:
    path = path_of(alice, create(alice))
    patch(alice, path, 0, b"01234")
    assert alice("DELETE", path, headers=TUS).status_code == 204
    assert alice("HEAD", path, headers=TUS).status_code == 404
    assert list((storage.objects_dir / "tus").iterdir()) == []
    finished = path_of(alice, create(alice))
    patch(alice, finished, 0, b"0123456789")
    assert alice("DELETE", finished, headers=TUS).status_code == 409


def stalled_patch(alice: Any, path: str) -> bytes:
    """Return a PATCH from the beginning, without its body."""
    head = (
        f"PATCH /storage/v1{path} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {alice.token}\r\nTus-Resumable: 1.0.0\r\n"
        "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
        "Content-Length: 1000000\r\n\r\n"
    )
    return head.encode()


def test_request_that_is_still_asking_for_permission_is_stopped_too(
    alice: Any, storage: Any, sql: Any
) -> None:
    path = path_of(alice, create(alice, length=4))
    sql.execute(
        "create function public.slow() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.3); return new; end $$;"
        "create trigger slow before insert on storage.objects "
        "for each row execute function public.slow()"
    )
    with socket.create_connection(("127.0.0.1", storage.port), timeout=20) as peer:
        peer.sendall(stalled_patch(alice, path).replace(b"1000000", b"4"))
        assert alice("HEAD", path, headers=TUS).headers["upload-offset"] == "0"
        answer = patch(alice, path, 0, b"data")
    assert answer.status_code == 204, answer.text


def test_what_arrived_of_a_broken_patch_is_kept(alice: Any, storage: Any) -> None:
    path = path_of(alice, create(alice, length=1_000_000))
    with socket.create_connection(("127.0.0.1", storage.port), timeout=20) as peer:
        peer.sendall(stalled_patch(alice, path) + b"x" * 300_000)
        # A second request asks the first to stop, and goes on behind what it left.
        offset = int(alice("HEAD", path, headers=TUS).headers["upload-offset"])
        answer = patch(alice, path, offset, b"y" * (1_000_000 - offset))
        if answer.status_code == 409:
            offset = int(alice("HEAD", path, headers=TUS).headers["upload-offset"])
            answer = patch(alice, path, offset, b"y" * (1_000_000 - offset))
    assert answer.status_code == 204, answer.text
    stored = alice("GET", f"/object/docs/{ALICE}/file").content
    assert stored == b"x" * offset + b"y" * (1_000_000 - offset)


@pytest.fixture
def clocked(
    database: DatabaseAddress, own_folder_policies: None, tmp_path: Path
) -> Iterator[tuple[StandaloneStorage, ManualClock]]:
    clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
    settings = {"tus_url_expiry_ms": 60_000}
    with StandaloneStorage(
        database, tmp_path / "objects", settings, clock=clock
    ) as storage:
        yield storage, clock


def test_expiry(
    clocked: tuple[StandaloneStorage, ManualClock], http: httpx.Client
) -> None:
    storage, clock = clocked
    headers = {"Authorization": f"Bearer {storage.service_key}"}
    http.post(f"{storage.url}/bucket", json={"name": "docs"}, headers=headers)
    told = {**headers, **TUS, "Upload-Length": "5", "Upload-Metadata": metadata()}
    created = http.post(f"{storage.url}/upload/resumable", headers=told)
    assert created.headers["upload-expires"] == "Mon, 01 Jun 2026 00:01:00 GMT"
    url = created.headers["location"]
    assert http.head(url, headers={**headers, **TUS}).status_code == 200
    storage.advance(clock, 61)
    assert http.head(url, headers={**headers, **TUS}).status_code == 410
