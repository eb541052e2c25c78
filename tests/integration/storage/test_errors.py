"""Refusals of the REST routes, to the letter."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from harness.protocols.jwt import mint

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"


def refusal(status: str, error: str, message: str, code: str) -> dict[str, str]:
    return {"statusCode": status, "error": error, "message": message, "code": code}


NO_BUCKET = refusal("404", "Bucket not found", "Bucket not found", "NoSuchBucket")
NO_KEY = refusal("404", "not_found", "Object not found", "NoSuchKey")
DUPLICATE = refusal(
    "409", "Duplicate", "The resource already exists", "ResourceAlreadyExists"
)
DENIED = refusal(
    "403",
    "Unauthorized",
    "new row violates row-level security policy",
    "AccessDenied",
)
TOO_LARGE = refusal(
    "413",
    "Payload too large",
    "The object exceeded the maximum allowed size",
    "EntityTooLarge",
)


def invalid(message: str) -> dict[str, str]:
    return refusal("400", "Error", message, "InvalidRequest")


def assert_refused(
    answer: httpx.Response, expected: dict[str, str], http_status: int = 400
) -> None:
    assert (answer.status_code, answer.json()) == (http_status, expected)
    assert list(answer.json()) == ["statusCode", "error", "message", "code"]
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


def test_missing_token_is_a_schema_error(nobody: Any) -> None:
    wanted = invalid("headers must have required property 'authorization'")
    assert_refused(nobody("GET", "/bucket"), wanted)
    assert_refused(nobody("POST", "/object/docs/a", content=b"x"), wanted)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("garbage", "Invalid Compact JWS"),
        ("expired", '"exp" claim timestamp check failed'),
        ("forged", "signature verification failed"),
        ("none", '"alg" (Algorithm) Header Parameter value not allowed'),
    ],
)
def test_bad_token_is_refused(
    admin: Any, storage: Any, token: str, message: str
) -> None:
    secret = storage.keys.jwt_secret
    tokens = {
        "garbage": "not-a-token",
        "expired": mint({"role": "service_role", "exp": 1}, secret),
        "forged": mint({"role": "service_role"}, "x" * 40),
        "none": (
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0."
        ),
    }
    answer = admin(
        "GET", "/bucket", headers={"Authorization": f"Bearer {tokens[token]}"}
    )
    wanted = refusal("403", "Unauthorized", message, "AccessDenied")
    assert_refused(answer, wanted)


def test_unknown_role_is_a_database_error(admin: Any, storage: Any) -> None:
    headers = {"Authorization": storage.token(role="nosuchrole")}
    nothing = {"prefix": "no/such/folder"}
    for answer in (
        admin("GET", "/bucket", headers=headers),
        admin("POST", "/object/list/docs", headers=headers, json=nothing),
    ):
        wanted = refusal(
            "500", "DatabaseError", "database error, code: 22023", "DatabaseError"
        )
        assert_refused(answer, wanted, 500)


def test_a_subject_with_a_nul_is_refused_and_not_cut_off(
    admin: Any, storage: Any
) -> None:
    headers = {"Authorization": storage.token(role="authenticated", sub="a\0b")}
    for path in ("/object/sign/docs/a", "/object/list/docs"):
        body = {"expiresIn": 60, "prefix": ""}
        answer = admin("POST", path, headers=headers, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"] == "InvalidParameter"


def test_bare_token_and_any_case_of_bearer(admin: Any, storage: Any) -> None:
    for value in (storage.service_key, f"bEaReR {storage.service_key}"):
        answer = admin("GET", "/bucket", headers={"Authorization": value})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/bucket/none", None, NO_BUCKET),
        ("PUT", "/bucket/none", {"public": True}, NO_BUCKET),
        ("DELETE", "/bucket/none", None, NO_BUCKET),
        ("POST", "/bucket", {}, invalid("body must have required property 'name'")),
        (
            "POST",
            "/bucket",
            {"name": "docs"},
            {**DUPLICATE, "code": "BucketAlreadyExists"},
        ),
        (
            "POST",
            "/bucket",
            {"name": "a/b"},
            refusal("400", "Invalid Input", "Bucket name invalid", "InvalidBucketName"),
        ),
        (
            "POST",
            "/bucket",
            {"name": "x", "file_size_limit": "12 parsecs"},
            refusal(
                "400",
                "InvalidRequest",
                "Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B",
                "InvalidRequest",
            ),
        ),
        ("POST", "/bucket", {"name": "x", "file_size_limit": "99999gb"}, TOO_LARGE),
        (
            "POST",
            "/bucket",
            {"name": "x", "allowed_mime_types": ["nonsense"]},
            refusal(
                "415",
                "invalid_mime_type",
                "mime type nonsense is not supported",
                "InvalidMimeType",
            ),
        ),
        ("GET", "/object/authenticated/none/a", None, NO_BUCKET),
        ("GET", "/object/docs/missing", None, NO_KEY),
        ("GET", "/object/public/docs/missing", None, NO_BUCKET),
        ("GET", "/object/info/docs/missing", None, NO_KEY),
        ("POST", "/object/sign/docs/missing", {"expiresIn": 60}, NO_KEY),
        (
            "POST",
            "/object/sign/docs/missing",
            {"expiresIn": 1.5},
            invalid("body/expiresIn must be integer"),
        ),
        (
            "POST",
            "/object/sign/docs/missing",
            {"expiresIn": 0},
            invalid("body/expiresIn must be >= 1"),
        ),
        (
            "POST",
            "/object/list/docs",
            {},
            invalid("body must have required property 'prefix'"),
        ),
        (
            "POST",
            "/object/list/docs",
            {"prefix": "", "sortBy": {"column": "size"}},
            invalid("body/sortBy/column must be equal to one of the allowed values"),
        ),
        (
            "DELETE",
            "/object/docs",
            {"prefixes": []},
            invalid("body/prefixes must NOT have fewer than 1 items"),
        ),
        ("DELETE", "/object/docs/missing", None, NO_KEY),
        (
            "POST",
            "/object/copy",
            {"bucketId": "docs", "sourceKey": "no", "destinationKey": "b"},
            NO_KEY,
        ),
        (
            "POST",
            "/object/move",
            {"bucketId": "docs", "sourceKey": "no", "destinationKey": "b"},
            NO_KEY,
        ),
    ],
)
def test_refusals(
    admin: Any, method: str, path: str, body: Any, expected: dict[str, str]
) -> None:
    kwargs = {} if body is None else {"json": body}
    assert_refused(admin(method, path, **kwargs), expected)


def test_upload_refusals(admin: Any, alice: Any) -> None:
    admin(
        "POST",
        "/bucket",
        json={
            "name": "images",
            "file_size_limit": 10,
            "allowed_mime_types": ["image/*", "text/plain"],
        },
    )
    assert_refused(admin.upload("none/a"), NO_BUCKET)
    assert_refused(alice.upload("docs/elsewhere"), DENIED)
    unsupported = refusal(
        "415",
        "invalid_mime_type",
        "mime type text/plain;charset=UTF-8 is not supported",
        "InvalidMimeType",
    )
    kind = {"Content_Type": "text/plain;charset=UTF-8"}
    assert_refused(admin.upload("images/a", **kind), unsupported)
    png = {"Content_Type": "image/png"}
    assert_refused(admin.upload("images/a", b"x" * 11, **png), TOO_LARGE)
    assert admin.upload("images/a", b"x" * 10, **png).status_code == 200
    assert_refused(admin.upload("images/a", **png), DUPLICATE)
    robots = refusal(
        "400",
        "invalid_x_robots_tag",
        'Invalid X-Robots-Tag header: Invalid rule "nonsense"',
        "InvalidRequest",
    )
    assert_refused(admin.upload("docs/a", X_Robots_Tag="nonsense"), robots)


def test_chunked_body_obeys_the_limit(admin: Any) -> None:
    admin("POST", "/bucket", json={"name": "small", "file_size_limit": 1000})
    chunks = (b"x" * 100 for _ in range(20))
    answer = admin("POST", "/object/small/a", content=chunks)
    assert_refused(answer, TOO_LARGE)
    assert_refused(admin("GET", "/object/small/a"), NO_KEY)


@pytest.mark.parametrize(
    "key",
    ["a%25b", "a%5Bb", "a%7Eb", "%E2%82%AC", "a%22b", "a%5Cb", "a%00b", "a%0Ab"],
)
def test_keys_with_other_characters_are_refused(admin: Any, key: str) -> None:
    answer = admin("POST", f"/object/docs/{key}", content=b"x")
    assert answer.status_code == 400
    assert answer.json()["code"] == "InvalidKey"


@pytest.mark.parametrize("key", ["a%2E%2E%2Fb/%2E%2E/c", "./a", "a/../b", "a/%2e"])
def test_dot_segments_are_refused(admin: Any, storage: Any, key: str) -> None:
    # Sent as it is: clients would resolve the dots.
    answer = raw_request(storage, "POST", f"/storage/v1/object/docs/{key}")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"dot path segment" in answer


def test_odd_keys_are_stored(admin: Any) -> None:
    for key in ("/lead", "a//b", "trail/", "sp ace", "x" * 2000, "a/" * 300 + "z"):
        assert admin.upload(f"docs/{key}", b"odd").status_code == 200, key
        assert admin("GET", f"/object/docs/{key}").content == b"odd"


def test_json_parser_refusals(admin: Any) -> None:
    json_type = {"Content-Type": "application/json"}
    empty = refusal(
        "400",
        "FastifyError",
        "Body cannot be empty when content-type is set to 'application/json'",
        "InvalidRequest",
    )
    assert_refused(admin("POST", "/bucket", headers=json_type), empty)
    assert_refused(admin("DELETE", "/object/docs/a", headers=json_type), empty)
    large = refusal(
        "413", "FastifyError", "Request body is too large", "EntityTooLarge"
    )
    body = b'{"name":"' + b"x" * 1048576 + b'"}'
    answer = admin("POST", "/bucket", headers=json_type, content=body)
    assert_refused(answer, large, 413)


def test_unknown_routes(admin: Any) -> None:
    answer = admin("POST", "/bucket/docs/nothing")
    assert answer.status_code == 404
    assert answer.json()["code"] == "InvalidRequest"
    elsewhere = admin("GET", "/nothing?a=b")
    assert elsewhere.status_code == 404
    assert elsewhere.json() == {
        "message": "Route GET:/nothing?a=b not found",
        "error": "Not Found",
        "statusCode": 404,
    }
    assert admin("OPTIONS", "/bucket").status_code == 404
    assert admin("POST", "/vector/ListVectorBuckets").status_code == 404
    assert admin("GET", "/iceberg/v1/config").status_code == 404


def test_routes_of_service_role_are_a_real_403(alice: Any, admin: Any) -> None:
    wanted = refusal(
        "403", "Unauthorized", "Access denied: Invalid role", "AccessDenied"
    )
    assert_refused(alice("POST", "/bucket/docs/empty"), wanted, 403)
    assert_refused(alice("DELETE", "/cdn/docs/a"), wanted, 403)
    assert admin("DELETE", "/cdn/docs/a").json()["code"] == "MissingParameter"


def test_head_refusals_have_no_body(admin: Any) -> None:
    for path in ("/object/docs/missing", "/object/public/docs/a", "/bucket/none"):
        answer = admin("HEAD", path)
        assert (answer.status_code, answer.content) == (400, b"")


def test_hidden_and_missing_objects(alice: Any, bob: Any, nobody: Any) -> None:
    alice.upload(f"docs/{ALICE}/a")
    assert_refused(bob("GET", f"/object/docs/{ALICE}/a"), NO_KEY)
    assert_refused(nobody("GET", f"/object/docs/{ALICE}/a"), NO_BUCKET)
    denied = refusal("403", "Unauthorized", "Access denied", "AccessDenied")
    assert_refused(bob("DELETE", f"/object/docs/{ALICE}/a"), denied)
    assert_refused(bob("DELETE", f"/object/docs/{ALICE}/b"), NO_KEY)


def test_nonempty_bucket_cannot_be_deleted(admin: Any) -> None:
    admin.upload("docs/a")
    wanted = refusal(
        "409",
        "ResourceNotEmpty",
        "The bucket you tried to delete is not empty",
        "ResourceNotEmpty",
    )
    assert_refused(admin("DELETE", "/bucket/docs"), wanted)


def test_copy_into_a_missing_bucket(admin: Any) -> None:
    admin.upload("docs/a")
    body = {
        "bucketId": "docs",
        "sourceKey": "a",
        "destinationBucket": "none",
        "destinationKey": "b",
    }
    wanted = refusal(
        "404", "InvalidRequest", "The related resource does not exist", "InvalidRequest"
    )
    assert_refused(admin("POST", "/object/copy", json=body), wanted)


def test_signing_an_upload_into_a_missing_bucket(admin: Any, alice: Any) -> None:
    wanted = refusal(
        "404", "InvalidRequest", "The related resource does not exist", "InvalidRequest"
    )
    assert_refused(admin("POST", "/object/upload/sign/none/b"), wanted)
    # Policies are asked before the bucket is looked for.
    assert_refused(alice("POST", "/object/upload/sign/none/b"), DENIED)


@pytest.mark.parametrize("escape", ["%", "%z0", "%2", "a%zzb", "%F0%9F"])
def test_an_escape_that_is_none_is_refused(admin: Any, escape: str) -> None:
    answer = admin("POST", f"/object/docs/{escape}", content=b"x")
    body = answer.json()
    assert (answer.status_code, body["code"]) == (400, "InvalidRequest")
    assert body["message"].endswith(f"{escape}' is not a valid url component")


def test_signed_url_refusals(admin: Any, storage: Any) -> None:
    admin.upload("docs/a")
    signed = admin("POST", "/object/sign/docs/a", json={"expiresIn": 60}).json()
    path, _, token = signed["signedURL"].partition("?token=")
    upload = admin("POST", "/object/upload/sign/docs/b").json()
    secret = storage.keys.jwt_secret
    expired = mint({"url": "docs/a", "scope": "download", "exp": 1}, secret)

    def code_of(url: str) -> tuple[str, str]:
        body = admin("GET", url).json()
        return body["code"], body["message"]

    assert code_of(f"{path}?token={token[:-3]}abc") == (
        "InvalidJWT",
        "signature verification failed",
    )
    assert code_of(f"{path}?token={expired}") == (
        "InvalidJWT",
        '"exp" claim timestamp check failed',
    )
    assert code_of(f"/object/sign/docs/other?token={token}") == (
        "InvalidSignature",
        "Invalid signature",
    )
    assert code_of(f"/object/sign/docs/b?token={upload['token']}")[0] == (
        "InvalidSignature"
    )
    put = admin("PUT", f"/object/upload/sign/docs/a?token={token}", content=b"x")
    assert put.json()["message"] == "Token is not scoped for upload"
    assert_refused(
        admin("GET", path),
        invalid("querystring must have required property 'token'"),
    )


def raw_request(storage: Any, method: str, target: str) -> bytes:
    """Send a request that no client would; return the answer."""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {storage.service_key}\r\nContent-Length: 1\r\n\r\nx"
    )
    with socket.create_connection(("127.0.0.1", storage.port), timeout=10) as peer:
        peer.sendall(head.encode())
        answer = b""
        while data := peer.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("path", ["/bucket/a%00", "/object/a%00/b", "/cdn/a%00"])
def test_nul_in_a_path_is_refused(admin: Any, path: str) -> None:
    method = "DELETE" if path.startswith("/cdn") else "GET"
    answer = admin(method, path)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidKey")
