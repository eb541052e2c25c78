"""Whose rows are whose, inferred from small catalogues."""

from __future__ import annotations

import pytest

from harness.db.catalog import Name, UniqueKey
from harness.policies.mining import mine
from harness.policies.ownership import Attribute, Ownership, Part, infer_ownership
from tests.unit.policies.catalogs import (
    catalog,
    column,
    policy,
    references,
    sql_function,
    table,
)

IS_MEMBER = sql_function(
    "is_member",
    "select exists (select 1 from public.members m"
    " where m.org_id = org and m.user_id = auth.uid())",
    "org",
)
ORGS = table("orgs", column("id", "uuid"), policies=(policy("orgs", "true"),))
MEMBERS = table(
    "members",
    column("org_id", "uuid"),
    column("user_id", "uuid"),
    column("role"),
    keys=(references("org_id", "public.orgs"), references("user_id", "auth.users")),
)
NOTES = table(
    "notes",
    column("id", "uuid"),
    column("org_id", "uuid"),
    column("author_id", "uuid"),
    column("reviewer_id", "uuid"),
    keys=(
        references("org_id", "public.orgs"),
        references("author_id", "auth.users"),
        references("reviewer_id", "auth.users"),
    ),
    policies=(policy("notes", "public.is_member(org_id)"),),
)


def infer(*relations, corrections=None, functions=(IS_MEMBER,)) -> Ownership:  # type: ignore[no-untyped-def]
    found = catalog(*relations, functions=functions)
    return infer_ownership(found, mine(found), corrections)


@pytest.mark.parametrize(
    ("column_name", "part"),
    [("author_id", Part.OWNER), ("reviewer_id", Part.REFERENCE), ("org_id", None)],
)
def test_user_column_has_its_part(column_name: str, part: Part | None) -> None:
    ownership = infer(ORGS, MEMBERS, NOTES)
    assert ownership.of(NOTES.name).part_of(column_name) is part


def test_table_that_policies_look_memberships_up_in_holds_members() -> None:
    owned = infer(ORGS, MEMBERS, NOTES).of(MEMBERS.name)
    assert owned.membership
    assert owned.part_of("user_id") is Part.MEMBER


def test_correction_wins_over_inference() -> None:
    corrections = {
        "public.notes.reviewer_id": "owner",
        "public.notes.author_id": "none",
    }
    owned = infer(ORGS, MEMBERS, NOTES, corrections=corrections).of(NOTES.name)
    assert owned.owners == ("reviewer_id",)


def test_role_table_is_an_attribute_of_its_users() -> None:
    roles = table(
        "user_roles",
        column("user_id", "uuid"),
        column("role"),
        keys=(references("user_id", "auth.users"),),
        unique=(UniqueKey("one", ("user_id", "role")),),
    )
    has_role = sql_function(
        "is_admin",
        "select exists (select 1 from public.user_roles"
        " where user_id = auth.uid() and role = 'admin')",
    )
    posts = table(
        "posts", column("id", "uuid"), policies=(policy("posts", "public.is_admin()"),)
    )
    ownership = infer(roles, posts, functions=(has_role,))
    assert ownership.attributes == (
        Attribute(roles.name, "user_id", "role", ("admin",)),
    )


def test_table_whose_rows_grant_powers_is_an_attribute() -> None:
    admins = table(
        "admins", column("user_id", "uuid"), keys=(references("user_id", "auth.users"),)
    )
    exists = "exists (select 1 from public.admins a where a.user_id = auth.uid())"
    posts = table("posts", column("id", "uuid"), policies=(policy("posts", exists),))
    (attribute,) = infer(admins, posts, functions=()).attributes
    assert attribute.is_row
    assert attribute.table == Name("public", "admins")


def test_description_names_every_table() -> None:
    lines = infer(ORGS, MEMBERS, NOTES).describe()
    assert any(
        "public.notes: " in line and "author_id is the owner" in line for line in lines
    )
    assert "public.orgs: nobody owns a row" in lines
