"""What a change reaches: all that uses it by name, and no more where words can tell."""

from __future__ import annotations

import pytest

from harness.policies.diff_reach import EVERYTHING, Definitions, reach_of

NOTES, HELPER = "policy using public.is_member(team_id)", "select from public.members"
Fact = tuple[str, str, str]
BASE: tuple[Fact, ...] = (
    ("notes", "source", NOTES),
    ("notes", "body", "team_id uuid"),
    ("is_member", "source", HELPER),
    ("members", "text", "public r postgres"),
    ("members", "body", "user_id uuid"),
    ("members", "mute", "FOREIGN KEY (user_id) REFERENCES auth.users(id)"),
    ("users", "cascade", "members"),
    ("users", "body", "id uuid"),
    ("files", "text", "public r postgres"),
)


def definitions(*facts: Fact, without: Fact | None = None) -> Definitions:
    """Return BASE with more facts or less."""
    found = Definitions()
    for fact in (*BASE, *facts):
        if fact != without:
            found.add(*fact)
    return found


def reached(*facts: Fact, without: Fact | None = None) -> set[str]:
    """Return the names that a change of BASE reaches."""
    reach = reach_of(definitions(), definitions(*facts, without=without))
    assert not reach.total
    return {n for n in ("notes", "is_member", "members", "users", "files")
            if reach.includes(n)}  # fmt: skip


def test_no_change_reaches_nothing() -> None:
    assert reach_of(definitions(), definitions()).empty


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        pytest.param(("files", "source", "policy"), {"files"}, id="alone"),
        pytest.param(("notes", "source", "policy"), {"notes"}, id="policy at the end"),
        pytest.param(
            ("is_member", "text", "acl"), {"is_member", "notes"}, id="helper and user"
        ),
        pytest.param(
            ("members", "source", "policy"),
            {"members", "is_member", "notes"},
            id="table that a helper reads",
        ),
        pytest.param(
            ("members", "body", "trigger"),
            {"members", "is_member", "notes", "users"},
            id="trigger that a deleted parent fires",
        ),
        pytest.param(
            ("users", "text", "policy"), {"users"}, id="policy of a referenced table"
        ),
        pytest.param(
            ("Is Member", "text", "quoted"), set(), id="name that nobody uses"
        ),
    ],
)
def test_change_reaches_what_uses_it(fact: Fact, expected: set[str]) -> None:
    assert reached(fact) == expected


def test_removal_reaches_as_an_addition_does() -> None:
    assert reached(without=("is_member", "source", HELPER)) == {"is_member", "notes"}


def test_order_of_facts_is_no_difference() -> None:
    shuffled = Definitions()
    for fact in reversed(BASE):
        shuffled.add(*fact)
    assert reach_of(definitions(), shuffled).empty


@pytest.mark.parametrize(
    "source",
    [
        "begin execute format('select 1 from %I', t); end",
        "select has_table_privilege('public.members', 'select')",
        "select count(*) from pg_policies",
        "select query_to_xml('select 1', true, true, '')",
    ],
)
def test_dynamic_look_up_is_reached_by_every_change(source: str) -> None:
    audit: Fact = ("audit", "source", source)
    reach = reach_of(
        definitions(audit), definitions(audit, ("files", "text", "policy"))
    )
    assert reach.includes("audit")
    assert reach.includes("files")
    assert not reach.includes("notes")


def test_other_language_is_reached_by_every_change() -> None:
    code: Fact = ("score", "opaque", "return 1")
    reach = reach_of(definitions(code), definitions(code, ("files", "text", "policy")))
    assert reach.includes("score")


def test_forced_policies_bind_foreign_keys() -> None:
    forced: Fact = ("members", "forced", "")
    reach = reach_of(
        definitions(forced), definitions(forced, ("members", "source", "policy"))
    )
    assert reach.includes("users")


def test_setting_reaches_everything() -> None:
    reach = reach_of(definitions(), definitions((EVERYTHING, "text", "setting")))
    assert reach.total
    assert reach.includes("anything")
