"""The storage protocols without I/O: signatures, chunks, policies, XML, tus, ranges."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RemoteProtocolError
from harness.protocols import s3_xml, tus
from harness.protocols.http_ranges import (
    content_disposition,
    http_date,
    is_not_modified,
    parse_range,
)
from harness.protocols.s3_chunks import (
    ChecksumError,
    ChunkDecoder,
    ChunkSignatureError,
    ChunkSigner,
)
from harness.protocols.s3_policy import PolicyError, PostPolicy
from harness.protocols.s3_signature import (
    EMPTY_SHA256,
    Request,
    SignatureError,
    canonical_request,
    parse_signature,
    presign,
    sign,
    signature_of,
    signing_key,
    string_to_sign,
)

# The examples of the AWS documentation use these keys.
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "examplebucket.s3.amazonaws.com"


def test_signature_of_the_documented_get_object() -> None:
    request = Request("GET", "/test.txt", "", {"Range": "bytes=0-9"}, HOST)
    headers = sign(request, KEY, SECRET, "us-east-1", NOW, payload_hash=EMPTY_SHA256)
    assert headers["Authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_signature_of_the_documented_put_object() -> None:
    body = b"Welcome to Amazon S3."
    digest = hashlib.sha256(body).hexdigest()
    request = Request(
        "PUT",
        "/test$file.text",
        "",
        {
            "Date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        HOST,
    )
    headers = sign(request, KEY, SECRET, "us-east-1", NOW, payload_hash=digest)
    assert headers["Authorization"].endswith(
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_presigned_url_of_the_documentation() -> None:
    request = Request("GET", "/test.txt", "", {}, HOST)
    query = presign(request, KEY, SECRET, "us-east-1", NOW, lifetime_s=86400)
    assert query.endswith(
        "X-Amz-Signature="
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@given(
    st.sampled_from(["GET", "PUT"]),
    st.text(
        st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="?#%"),
        max_size=20,
    ),
    st.dictionaries(st.sampled_from(["a", "b c", "ü"]), st.text(max_size=5)),
)
def test_what_is_signed_verifies(method: str, path: str, query: dict[str, str]) -> None:
    headers = {"X-Amz-Meta-A": " b  c "}
    request = Request(method, f"/{path}", urlencode(query), headers, HOST)
    signed = sign(request, KEY, SECRET, "local", NOW)
    sent = Request(
        method, request.path, request.query, {**request.headers, **signed}, HOST
    )
    signature = parse_signature(sent, NOW)
    assert signature.matches(sent, SECRET)
    assert not signature.matches(sent, SECRET + "x")
    other = Request(method, request.path + "x", request.query, sent.headers, HOST)
    assert not signature.matches(other, SECRET)


@pytest.mark.parametrize(
    ("headers", "query", "reason"),
    [
        ({}, "", "missing"),
        ({"Authorization": "Bearer x"}, "", "missing"),
        ({"Authorization": "AWS4-HMAC-SHA256 nonsense"}, "", "malformed"),
        (
            {
                "Authorization": "AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/"
                f"aws4_request, SignedHeaders=host, Signature={'0' * 64}",
                "x-amz-date": "not a date",
            },
            "",
            "malformed",
        ),
        ({}, "X-Amz-Signature=x", "malformed"),
    ],
)
def test_signatures_that_are_none(
    headers: dict[str, str], query: str, reason: str
) -> None:
    with pytest.raises(SignatureError) as refused:
        parse_signature(Request("GET", "/", query, headers, HOST), NOW)
    assert refused.value.reason == reason


def test_expired_presigned_url() -> None:
    request = Request("GET", "/a", "", {}, HOST)
    query = presign(request, KEY, SECRET, "r", NOW, lifetime_s=60)
    late = Request("GET", "/a", query, {}, HOST)
    assert parse_signature(late, NOW + timedelta(seconds=60)).matches(late, SECRET)
    with pytest.raises(SignatureError) as refused:
        parse_signature(late, NOW + timedelta(seconds=61))
    assert refused.value.reason == "expired"


# aws-chunked --------------------------------------------------------------------------


def test_chunk_signatures_of_the_documentation() -> None:
    # "Signature calculations for chunked uploads": 64 KiB, 1 KiB, end.
    key = signing_key(SECRET, "20130524", "us-east-1", "s3")
    signer = ChunkSigner(
        key,
        "20130524T000000Z",
        "20130524/us-east-1/s3/aws4_request",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    )
    assert signer.chunk(b"a" * 65536) == (
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
    )
    assert signer.chunk(b"a" * 1024) == (
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
    )
    assert signer.chunk(b"") == (
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"
    )


def signer() -> ChunkSigner:
    return ChunkSigner(b"key", "20130524T000000Z", "scope", "0" * 64)


def encode(chunks: list[bytes], trailer: tuple[str, str] | None = None) -> bytes:
    signing = signer()
    out = b""
    for chunk in [*chunks, b""]:
        out += f"{len(chunk):x};chunk-signature={signing.chunk(chunk)}\r\n".encode()
        out += chunk + b"\r\n" if chunk else b""
    if trailer is not None:
        line = f"{trailer[0]}:{trailer[1]}"
        signature = signing.trailer(f"{line}\n".encode())
        out += f"{line}\r\nx-amz-trailer-signature:{signature}\r\n".encode()
    return out + b"\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
)
def test_signed_chunks_in_any_pieces(chunks: list[bytes], cuts: list[int]) -> None:
    crc = base64.b64encode(zlib.crc32(b"".join(chunks)).to_bytes(4, "big")).decode()
    encoded = encode(chunks, ("x-amz-checksum-crc32", crc))
    decoder = ChunkDecoder(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", signer(), "x-amz-checksum-crc32"
    )
    out: list[bytes] = []
    for cut in cuts:
        out += decoder.feed(encoded[:cut])
        encoded = encoded[cut:]
    out += decoder.feed(encoded)
    decoder.end()
    assert b"".join(out) == b"".join(chunks)


def test_chunks_that_were_changed() -> None:
    mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    encoded = encode([b"hello", b"world"])
    assert ChunkDecoder(mode, signer()).feed(encoded) == [b"hello", b"world"]
    with pytest.raises(ChunkSignatureError):
        ChunkDecoder(mode, signer()).feed(encoded.replace(b"world", b"w0rld"))
    decoder = ChunkDecoder(mode, signer())
    decoder.feed(encoded[:-10])
    with pytest.raises(RemoteProtocolError):
        decoder.end()
    with pytest.raises(RemoteProtocolError):
        ChunkDecoder(mode, signer()).feed(encoded + b"more")
    with pytest.raises(RemoteProtocolError):
        ChunkDecoder(mode, signer()).feed(b"5\r\nhello\r\n")
    with pytest.raises(RemoteProtocolError):
        ChunkDecoder(mode, None).feed(b"fffffff\r\n")


def test_unsigned_chunks_with_a_trailer() -> None:
    mode = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    digest = base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    body = f"4\r\ndata\r\n0\r\nx-amz-checksum-sha256:{digest}\r\n\r\n".encode()
    name = "x-amz-checksum-sha256"
    assert ChunkDecoder(mode, None, name).feed(body) == [b"data"]
    with pytest.raises(ChecksumError):
        ChunkDecoder(mode, None, name).feed(body.replace(b"data", b"dada"))
    with pytest.raises(RemoteProtocolError):
        ChunkDecoder(mode, None, name).feed(b"4\r\ndata\r\n0\r\n\r\n")


# POST policies ------------------------------------------------------------------------


def policy(**changes: object) -> str:
    document = {
        "expiration": "2013-05-25T00:00:00Z",
        "conditions": [
            {"bucket": "b"},
            ["starts-with", "$key", "dir/"],
            {"content-type": "text/plain"},
            ["content-length-range", 1, 10],
        ],
        **changes,
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_policy_that_is_kept() -> None:
    parsed = PostPolicy.parse(policy())
    fields = {"key": "dir/a", "content-type": "text/plain", "policy": "x"}
    parsed.check(fields, "b", NOW)
    assert parsed.size_range == (1, 10)
    # What signs the form need not be in a condition, as the real service has it.
    signing = ("algorithm", "credential", "date", "security-token", "signature")
    parsed.check({**fields, **{f"x-amz-{name}": "x" for name in signing}}, "b", NOW)


def test_policy_without_a_bucket_is_for_none() -> None:
    anywhere = PostPolicy.parse(policy(conditions=[["starts-with", "$key", ""]]))
    with pytest.raises(PolicyError, match="bucket"):
        anywhere.check({"key": "a"}, "b", NOW)


def test_condition_on_a_field_that_is_not_there_is_not_kept() -> None:
    conditions = [{"bucket": "b"}, ["starts-with", "$acl", ""], {"key": "a"}]
    parsed = PostPolicy.parse(policy(conditions=conditions))
    with pytest.raises(PolicyError, match="acl"):
        parsed.check({"key": "a"}, "b", NOW)


@pytest.mark.parametrize(
    ("fields", "bucket", "now"),
    [
        ({"key": "other", "content-type": "text/plain"}, "b", NOW),
        ({"key": "dir/a", "content-type": "text/css"}, "b", NOW),
        ({"key": "dir/a", "content-type": "text/plain", "acl": "x"}, "b", NOW),
        ({"key": "dir/a", "content-type": "text/plain"}, "c", NOW),
        ({"key": "dir/a"}, "b", NOW),
        (
            {"key": "dir/a", "content-type": "text/plain"},
            "b",
            NOW + timedelta(days=2),
        ),
    ],
)
def test_policy_that_is_broken(
    fields: dict[str, str], bucket: str, now: datetime
) -> None:
    with pytest.raises(PolicyError):
        PostPolicy.parse(policy()).check(fields, bucket, now)


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"{}").decode(),
        policy(expiration=None),
        policy(conditions=[["unknown", "$key", "x"]]),
        policy(conditions=[["content-length-range", "x", 1]]),
        policy(conditions="x"),
    ],
)
def test_policy_that_is_none(text: str) -> None:
    with pytest.raises(PolicyError):
        PostPolicy.parse(text)


# XML ----------------------------------------------------------------------------------


def test_rendered_xml() -> None:
    rendered = s3_xml.render(
        "R", {"A": "<&>", "B": [{"C": 1}, {"C": True}], "D": None, "E": "\x01x"}
    )
    assert rendered == (
        b'<?xml version="1.0" encoding="UTF-8"?>'
        b'<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><A>&lt;&amp;&gt;</A>'
        b"<B><C>1</C></B><B><C>true</C></B><E>x</E></R>"
    )


def test_parsed_bodies() -> None:
    delete = b"<Delete><Object><Key>a&amp;b</Key></Object><Quiet>true</Quiet></Delete>"
    assert s3_xml.parse_delete(delete) == s3_xml.DeleteRequest(("a&b",), True)
    complete = (
        b'<CompleteMultipartUpload xmlns="x"><Part><ETag>"e1"</ETag>'
        b"<PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber>"
        b"<ETag>e2</ETag></Part></CompleteMultipartUpload>"
    )
    assert s3_xml.parse_complete(complete) == [(1, '"e1"'), (2, "e2")]
    assert s3_xml.parse_complete(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        b"<Delete>",
        b"plain",
        b"<Other/>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><Delete><Key>&a;</Key></Delete>',
    ],
)
def test_xml_that_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        s3_xml.parse_delete(body)


@given(st.binary(max_size=200))
def test_parsers_raise_protocol_errors_only(body: bytes) -> None:
    for parse in (s3_xml.parse_delete, s3_xml.parse_complete):
        try:
            parse(body)
        except RemoteProtocolError:
            continue


# tus ----------------------------------------------------------------------------------


@given(
    st.text(st.characters(exclude_characters="/\0"), min_size=1),
    st.text(st.characters(exclude_characters="\0"), min_size=1),
    st.uuids(),
)
def test_upload_ids_round_trip(bucket: str, key: str, version: object) -> None:
    try:
        upload_id = tus.UploadId(bucket, key, str(version))
        assert tus.UploadId.decode(upload_id.encode()) == upload_id
    except UnicodeEncodeError:
        return


@pytest.mark.parametrize("segment", ["", "a", "!!!", "YQ", "YS9i", "L2EvYg"])
def test_upload_ids_that_are_none(segment: str) -> None:
    with pytest.raises(tus.TusError) as refused:
        tus.UploadId.decode(segment)
    assert refused.value.status == 404


METADATA = "bucketName YQ==,objectName Yg=="


@pytest.mark.parametrize(
    ("method", "headers", "status", "message"),
    [
        ("POST", {}, 412, "Tus-Resumable Required"),
        ("POST", {"Tus-Resumable": "0.9"}, 400, "Invalid tus-resumable"),
        (
            "POST",
            {"Tus-Resumable": "1.0.0", "Upload-Length": "-1"},
            400,
            "Invalid upload-length",
        ),
        (
            "POST",
            {"Tus-Resumable": "1.0.0", "Upload-Metadata": "a b c"},
            400,
            "Invalid upload-metadata",
        ),
        (
            "PATCH",
            {"Tus-Resumable": "1.0.0", "Content-Type": "text/plain"},
            400,
            "Invalid content-type",
        ),
    ],
)
def test_tus_headers_that_are_refused(
    method: str, headers: dict[str, str], status: int, message: str
) -> None:
    with pytest.raises(tus.TusError, match=message) as refused:
        tus.check_headers(method, headers)
    assert refused.value.status == status


def test_tus_creation() -> None:
    creation = tus.parse_creation({"Upload-Length": "5", "Upload-Metadata": METADATA})
    assert (creation.size, creation.metadata) == (
        5,
        {"bucketName": "a", "objectName": "b"},
    )
    deferred = tus.parse_creation(
        {"Upload-Defer-Length": "1", "Upload-Metadata": METADATA}
    )
    assert deferred.size is None
    for headers, message in (
        ({"Upload-Metadata": METADATA}, "Upload-Length or Upload-Defer-Length"),
        (
            {
                "Upload-Length": "5",
                "Upload-Defer-Length": "1",
                "Upload-Metadata": METADATA,
            },
            "Upload-Length or Upload-Defer-Length",
        ),
        ({"Upload-Length": "5"}, "Metadata header is required"),
    ):
        with pytest.raises(tus.TusError, match=message):
            tus.parse_creation(headers)


# Ranges -------------------------------------------------------------------------------


@given(st.text(max_size=20), st.integers(0, 100))
def test_ranges_lie_within_the_size(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            start, end = parse_range(text, size)
        except RemoteProtocolError:
            continue
        assert 0 <= start < end <= size


def test_not_modified() -> None:
    at = NOW.replace(microsecond=500_000)
    assert is_not_modified({"If-None-Match": '"a"'}, '"a"', at)
    assert not is_not_modified({"If-None-Match": "*"}, '"a"', at)
    assert not is_not_modified({"If-Modified-Since": http_date(at)}, '"a"', at)
    later = http_date(at + timedelta(seconds=1))
    assert is_not_modified({"If-Modified-Since": later}, '"a"', at)
    assert not is_not_modified({"If-Modified-Since": "nonsense"}, '"a"', at)
    # The tag decides when both are there.
    both = {"If-None-Match": '"b"', "If-Modified-Since": later}
    assert not is_not_modified(both, '"a"', at)


def test_content_disposition() -> None:
    assert content_disposition("") == "attachment;"
    assert content_disposition('a"b;\r\n.txt') == (
        "attachment; filename=a%22b%3B%0D%0A.txt; filename*=UTF-8''a%22b%3B%0D%0A.txt"
    )


def test_canonical_request_of_the_documentation() -> None:
    canonical = canonical_request(
        "GET",
        "/",
        [("lifecycle", "")],
        {
            "host": HOST,
            "x-amz-content-sha256": EMPTY_SHA256,
            "x-amz-date": "20130524T000000Z",
        },
        EMPTY_SHA256,
    )
    text = string_to_sign(
        "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", canonical
    )
    key = signing_key(SECRET, "20130524", "us-east-1", "s3")
    assert signature_of(key, text) == (
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )
