"""Nothing that a client sends makes a 500: generated from the description, and raw.

``HARNESS_FUZZ_EXAMPLES`` (default 10) is how many requests each operation gets; the
bounded job keeps the default, a longer one is started by hand.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

EXAMPLES = int(os.environ.get("HARNESS_FUZZ_EXAMPLES", "10"))
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
RAW = settings(BOUNDED, max_examples=20 * EXAMPLES)
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PREFIXES = [
    "/object/docs/",
    "/object/public/docs/",
    "/object/sign/docs/",
    "/object/upload/sign/docs/",
    "/object/info/docs/",
    "/object/list/",
    "/render/image/public/open/",
    "/upload/resumable/",
    "/upload/resumable/sign/",
    "/bucket/",
    "/cdn/",
    "/s3/docs/",
    "/s3/",
    "/",
]
HEADERS = [
    "Range",
    "If-None-Match",
    "If-Modified-Since",
    "Content-Type",
    "Cache-Control",
    "x-metadata",
    "x-upsert",
    "x-robots-tag",
    "x-signature",
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Offset",
    "Upload-Metadata",
    "x-amz-copy-source",
    "x-amz-date",
    "x-amz-content-sha256",
    "Accept",
]
header_values = st.text(
    st.characters(min_codepoint=32, max_codepoint=126), max_size=40
) | st.sampled_from(["bytes=0-", "1.0.0", "5", "multipart/form-data; boundary=x", "1"])
queries = st.sampled_from(
    ["", "?", "?token=x", "?download=%00", "?uploads=", "?delete=", "?list-type=2"]
) | st.binary(max_size=10).map(lambda data: f"?{quote_from_bytes(data)}")


@pytest.fixture
def storage(database: DatabaseAddress, tmp_path: Path) -> Iterator[StandaloneStorage]:
    """Serve a project with two buckets and an object."""
    with StandaloneStorage(database, tmp_path / "objects") as running:
        headers = {"Authorization": f"Bearer {running.service_key}"}
        with httpx.Client(base_url=running.url, headers=headers) as client:
            client.post("/bucket", json={"name": "docs"})
            client.post("/bucket", json={"name": "open", "public": True})
            client.post("/object/docs/a", content=b"a")
        yield running


def test_described_requests(storage: StandaloneStorage) -> None:
    schema = schemathesis.openapi.from_url(f"{storage.url}/documentation/json")
    headers = {"Authorization": f"Bearer {storage.service_key}"}
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) >= 30
    for operation in operations:

        @BOUNDED
        @given(case=operation.as_strategy())
        def call(case: schemathesis.Case) -> None:
            answer = case.call(base_url=storage.url, headers=headers)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400 and case.method != "HEAD":
                assert "statusCode" in answer.json()

        call()


@RAW
@given(
    method=st.sampled_from(METHODS),
    prefix=st.sampled_from(PREFIXES),
    rest=st.binary(max_size=20).map(quote_from_bytes)
    | st.sampled_from(["a", "..", "../..", "%2e%2e/x", "a%00", "%", "%ff", "a" * 3000]),
    query=queries,
    headers=st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=4),
    body=st.binary(max_size=50) | st.sampled_from([b"{}", b"[]", b"null", b"<a/>"]),
    with_token=st.booleans(),
)
def test_raw_requests(
    storage: StandaloneStorage,
    method: str,
    prefix: str,
    rest: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    with_token: bool,
) -> None:
    told = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    if with_token:
        told["Authorization"] = f"Bearer {storage.service_key}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    target = f"/storage/v1{prefix}{rest}{query}"
    request = f"{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode() + body
    answer = send(storage.port, request)
    status = int(answer.split(b" ", 2)[1])
    # 503 is how a resumable upload that is held by another request is told.
    assert status < 500, (request, answer)
    assert b"Traceback" not in answer


@RAW
@given(junk=st.binary(min_size=1, max_size=200))
def test_no_http_at_all(storage: StandaloneStorage, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", storage.port), timeout=10) as peer:
        peer.sendall(junk + b"\r\n\r\n")
    answer = send(
        storage.port,
        b"GET /storage/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 200")


def send(port: int, request: bytes) -> bytes:
    """Send bytes and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(request)
        answer = b""
        try:
            while data := peer.recv(65536):
                answer += data
        except ConnectionResetError:
            return answer
    return answer
