"""Prefer, Accept, Content-Type and Range: what the headers of a request mean."""

from __future__ import annotations

import pytest

from harness.protocols.postgrest import RowRange
from harness.protocols.postgrest_media import (
    ANY,
    ARRAY,
    CSV,
    JSON,
    OCTETS,
    PLAN,
    SINGULAR,
    MediaType,
    parse_accept,
    parse_content_type,
)
from harness.protocols.postgrest_preferences import (
    NO_PREFERENCES,
    Preferences,
    parse_preferences,
)
from harness.servers.rest.responses import content_range, location, range_status


def test_parse_preferences_of_all_headers() -> None:
    found = parse_preferences(
        [
            "return=representation, resolution=merge-duplicates",
            "count=exact,missing=default , tx=rollback",
            "handling=strict,timezone=Europe/Paris,max-affected=5",
        ]
    )
    assert found == Preferences(
        "merge-duplicates",
        "representation",
        "exact",
        "rollback",
        "default",
        "strict",
        "Europe/Paris",
        5,
    )
    assert found.strict


def test_parse_preferences_of_nothing_is_none_of_them() -> None:
    assert parse_preferences([]) is NO_PREFERENCES
    assert parse_preferences([" , "]) == NO_PREFERENCES


def test_parse_preferences_keeps_the_first_and_lists_the_unknown() -> None:
    found = parse_preferences(["count=exact,count=planned,x=y,return=nothing,count"])
    assert found.count == "exact"
    assert found.invalid == ("x=y", "return=nothing", "count")


def test_applied_names_what_was_given_in_a_fixed_order() -> None:
    found = parse_preferences(
        ["count=exact,return=minimal,resolution=merge-duplicates"]
    )
    assert found.applied("count", "return") == "return=minimal, count=exact"
    assert found.applied("tx") == ""
    upsert = parse_preferences(["return=minimal,missing=default"])
    assert upsert.applied("return", "missing") == "missing=default, return=minimal"


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("", [ANY]),
        ("*/*", [ANY]),
        ("application/json", [JSON]),
        ("application/*", [JSON]),
        ("text/csv, */*;q=0.1", [CSV, ANY]),
        ("text/csv;q=0.5,application/json", [JSON, CSV]),
        ("application/json;q=0, text/csv", [CSV]),
        ("application/json;q=x, text/csv", [CSV]),
        ("application/vnd.pgrst.object+json", [SINGULAR]),
        ("application/vnd.pgrst.object", [SINGULAR]),
        ("application/vnd.pgrst.array", [JSON]),
        ("Application/JSON; charset=utf-8", [JSON]),
    ],
)
def test_parse_accept_orders_by_wish(header: str, names: list[str]) -> None:
    assert [media.name for media in parse_accept(header)] == names


def test_parse_accept_reads_null_stripping() -> None:
    (one,) = parse_accept("application/vnd.pgrst.object+json;nulls=stripped")
    (many,) = parse_accept("application/vnd.pgrst.array+json; nulls=stripped")
    assert one == MediaType(SINGULAR, strip_nulls=True)
    assert many == MediaType(ARRAY, strip_nulls=True)
    assert one.content_type == (
        "application/vnd.pgrst.object+json;nulls=stripped; charset=utf-8"
    )


def test_parse_accept_reads_plan_options() -> None:
    (plan,) = parse_accept(
        'application/vnd.pgrst.plan+json; for="text/csv"; options=verbose|analyze|x'
    )
    assert plan == MediaType(PLAN, False, "json", ("analyze", "verbose"), CSV)
    (text,) = parse_accept("application/vnd.pgrst.plan")
    assert (text.plan_format, text.plan_of) == ("text", JSON)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json;charset=utf-8", JSON),
        ("application/vnd.pgrst.object+json", JSON),
        ("TEXT/CSV", CSV),
        ("application/octet-stream", OCTETS),
        ("application/pdf", "application/pdf"),
    ],
)
def test_parse_content_type_drops_parameters(header: str, name: str) -> None:
    assert parse_content_type(header) == name


@pytest.mark.parametrize(
    ("lower", "upper", "total", "expected"),
    [
        (0, 9, None, "0-9/*"),
        (0, 9, 100, "0-9/100"),
        (0, -1, None, "*/*"),
        (0, -1, 0, "*/0"),
        (5, 4, 3, "*/3"),
        (1, 0, 7, "*/7"),
    ],
)
def test_content_range_of_rows(
    lower: int, upper: int, total: int | None, expected: str
) -> None:
    assert content_range(lower, upper, total) == expected


@pytest.mark.parametrize(
    ("offset", "found", "total", "status"),
    [
        (0, 10, None, 200),
        (0, 10, 10, 200),
        (0, 10, 11, 206),
        (5, 5, 10, 206),
        (10, 0, 10, 206),
        (11, 0, 10, 416),
        (0, 0, 0, 200),
        (1, 0, 0, 416),
    ],
)
def test_range_status_of_rows(
    offset: int, found: int, total: int | None, status: int
) -> None:
    assert range_status(RowRange(offset), found, total) == status


def test_location_escapes_names_and_values() -> None:
    assert location("a b", {"x&y": "1 2", "z": None, "ü": "=/"}) == (
        "/a%20b?x%26y=eq.1%202&z=is.null&%C3%BC=eq.%3D%2F"
    )
