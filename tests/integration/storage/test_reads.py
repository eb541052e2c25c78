"""What a read answers: headers, ranges, conditions, info, HEAD, signed URLs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from typing import Any

import jwt
import psycopg
import pytest

ALICE = "11111111-1111-4111-8111-111111111111"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
BODY = b"0123456789"
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'


@pytest.fixture
def digits(alice: Any) -> str:
    """Store ten digits; return the path below /object/<kind>/."""
    path = f"docs/{ALICE}/digits.txt"
    answer = alice.upload(
        path, BODY, Content_Type="text/plain", Cache_Control="max-age=60"
    )
    assert answer.json()["Key"] == path
    assert set(answer.json()) == {"Key", "Id"}
    return path


def test_headers_of_a_body(alice: Any, digits: str) -> None:
    answer = alice("GET", f"/object/authenticated/{digits}")
    assert answer.content == BODY
    headers = answer.headers
    assert headers["content-type"] == "text/plain"
    assert headers["content-length"] == "10"
    assert headers["etag"] == ETAG
    assert headers["cache-control"] == "max-age=60"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-robots-tag"] == "none"
    assert headers["last-modified"].endswith(" GMT")


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=10-", 416, None),
        ("bytes=4-2", 416, None),
        ("bytes=0-1,3-4", 416, None),
        ("chapters=1-2", 416, None),
        ("bytes=-", 416, None),
    ],
)
def test_ranges(
    alice: Any, digits: str, header: str, status: int, body: bytes | None
) -> None:
    answer = alice("GET", f"/object/{digits}", headers={"Range": header})
    assert answer.status_code == status
    if body is None:
        assert answer.json() == {
            "statusCode": "416",
            "error": "invalid_range",
            "message": "invalid range provided",
            "code": "InvalidRange",
        }
    else:
        assert answer.content == body
        first = BODY.index(body)
        assert answer.headers["content-range"] == (
            f"bytes {first}-{first + len(body) - 1}/10"
        )


def test_large_ranges_are_streamed(alice: Any) -> None:
    body = bytes(range(256)) * 2000
    alice.upload(f"docs/{ALICE}/large", body)
    answer = alice(
        "GET", f"/object/docs/{ALICE}/large", headers={"Range": "bytes=1000-400999"}
    )
    assert answer.content == body[1000:401000]


def test_conditions(alice: Any, digits: str) -> None:
    path = f"/object/{digits}"
    same = alice("GET", path, headers={"If-None-Match": ETAG})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == ETAG
    for other in ("*", f"W/{ETAG}", '"other"'):
        answer = alice("GET", path, headers={"If-None-Match": other})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == (
            "max-age=60, stale-while-revalidate=30"
        )
    modified = alice("GET", path).headers["last-modified"]
    exact = alice("GET", path, headers={"If-Modified-Since": modified})
    assert exact.status_code == 200
    later = "Thu, 01 Jan 2099 00:00:00 GMT"
    assert alice("GET", path, headers={"If-Modified-Since": later}).status_code == 304
    ignored = {
        "If-Match": '"other"',
        "If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00",
    }
    assert alice("GET", path, headers=ignored).status_code == 200


def test_head_is_answered_from_the_row(alice: Any, storage: Any, digits: str) -> None:
    for path in storage.objects_dir.glob("objects/*/*"):
        path.unlink()
    answer = alice("HEAD", f"/object/authenticated/{digits}", headers={"Range": "x"})
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "10"
    assert answer.headers["etag"] == ETAG
    missed = alice("HEAD", f"/object/{digits}", headers={"If-None-Match": "x"})
    assert missed.headers["cache-control"] == "max-age=60, must-revalidate"
    assert alice("GET", f"/object/{digits}").json()["code"] == "NoSuchKey"


def test_info(alice: Any, digits: str) -> None:
    info = alice("GET", f"/object/info/{digits}").json()
    assert list(info) == [
        "id",
        "name",
        "version",
        "bucket_id",
        "size",
        "content_type",
        "cache_control",
        "etag",
        "metadata",
        "last_modified",
        "created_at",
    ]
    assert info["name"] == f"{ALICE}/digits.txt"
    assert (info["size"], info["etag"], info["metadata"]) == (10, ETAG, {})
    assert ISO.fullmatch(info["created_at"])
    assert ISO.fullmatch(info["last_modified"])


def test_download_names_the_file(alice: Any, digits: str) -> None:
    plain = alice("GET", f"/object/{digits}?download")
    assert plain.headers["content-disposition"] == "attachment;"
    named = alice("GET", f"/object/{digits}?download=a%20b%C3%A4.txt")
    assert named.headers["content-disposition"] == (
        "attachment; filename=a%20b%C3%A4.txt; filename*=UTF-8''a%20b%C3%A4.txt"
    )


def test_pages_are_served_as_text(admin: Any, nobody: Any) -> None:
    admin.upload("open/page.html", b"<p>", Content_Type="text/html; charset=utf-8")
    answer = nobody("GET", "/object/public/open/page.html")
    assert answer.headers["content-type"] == "text/plain"


def test_public_bucket_without_a_token(admin: Any, nobody: Any) -> None:
    admin.upload("open/a", b"x")
    for path in ("/object/public/open/a", "/object/open/a"):
        assert nobody("GET", path).content == b"x"
        assert nobody("HEAD", path).status_code == 200
    assert nobody("GET", "/object/info/public/open/a").json()["size"] == 1
    assert nobody("GET", "/object/info/open/a").json()["size"] == 1
    garbage = {"Authorization": "Bearer garbage"}
    assert nobody("GET", "/object/open/a", headers=garbage).content == b"x"


def test_signed_url(alice: Any, nobody: Any, digits: str) -> None:
    before = int(time.time())
    answer = alice("POST", f"/object/sign/{digits}", json={"expiresIn": "60"})
    url = answer.json()["signedURL"]
    path, _, token = url.partition("?token=")
    assert path == f"/object/sign/{digits}"
    assert jwt.get_unverified_header(token) == {"alg": "HS256"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert list(claims) == ["url", "scope", "iat", "exp"]
    assert (claims["url"], claims["scope"]) == (digits, "download")
    assert claims["exp"] - claims["iat"] == 60
    assert before <= claims["iat"] <= time.time()
    got = nobody("GET", url)
    assert got.content == BODY
    assert "cache-control" not in got.headers
    assert got.headers["expires"].endswith(" GMT")
    assert nobody("HEAD", url).headers["content-length"] == "10"
    part = nobody("GET", url, headers={"Range": "bytes=0-0"})
    assert (part.status_code, part.content) == (206, b"0")


def test_signed_url_of_reserved_characters(alice: Any, nobody: Any) -> None:
    key = f"{ALICE}/a%26b%2Bc%24d%40e%3Bf%3Ag%2Ch%3Di.txt"
    assert alice.upload(f"docs/{key}", b"reserved").status_code == 200
    answer = alice("POST", f"/object/sign/docs/{key}", json={"expiresIn": 60})
    assert nobody("GET", answer.json()["signedURL"]).content == b"reserved"


def test_signed_upload(alice: Any, nobody: Any, sql: Any) -> None:
    signed = alice("POST", f"/object/upload/sign/docs/{ALICE}/up").json()
    claims = jwt.decode(signed["token"], options={"verify_signature": False})
    assert list(claims) == ["owner", "url", "upsert", "scope", "iat", "exp"]
    assert claims["exp"] - claims["iat"] == 60
    put = nobody("PUT", signed["url"], content=b"signed")
    assert put.json() == {"Key": f"docs/{ALICE}/up"}
    assert nobody("PUT", signed["url"], content=b"again").json()["error"] == "Duplicate"
    owner = sql.execute("select owner::text, owner_id from storage.objects").fetchone()
    assert owner == (ALICE, ALICE)


def test_metadata_of_uploads(alice: Any, sql: Any) -> None:
    told = base64.b64encode(json.dumps({"a": [1, "ä"]}).encode()).decode()
    alice.upload(
        f"docs/{ALICE}/one",
        BODY,
        x_metadata=told,
        X_Robots_Tag="noindex, max-snippet: 5",
    )
    row = sql.execute(
        "select metadata, user_metadata, owner::text, owner_id, version, path_tokens "
        "from storage.objects"
    ).fetchone()
    metadata = row[0]
    assert ISO.fullmatch(metadata.pop("lastModified"))
    assert metadata == {
        "eTag": ETAG,
        "size": 10,
        "mimetype": "application/octet-stream",
        "cacheControl": "no-cache",
        "contentLength": 10,
        "httpStatusCode": 200,
        "xRobotsTag": "noindex, max-snippet: 5",
    }
    assert row[1] == {"a": [1, "ä"]}
    assert row[2:4] == (ALICE, ALICE)
    assert re.fullmatch(r"[0-9a-f-]{36}", row[4])
    assert row[5] == [ALICE, "one"]
    shown = alice("GET", f"/object/docs/{ALICE}/one").headers["x-robots-tag"]
    assert shown == "noindex, max-snippet: 5"
    undecodable = alice.upload(f"docs/{ALICE}/two", BODY, x_metadata="%%%")
    assert undecodable.status_code == 200
    listed = alice.upload(
        f"docs/{ALICE}/three", x_metadata=base64.b64encode(b"[1]").decode()
    )
    assert "invalid input syntax for type json" in listed.json()["message"]


def test_form_upload(alice: Any, sql: Any) -> None:
    answer = alice(
        "POST",
        f"/object/docs/{ALICE}/form",
        data={"cacheControl": "3600", "metadata": '{"a": 1}'},
        files={"any": ("name.txt", b"form", "text/plain")},
    )
    assert answer.status_code == 200
    got = alice("GET", f"/object/docs/{ALICE}/form")
    assert got.content == b"form"
    assert got.headers["cache-control"] == "max-age=3600"
    assert got.headers["content-type"] == "text/plain"
    assert sql.execute("select user_metadata from storage.objects").fetchone() == (
        {"a": 1},
    )
    empty = alice("POST", f"/object/docs/{ALICE}/x", data={"a": "b"}, files={"f": ""})
    assert empty.status_code in (200, 400)


def test_listing(admin: Any) -> None:
    for key in ("b.txt", "A.txt", "dir/x", "dir/y", "Dir2/z", "c/d/e"):
        admin.upload(f"docs/{key}")
    listed = admin("POST", "/object/list/docs", json={"prefix": ""}).json()
    assert [entry["name"] for entry in listed] == ["A.txt", "b.txt", "c", "dir", "Dir2"]
    folder = listed[2]
    assert {key for key, value in folder.items() if value is None} == set(folder) - {
        "name"
    }
    assert set(listed[0]) == {
        "name",
        "id",
        "updated_at",
        "created_at",
        "last_accessed_at",
        "metadata",
    }

    def names(**body: Any) -> list[str]:
        answer = admin("POST", "/object/list/docs", json={"prefix": "", **body})
        return [entry["name"] for entry in answer.json()]

    assert names(prefix="dir") == ["x", "y"]
    assert names(prefix="c/d") == ["e"]
    assert names(search="DIR") == ["dir", "Dir2"]
    assert names(search="ir") == []
    assert names(limit=2, offset=1) == ["b.txt", "c"]
    assert names(sortBy={"column": "name", "order": "desc"}) == [
        "Dir2",
        "dir",
        "c",
        "b.txt",
        "A.txt",
    ]
    assert names(sortBy={"column": "created_at", "order": "desc"}) == [
        "dir",
        "c",
        "Dir2",
        "A.txt",
        "b.txt",
    ]
    missing = admin("POST", "/object/list/none", json={"prefix": ""})
    assert (missing.status_code, missing.json()) == (200, [])


def test_listed_times_are_those_of_the_row(
    admin: Any, sql: psycopg.Connection[tuple[Any, ...]]
) -> None:
    for key in ("fresh", "changed", "null"):
        admin.upload(f"docs/{key}")
    sql.execute("alter table storage.objects disable trigger user")
    set_times = "update storage.objects set created_at = %s, updated_at = %s, "
    set_times += "last_accessed_at = %s where name = %s"
    times = ("2026-01-02 03:04:05.0069+00", "2026-02-03T00:00:00+01", "1999-12-31+00")
    sql.execute(set_times, (*times, "changed"))
    sql.execute(set_times, (None, None, times[0], "null"))
    answer = admin("POST", "/object/list/docs", json={"prefix": ""}).json()
    listed = {entry.pop("name"): entry for entry in answer}
    names = ("created_at", "updated_at", "last_accessed_at")
    assert [listed["changed"][name] for name in names] == [
        "2026-01-02T03:04:05.006Z",
        "2026-02-02T23:00:00.000Z",
        "1999-12-31T00:00:00.000Z",
    ]
    assert [listed["null"][name] for name in names] == [
        None,
        None,
        "2026-01-02T03:04:05.006Z",
    ]
    told = admin("GET", "/object/info/docs/fresh").json()
    assert listed["fresh"]["created_at"] == told["created_at"]
    assert listed["fresh"]["updated_at"] == told["last_modified"]


@pytest.mark.parametrize("column", ["name", "created_at", "updated_at"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("with_delimiter", [True, False])
def test_listing_v2_pages(
    admin: Any, column: str, order: str, with_delimiter: bool
) -> None:
    keys = ["a", "B", "dir/x", "dir/y", "Dir/z", "e", "a/1"]
    for key in keys:
        admin.upload(f"docs/{key}")
    body: dict[str, Any] = {
        "limit": 2,
        "with_delimiter": with_delimiter,
        "sortBy": {"column": column, "order": order},
    }
    seen: list[str] = []
    while True:
        page = admin("POST", "/object/list-v2/docs", json=body).json()
        names = [e["name"] for e in page["folders"] + page["objects"]]
        assert len(names) <= 2
        seen += names
        assert page["hasNext"] == ("nextCursor" in page)
        if not page["hasNext"]:
            break
        body["cursor"] = page["nextCursor"]
    expected = {"a", "a/", "B", "dir/", "Dir/", "e"} if with_delimiter else set(keys)
    assert len(seen) == len(set(seen))
    assert set(seen) == expected
    if column == "name" and not with_delimiter:
        assert seen == sorted(keys, reverse=order == "desc")


def test_listing_v2_forms(admin: Any) -> None:
    missing = admin("POST", "/object/list-v2/none", json={}).json()
    assert missing == {"hasNext": False, "folders": [], "objects": []}
    bad = admin("POST", "/object/list-v2/docs", json={"cursor": "nonsense"}).json()
    assert bad["code"] == "InvalidParameter"
    admin.upload("docs/dir/x")
    folded = admin("POST", "/object/list-v2/docs", json={"with_delimiter": True}).json()
    assert folded["folders"][0]["name"] == "dir/"
    assert folded["folders"][0]["key"] == "dir"


def test_delete_many_returns_the_rows(alice: Any, digits: str) -> None:
    key = digits.removeprefix("docs/")
    gone = alice("DELETE", "/object/docs", json={"prefixes": [key, "missing"]})
    assert [row["name"] for row in gone.json()] == [key]
    assert gone.json()[0]["owner"] == ALICE


def test_copy_and_move_keep_or_change_metadata(alice: Any, digits: str) -> None:
    key = digits.removeprefix("docs/")

    def call(action: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
        told = {"bucketId": "docs", "sourceKey": key, **body}
        return alice("POST", f"/object/{action}", json=told, headers=headers).json()

    copied = call("copy", destinationKey=f"{ALICE}/copy")
    assert copied["Key"] == f"docs/{ALICE}/copy"
    assert copied["Id"] == copied["id"]
    assert copied["metadata"]["mimetype"] == "text/plain"
    assert call("copy", destinationKey=f"{ALICE}/copy")["error"] == "Duplicate"
    changed = call(
        "copy",
        {"x-upsert": "true", "x-metadata": base64.b64encode(b'{"k":1}').decode()},
        destinationKey=f"{ALICE}/copy",
        copyMetadata=False,
        metadata={"mimetype": "text/css"},
    )
    assert changed["metadata"]["mimetype"] == "text/css"
    assert changed["metadata"]["cacheControl"] == "max-age=60"
    assert changed["user_metadata"] == {"k": 1}
    assert call("copy", destinationKey=key)["error"] == "Duplicate"
    moved = {"message": "Successfully moved"}
    assert call("move", destinationKey=key) == moved
    assert call("move", destinationKey=f"{ALICE}/copy")["error"] == "Duplicate"
    assert call("move", destinationKey=f"{ALICE}/moved") == moved
    assert alice("GET", f"/object/docs/{ALICE}/moved").content == BODY


@pytest.mark.parametrize("action", ["move", "copy"])
def test_rules_of_the_other_bucket_are_obeyed(admin: Any, action: str) -> None:
    rules = {"file_size_limit": 5, "allowed_mime_types": ["image/png"]}
    admin("POST", "/bucket", json={"name": "strict", **rules})
    admin.upload("docs/long", b"x" * 6, Content_Type="image/png")
    admin.upload("docs/text", b"x", Content_Type="text/plain")

    def refused(key: str) -> str:
        body = {
            "bucketId": "docs",
            "sourceKey": key,
            "destinationBucket": "strict",
            "destinationKey": key,
        }
        return str(admin("POST", f"/object/{action}", json=body).json()["code"])

    assert refused("long") == "EntityTooLarge"
    assert refused("text") == "InvalidMimeType"
    assert admin("GET", "/object/docs/long").content == b"x" * 6


def test_copy_cannot_change_a_type_to_one_that_is_not_allowed(admin: Any) -> None:
    admin("POST", "/bucket", json={"name": "strict", "allowed_mime_types": ["a/b"]})
    admin.upload("strict/a", b"x", Content_Type="a/b")
    body = {
        "bucketId": "strict",
        "sourceKey": "a",
        "destinationKey": "c",
        "copyMetadata": False,
        "metadata": {"mimetype": "text/html"},
    }
    assert admin("POST", "/object/copy", json=body).json()["code"] == "InvalidMimeType"


def test_buckets_as_json(admin: Any) -> None:
    listed = admin("GET", "/bucket?sortColumn=id&limit=1&search=OC").json()
    assert list(listed[0]) == [
        "id",
        "name",
        "owner",
        "public",
        "type",
        "file_size_limit",
        "allowed_mime_types",
        "created_at",
        "updated_at",
    ]
    assert (listed[0]["id"], listed[0]["owner"]) == ("docs", "")
    old = admin("GET", "/bucket", headers={"x-client-info": "supabase-py/2.17.0"})
    assert "type" not in old.json()[0]
    assert "type" not in admin("GET", "/bucket/docs").json()


def test_system_routes(admin: Any, nobody: Any) -> None:
    assert admin("GET", "/health").json() == {"healthy": True}
    assert nobody("GET", "/health").status_code == 400
    assert (nobody("GET", "/status").status_code, nobody("GET", "/status").content) == (
        200,
        b"",
    )
    assert nobody("GET", "/version").text == "1.11.2"
    assert "storage_api_http_requests_total" in nobody("GET", "/metrics").text
    assert nobody("GET", "/documentation/json").json()["openapi"] == "3.0.3"
