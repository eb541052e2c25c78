"""What SQL compares with what, read from conditions and helper bodies."""

from __future__ import annotations

import pytest

from harness.db.catalog import Name
from harness.policies.comparisons import (
    UID,
    Claim,
    Col,
    Comparison,
    Const,
    Depth,
    Folder,
    Joined,
    Reading,
    Term,
    Topic,
    read_condition,
)
from tests.unit.policies.catalogs import catalog, column, sql_function, table

NOTES = Name("public", "notes")
OBJECTS = Name("storage", "objects")
MEMBERS = Name("public", "members")
IS_MEMBER = sql_function(
    "is_member",
    "select exists (select 1 from public.members m"
    " where m.org_id = org and m.user_id = auth.uid())",
    "org",
)
CATALOG = catalog(
    table(
        "notes",
        column("id", "uuid"),
        column("user_id", "uuid"),
        column("org_id", "uuid"),
        column("shared", "boolean"),
        column("status"),
        column("meta", "jsonb"),
    ),
    table("members", column("org_id", "uuid"), column("user_id", "uuid")),
    functions=(IS_MEMBER,),
)


def read(condition: str, name: Name = NOTES) -> Reading:
    return read_condition(condition, name, CATALOG)


@pytest.mark.parametrize(
    ("condition", "left", "right"),
    [
        ("user_id = auth.uid()", Col(NOTES, "user_id"), UID),
        ("(select auth.uid()) = user_id", UID, Col(NOTES, "user_id")),
        ("status = 'open'", Col(NOTES, "status"), Const(("open",))),
        ("status in ('a', 'b')", Col(NOTES, "status"), Const(("a", "b"))),
        ("status = any (array['a', 'b'])", Col(NOTES, "status"), Const(("a", "b"))),
        ("meta ->> 'kind' = 'x'", Col(NOTES, "meta", ("kind",)), Const(("x",))),
        ("auth.jwt() ->> 'sub' = status", UID, Col(NOTES, "status")),
        (
            "(auth.jwt() -> 'app_metadata' ->> 'org')::uuid = org_id",
            Claim(("app_metadata", "org")),
            Col(NOTES, "org_id"),
        ),
        (
            "current_setting('request.jwt.claims', true)::json ->> 'role' = 'x'",
            Claim(("role",)),
            Const(("x",)),
        ),
        (
            "nullif(auth.jwt() ->> 'org', '')::uuid = org_id",
            Claim(("org",)),
            Col(NOTES, "org_id"),
        ),
    ],
)
def test_comparison_is_read_as_terms(condition: str, left: Term, right: Term) -> None:
    assert Comparison("=", left, right) in read(condition).comparisons


@pytest.mark.parametrize(
    ("condition", "term"),
    [
        ("(storage.foldername(name))[1] = 'a'", Folder(OBJECTS, "name", 1)),
        ("split_part(name, '/', 2) = 'a'", Folder(OBJECTS, "name", 2)),
        ("path_tokens[3] = 'a'", Folder(OBJECTS, "name", 3)),
        ("cardinality(path_tokens) = 4", Depth(OBJECTS, "name", 1)),
        (
            "array_length(storage.foldername(name), 1) = 2",
            Depth(OBJECTS, "name", 0),
        ),
    ],
)
def test_path_of_an_object_is_read_as_folders(condition: str, term: Term) -> None:
    objects = table("x", column("name"), column("path_tokens", "text[]"))
    storage = {OBJECTS: objects}
    reading = read_condition(
        condition, OBJECTS, catalog().__class__(relations={**storage})
    )
    assert term in [comparison.left for comparison in reading.comparisons]


def test_topic_put_together_from_the_caller_is_read() -> None:
    reading = read("realtime.topic() = 'user_' || auth.uid()::text")
    assert reading.comparisons == [
        Comparison("=", Topic(), Joined((Const(("user_",)), UID)))
    ]


def test_helper_is_followed_with_its_arguments() -> None:
    reading = read("public.is_member(org_id)")
    assert (
        Comparison("=", Col(MEMBERS, "org_id"), Col(NOTES, "org_id"))
        in reading.comparisons
    )
    assert Comparison("=", Col(MEMBERS, "user_id"), UID) in reading.comparisons
    assert reading.caller
    assert MEMBERS in reading.reads


def test_column_inside_a_subquery_belongs_to_the_nearest_table() -> None:
    reading = read("exists (select 1 from public.members where org_id = org_id)")
    column = Col(MEMBERS, "org_id")
    assert reading.comparisons == [Comparison("=", column, column)]


def test_boolean_column_is_a_truth_test() -> None:
    operators = [c.operator for c in read("shared").comparisons]
    assert operators == ["is true"]


def test_unreadable_condition_reads_as_nothing() -> None:
    assert read("this is not sql (").comparisons == []


def test_coalesce_of_claims_is_compared_as_each_of_them() -> None:
    text = (
        "id = coalesce(auth.jwt() -> 'app_metadata' ->> 'org',"
        " auth.jwt() -> 'user_metadata' ->> 'org')::uuid"
    )
    reading = read_condition(text, NOTES, CATALOG)
    claims = {c.right for c in reading.comparisons if isinstance(c.right, Claim)}
    assert claims == {Claim(("app_metadata", "org")), Claim(("user_metadata", "org"))}
