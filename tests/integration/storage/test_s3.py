"""The S3 protocol on the wire: refusals, forms, safe defaults."""

from __future__ import annotations

import base64
import hashlib
import json
import xml.etree.ElementTree as ET
import zlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from harness.protocols.s3_signature import (
    EMPTY_SHA256,
    Request,
    canonical_request,
    presign,
    sign,
    signature_of,
    signing_key,
    string_to_sign,
)
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


def test_header_that_was_added_to_a_signed_request_is_refused(s3: S3) -> None:
    s3("PUT", "/docs/secret", body=b"secret")
    host = f"127.0.0.1:{s3.storage.port}"
    keys = s3.storage.keys.s3
    path = "/storage/v1/s3/docs/open"
    query = presign(
        Request("PUT", path, "", {}, host),
        keys.access_key_id,
        keys.secret_access_key,
        "local",
        datetime.now(UTC),
        lifetime_s=60,
    )
    url = f"{s3.storage.origin}{path}?{query}"
    added = {"x-amz-copy-source": "/docs/secret"}
    assert told(s3.client.put(url, headers=added)) == (403, "AccessDenied")
    assert told(s3("GET", "/docs/open")) == (404, "NoSuchKey")
    assert s3.client.put(url, content=b"x").status_code == 200


def test_payload_that_is_signed_in_an_unknown_way_is_refused(s3: S3) -> None:
    wrong = s3("PUT", "/docs/a", body=b"0\r\n\r\n", payload_hash="STREAMING-OTHER")
    assert told(wrong) == (400, "InvalidRequest")


def test_decoded_length_that_is_wrong_is_refused(s3: S3) -> None:
    unsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    for length in ("3", "5"):
        wrong = s3(
            "PUT",
            "/docs/a",
            body=b"4\r\ndata\r\n0\r\n\r\n",
            payload_hash=unsigned,
            x_amz_decoded_content_length=length,
        )
        assert told(wrong) == (400, "InvalidRequest")
    assert told(s3("GET", "/docs/a")) == (404, "NoSuchKey")


@pytest.mark.parametrize(
    ("header", "digest"),
    [
        ("content_md5", hashlib.md5(b"data").digest()),
        ("x_amz_checksum_sha256", hashlib.sha256(b"data").digest()),
        ("x_amz_checksum_sha1", hashlib.sha1(b"data").digest()),
        ("x_amz_checksum_crc32", zlib.crc32(b"data").to_bytes(4, "big")),
        ("x_amz_checksum_crc32c", bytes.fromhex("aed87dd1")),
        ("x_amz_checksum_crc64nvme", bytes.fromhex("edae61438efc2780")),
    ],
)
def test_digest_that_is_not_the_datas_is_refused(
    s3: S3, header: str, digest: bytes
) -> None:
    told_digest = {header: base64.b64encode(digest).decode()}
    assert told(s3("PUT", "/docs/a", body=b"date", **told_digest)) == (400, "BadDigest")
    assert told(s3("GET", "/docs/a")) == (404, "NoSuchKey")
    assert s3("PUT", "/docs/a", body=b"data", **told_digest).status_code == 200


def test_write_that_must_not_replace(s3: S3) -> None:
    assert s3("PUT", "/docs/a", body=b"old", if_none_match="*").status_code == 200
    refused = s3("PUT", "/docs/a", body=b"new", if_none_match="*")
    assert told(refused) == (412, "PreconditionFailed")
    assert s3("GET", "/docs/a").content == b"old"
    created = ET.fromstring(s3("POST", "/docs/a", "uploads=").content)
    upload_id = created.findtext("{*}UploadId")
    part = f"partNumber=1&uploadId={upload_id}"
    assert s3("PUT", "/docs/a", part, body=b"part").status_code == 200
    completed = s3("POST", "/docs/a", f"uploadId={upload_id}", if_none_match="*")
    assert told(completed) == (412, "PreconditionFailed")
    assert s3("GET", "/docs/a").content == b"old"
    assert s3("PUT", "/docs/a", body=b"new").status_code == 200
    assert s3("GET", "/docs/a").content == b"new"


