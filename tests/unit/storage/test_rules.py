"""Pure decisions of the Storage API: names, sizes, types, schemas, robots, settings."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.servers.storage import names
from harness.servers.storage.errors import StorageError, from_sqlstate
from harness.servers.storage.faultpoints import FaultPoints
from harness.servers.storage.listing import Cursor
from harness.servers.storage.robots import check_x_robots_tag
from harness.servers.storage.routes import rest_routes
from harness.servers.storage.schema import Field, validate
from harness.servers.storage.settings import StorageSettings


@pytest.mark.parametrize(
    "key", ["a", "/a", "a//b", "a/", "A-Za_z0!.*'() &$=@;:+,?-", "x" * 5000]
)
def test_keys_that_are_allowed(key: str) -> None:
    names.check_key(key)


@pytest.mark.parametrize("key", ["", "ä", *'~#%[]{}\\^|"<>`', "a\0", "a\nb", "a\n"])
def test_keys_that_are_refused(key: str) -> None:
    with pytest.raises(StorageError, match="Invalid key"):
        names.check_key(key)


@pytest.mark.parametrize(
    "name", ["", "a/b", " a", "a ", "x" * 101, "ä", "lake--table-s3", "a\n"]
)
def test_bucket_names_that_are_refused(name: str) -> None:
    with pytest.raises(StorageError, match="Bucket name invalid"):
        names.check_bucket_name(name)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (None, None),
        ("", None),
        ("12", 12),
        ("1kb", 1000),
        ("1.5MB", 1_500_000),
        ("2gb", 2_000_000_000),
        ("3B", 3),
    ],
)
def test_size_limits(value: Any, size: int | None) -> None:
    assert names.parse_size_limit(value, ceiling=10**10) == size


@pytest.mark.parametrize("value", [-1, "x", "1tb", "-1", "1.mb", "1e3", "\u0661"])
def test_size_limits_that_are_none(value: int | str) -> None:
    with pytest.raises(StorageError, match="Invalid file size format"):
        names.parse_size_limit(value, ceiling=10**10)


@pytest.mark.parametrize(
    ("mime_type", "allowed", "fits"),
    [
        ("image/png", ["image/png"], True),
        ("image/png", ["image/*"], True),
        ("image/png", ["text/plain", "image/*"], True),
        ("image/png", [], True),
        ("image/png", None, True),
        ("image/png", ["image/jpeg"], False),
        ("text/plain;charset=UTF-8", ["text/plain"], False),
        ("image", ["image/*"], False),
    ],
)
def test_mime_types(mime_type: str, allowed: list[str] | None, fits: bool) -> None:
    if fits:
        names.check_mime_type(mime_type, allowed)
    else:
        with pytest.raises(StorageError, match="is not supported"):
            names.check_mime_type(mime_type, allowed)
    names.check_mime_type(mime_type, allowed, key="dir/.emptyFolderPlaceholder")


FIELDS = {
    "n": Field("integer", minimum=1),
    "s": Field("string"),
    "b": Field("boolean"),
    "a": Field("array", items=Field("string"), min_items=1),
    "o": Field("object", fields={"x": Field("integer", required=True)}),
    "z": Field("string", nullable=True, or_kind="integer"),
}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"n": "60"}, {"n": 60}),
        ({"n": 2.0}, {"n": 2}),
        ({"s": 5}, {"s": "5"}),
        ({"s": None}, {"s": ""}),
        ({"b": "true"}, {"b": True}),
        ({"b": 0}, {"b": False}),
        ({"z": None}, {"z": None}),
        ({"z": 7}, {"z": 7}),
        ({"unknown": 1}, {}),
        ({"o": {"x": 1, "y": 2}}, {"o": {"x": 1}}),
    ],
)
def test_json_that_is_converted(value: Any, result: Any) -> None:
    assert validate(value, FIELDS) == result


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "body must be object"),
        (None, "body must be object"),
        ({"n": 1.5}, "body/n must be integer"),
        ({"n": "x"}, "body/n must be integer"),
        ({"n": 0}, "body/n must be >= 1"),
        ({"n": 1e30}, "body/n must be integer"),
        ({"s": []}, "body/s must be string"),
        ({"s": "a\0"}, "body/s must be string"),
        ({"b": "yes"}, "body/b must be boolean"),
        ({"a": []}, "body/a must NOT have fewer than 1 items"),
        ({"a": [{}]}, "body/a/0 must be string"),
        ({"o": {}}, "body/o must have required property 'x'"),
    ],
)
def test_json_that_is_refused(value: Any, message: str) -> None:
    with pytest.raises(StorageError) as refused:
        validate(value, FIELDS)
    assert (refused.value.error, refused.value.message) == ("Error", message)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_any_json_is_converted_or_refused(value: Any) -> None:
    for name in FIELDS:
        with suppress(StorageError):
            assert set(validate({name: value}, FIELDS)) == {name}


@pytest.mark.parametrize(
    "value",
    [
        "none",
        "noindex, nofollow",
        "max-snippet: 20, max-image-preview: large",
        "unavailable_after: Wed, 3 Dec 2025 13:09:53 GMT, noindex",
        "googlebot: noindex, otherbot: nofollow",
    ],
)
def test_robots_rules(value: str) -> None:
    check_x_robots_tag(value)


@pytest.mark.parametrize(
    "value",
    ["", "  ", "noindex,", "nonsense", "max-snippet: x", "max-image-preview: huge"],
)
def test_robots_rules_that_are_refused(value: str) -> None:
    with pytest.raises(StorageError, match="Invalid X-Robots-Tag header"):
        check_x_robots_tag(value)


@given(st.text(max_size=60))
def test_robots_rules_of_any_text_end(value: str) -> None:
    try:
        check_x_robots_tag(value)
    except StorageError:
        return


@pytest.mark.parametrize(
    ("sqlstate", "status", "code"),
    [
        ("42501", 403, "AccessDenied"),
        ("23505", 409, "ResourceAlreadyExists"),
        ("23503", 404, "InvalidRequest"),
        ("55P03", 423, "ResourceLocked"),
        ("57014", 544, "DatabaseTimeout"),
        ("25006", 503, "DatabaseReadOnly"),
        ("42P17", 503, "DatabaseInvalidObjectDefinition"),
        ("42P01", 503, "DatabaseSchemaMismatch"),
        ("22P02", 400, "InvalidParameter"),
        ("53300", 429, "SlowDown"),
        ("P0001", 500, "DatabaseError"),
    ],
)
def test_sqlstates(sqlstate: str, status: int, code: str) -> None:
    refusal = from_sqlstate(sqlstate, "a message")
    assert (refusal.status, refusal.code) == (status, code)


def test_routes_prefer_static_segments() -> None:
    router = rest_routes()

    def find(method: str, path: str) -> tuple[str, list[str]] | None:
        found = router.find(method, path)
        return None if found is None else (found[0].operation, found[1])

    assert find("GET", "/object/public/b/a%20b/c%2Fd") == (
        "storage.object.get_public",
        ["b", "a b/c/d"],
    )
    assert find("GET", "/object/mine/a") == (
        "storage.object.get_authenticated",
        ["mine", "a"],
    )
    assert find("POST", "/object/sign/b") == ("storage.object.sign_many", ["b"])
    assert find("POST", "/object/sign/b/k") == ("storage.object.sign", ["b", "k"])
    assert find("POST", "/object/copy") == ("storage.object.copy", [])
    assert find("DELETE", "/object/b") == ("storage.object.delete_many", ["b"])
    assert find("GET", "/bucket/") == ("storage.bucket.list", [])
    assert find("PATCH", "/bucket") is None
    assert find("GET", "/nothing") is None


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_cursors_round_trip(last: str) -> None:
    try:
        cursor = Cursor(last.replace("\n", ""), "desc", "created_at", "2026-01-01")
        if cursor.last:
            assert Cursor.decode(cursor.encode()) == cursor
    except UnicodeEncodeError:
        return


def test_settings_name_what_they_do_not_know() -> None:
    assert StorageSettings.of({"compat": True}).compat
    with pytest.raises(ConfigError, match="unknown storage setting: nonsense"):
        StorageSettings.of({"nonsense": 1})


@pytest.mark.parametrize("armed", ["nowhere", "upload.stored:x"])
def test_fault_points_must_exist(armed: str) -> None:
    with pytest.raises(ConfigError):
        FaultPoints(armed)
    FaultPoints("upload.stored").hit("upload.staged")
