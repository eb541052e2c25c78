"""The S3 protocol on the wire: refusals, forms, safe defaults."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from harness.protocols.s3_signature import EMPTY_SHA256, Request, sign
from harness.servers.storage.standalone import StandaloneStorage

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class S3:
    """Signed requests as the static key pair."""

    def __init__(self, storage: StandaloneStorage, client: httpx.Client) -> None:
        self.storage = storage
        self.client = client

    def __call__(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        payload_hash: str | None = None,
        region: str = "local",
        **headers: str,
    ) -> httpx.Response:
        """Send a request."""
        keys = self.storage.keys.s3
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        full = f"/storage/v1/s3{path}"
        host = f"127.0.0.1:{self.storage.port}"
        signed = sign(
            Request(method, full, query, named, host),
            keys.access_key_id,
            keys.secret_access_key,
            region,
            datetime.now(UTC),
            payload_hash=payload_hash or hashlib.sha256(body).hexdigest(),
        )
        url = f"{self.storage.origin}{full}" + (f"?{query}" if query else "")
        return self.client.request(
            method, url, content=body, headers={**named, **signed}
        )


@pytest.fixture
def s3(storage: StandaloneStorage, http: httpx.Client, admin: Any) -> S3:
    return S3(storage, http)


def told(answer: httpx.Response) -> tuple[int, str]:
    root = ET.fromstring(answer.content)
    assert root.tag == "Error"
    assert [child.tag for child in root] == ["Resource", "Code", "Message"]
    return answer.status_code, root.findtext("Code") or ""


def test_refusals(s3: S3, nobody: Any) -> None:
    assert told(nobody("GET", "/s3/docs")) == (403, "AccessDenied")
    assert "Missing signature" in nobody("GET", "/s3/docs").text
    malformed = {"Authorization": "AWS4-HMAC-SHA256 nonsense"}
    assert told(nobody("GET", "/s3/docs", headers=malformed)) == (
        400,
        "InvalidSignature",
    )
    assert told(s3("GET", "/docs", region="eu-west-1")) == (
        403,
        "SignatureDoesNotMatch",
    )
    for region in ("auto", "us-east-1", ""):
        assert s3("GET", "/docs", region=region).status_code == 200
    assert told(s3("GET", "/none")) == (404, "NoSuchBucket")
    assert told(s3("GET", "/docs/none")) == (404, "NoSuchKey")
    assert told(s3("GET", "/none/none")) == (404, "NoSuchKey")
    assert told(s3("DELETE", "/none/none")) == (404, "NoSuchBucket")
    assert s3("DELETE", "/docs/none").status_code == 204
    assert s3("HEAD", "/docs/none").status_code == 404
    assert told(s3("PUT", "/docs")) == (409, "BucketAlreadyExists")
    assert told(s3("PUT", "/docs", "policy=")) == (409, "BucketAlreadyExists")
    assert told(s3("POST", "/docs", "delete=", b"<x")) == (400, "MalformedXML")
    assert told(s3("PUT", "/docs/a", "partNumber=0&uploadId=x")) == (
        400,
        "InvalidParameter",
    )
    assert told(s3("PUT", "/docs/a", "partNumber=1&uploadId=x", b"x")) == (
        404,
        "NoSuchUpload",
    )
    assert told(s3("GET", "/docs", "list-type=2&continuation-token=x")) == (
        400,
        "InvalidParameter",
    )
    assert told(s3("PATCH", "/docs/a")) == (404, "InvalidRequest")


def test_body_that_is_not_the_signed_one(s3: S3) -> None:
    wrong = s3("PUT", "/docs/a", body=b"data", payload_hash="0" * 64)
    assert told(wrong) == (400, "XAmzContentSHA256Mismatch")
    assert told(s3("GET", "/docs/a")) == (404, "NoSuchKey")
    large = b"x" * 1_000_000
    wrong = s3("PUT", "/docs/a", body=large, payload_hash=EMPTY_SHA256)
    assert told(wrong) == (400, "XAmzContentSHA256Mismatch")
    assert s3("PUT", "/docs/a", body=large).status_code == 200


def test_list_forms(s3: S3) -> None:
    for key in ("a b", "dir/x", "z"):
        s3("PUT", f"/docs/{key.replace(' ', '%20')}", body=b"x")
    page = ET.fromstring(
        s3("GET", "/docs", "encoding-type=url&list-type=2&max-keys=2").content
    )
    keys = [e.findtext(f"{NAMESPACE}Key") for e in page.iter(f"{NAMESPACE}Contents")]
    assert keys == ["a%20b", "dir%2Fx"]
    assert page.findtext(f"{NAMESPACE}IsTruncated") == "true"
    assert page.findtext(f"{NAMESPACE}KeyCount") == "2"
    all_keys = ET.fromstring(s3("GET", "/docs", "list-type=2&max-keys=0").content)
    assert all_keys.findtext(f"{NAMESPACE}KeyCount") == "3"
    v1 = ET.fromstring(s3("GET", "/docs", "max-keys=1").content)
    assert v1.findtext(f"{NAMESPACE}Marker") == "a b"
    assert v1.findtext(f"{NAMESPACE}NextMarker") == "a b"


def test_overrides_and_metadata_headers(s3: S3, sql: Any) -> None:
    s3("PUT", "/docs/a", body=b"x", x_amz_meta_ok="yes")
    sql.execute(
        "update storage.objects set user_metadata = "
        """'{"ok": "yes", "bad name": "x", "umlaut": "\\u00e4", "list": [1]}'"""
    )
    answer = s3("GET", "/docs/a", "response-content-type=text%2Fcss")
    assert answer.headers["content-type"] == "text/css"
    assert answer.headers["x-amz-meta-ok"] == "yes"
    assert answer.headers["x-amz-missing-meta"] == "3"
    bad = s3("GET", "/docs/a", "response-expires=nonsense")
    assert told(bad) == (400, "InvalidParameter")
    split = s3("GET", "/docs/a", "response-cache-control=a%0d%0ab%3a%20c")
    assert split.status_code == 400
    head = s3("HEAD", "/docs/a")
    assert "GMT+0000 (Coordinated Universal Time)" in head.headers["created-at"]


def test_tags_and_subresources_fall_through(s3: S3) -> None:
    s3("PUT", "/docs/a", body=b"x")
    assert b"TagSet" in s3("GET", "/docs/a", "tagging=").content
    assert s3("GET", "/docs/a", "acl=").content == b"x"
    assert b"ListBucketResult" in s3("GET", "/docs", "acl=").content


def test_upload_row_that_was_changed_is_refused(s3: S3, sql: Any) -> None:
    created = ET.fromstring(s3("POST", "/docs/m", "uploads=").content)
    upload_id = created.findtext(f"{NAMESPACE}UploadId")
    sql.execute("update storage.s3_multipart_uploads set in_progress_size = 5")
    query = f"partNumber=1&uploadId={upload_id}"
    assert told(s3("PUT", "/docs/m", query, b"x")) == (400, "InvalidUploadSignature")


def test_multipart_obeys_the_bucket_limit(s3: S3, admin: Any) -> None:
    admin("POST", "/bucket", json={"name": "small", "file_size_limit": 10})
    created = ET.fromstring(s3("POST", "/small/m", "uploads=").content)
    upload_id = created.findtext(f"{NAMESPACE}UploadId")

    def part(number: int, body: bytes) -> httpx.Response:
        query = f"partNumber={number}&uploadId={upload_id}"
        return s3("PUT", "/small/m", query, body)

    assert part(1, b"x" * 8).status_code == 200
    assert told(part(2, b"x" * 8)) == (413, "EntityTooLarge")
    # The same number again replaces, so its size does not count twice.
    assert part(1, b"y" * 9).status_code == 200
    done = s3("POST", "/small/m", f"uploadId={upload_id}")
    assert done.status_code == 200
    assert s3("GET", "/small/m").content == b"y" * 9