def test_path_signed_as_it_is_sent(s3: S3) -> None:
    s3("PUT", "/docs/dir/a", body=b"x")
    keys = s3.storage.keys.s3
    path = "/storage/v1/s3/docs/dir%2Fa"
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": f"127.0.0.1:{s3.storage.port}",
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": at,
    }
    canonical = canonical_request("GET", path, [], headers, EMPTY_SHA256)
    scope = f"{at[:8]}/local/s3/aws4_request"
    key = signing_key(keys.secret_access_key, at[:8], "local", "s3")
    signature = signature_of(key, string_to_sign(at, scope, canonical))
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, "
        f"SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"
    )
    answer = s3.client.get(f"{s3.storage.origin}{path}", headers=headers)
    assert answer.content == b"x"


def form(s3: S3, policy: dict[str, Any], fields: list[tuple[str, str]]) -> Any:
    """Send a form signed by the static key pair."""
    keys = s3.storage.keys.s3
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    encoded = base64.b64encode(json.dumps(policy).encode()).decode()
    key = signing_key(keys.secret_access_key, at[:8], "local", "s3")
    signing = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{keys.access_key_id}/{at[:8]}/local/s3/aws4_request",
        "x-amz-date": at,
        "policy": encoded,
        "x-amz-signature": signature_of(key, encoded),
    }
    parts = [(name, (None, value)) for name, value in (*fields, *signing.items())]
    url = f"{s3.storage.origin}/storage/v1/s3/docs"
    return s3.client.post(url, files=[*parts, ("file", ("f.txt", b"data"))])


def test_form_outcomes(s3: S3) -> None:
    policy: dict[str, Any] = {
        "expiration": "2999-01-01T00:00:00Z",
        "conditions": [{"bucket": "docs"}, ["starts-with", "$key", "u/"]],
    }
    key = [("key", "u/1")]
    assert form(s3, policy, key).status_code == 200
    assert s3("GET", "/docs/u/1").content == b"data"
    assert told(form(s3, policy, [*key, ("key", "u/2")])) == (400, "InvalidSignature")
    assert told(form(s3, policy, [("key", "v/1")])) == (403, "AccessDenied")
    anywhere = {**policy, "conditions": [["starts-with", "$key", ""]]}
    assert told(form(s3, anywhere, key)) == (403, "AccessDenied")
    past = {**policy, "expiration": "2020-01-01T00:00:00Z"}
    assert told(form(s3, past, key)) == (400, "ExpiredToken")
    assert told(form(s3, {}, key)) == (400, "InvalidSignature")


def test_listing_goes_on_after_a_key_that_is_the_prefix(s3: S3) -> None:
    for key in ("a/", "a/1", "a/b/2", "c"):
        assert s3("PUT", f"/docs/{key}", body=b"x").status_code == 200
    query = "list-type=2&max-keys=1&delimiter=%2F&prefix=a%2F"
    seen: list[str | None] = []
    token: str | None = ""
    while token is not None:
        after = f"&continuation-token={quote(token, safe='')}" if token else ""
        page = ET.fromstring(s3("GET", "/docs", query + after).content)
        seen += [e.text for e in page.iter(f"{NAMESPACE}Key")]
        seen += [e.text for e in page.findall(f".//{NAMESPACE}CommonPrefixes/*")]
        token = page.findtext(f"{NAMESPACE}NextContinuationToken")
    assert seen == ["a/", "a/1", "a/b/"]


@pytest.mark.parametrize("order", [(2, 1), (1, 1)])
def test_parts_out_of_order_are_refused(s3: S3, order: tuple[int, int]) -> None:
    created = ET.fromstring(s3("POST", "/docs/m", "uploads=").content)
    upload = f"uploadId={created.findtext(f'{NAMESPACE}UploadId')}"
    tags = {
        n: s3("PUT", "/docs/m", f"partNumber={n}&{upload}", b"x").headers["etag"]
        for n in (1, 2)
    }
    listed = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{tags[n]}</ETag></Part>"
        for n in order
    )
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    assert told(s3("POST", "/docs/m", upload, body.encode())) == (
        400,
        "InvalidPartOrder",
    )


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
