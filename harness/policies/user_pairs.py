"""Rows that tie two users to each other: a block, a follow, a friendship."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.db.catalog import Name, Relation
from harness.policies.kept_apart import agree
from harness.policies.ownership import TableOwnership
from harness.policies.personas import User
from harness.policies.table_order import BARRING_NAME

__all__ = ["named_members", "parted", "tied"]


def named_members(table: Name, users: list[User]) -> list[User]:
    """Return whom a table of members names: all, or one of those that it bars.

    Not everybody may be banned, or "is not banned" were never true.
    """
    return users[1:][-1:] if BARRING_NAME.search(table.name) else users


def tied(owned: TableOwnership, users: Sequence[str]) -> list[tuple[str, str]]:
    """Return who is tied to whom, each pair in another state.

    Not everybody is tied to everybody, or "is not blocked" were never true; and who
    blocks somebody is not who follows them.
    """
    pairs = list(combinations(users, 2))
    if len(pairs) < 2:
        return pairs or [(user, user) for user in users[:1]]
    if BARRING_NAME.search(owned.table.name):
        return pairs[-1:]
    return [*pairs[:-1], *((b, a) for a, b in pairs[:-1])]


def parted(
    relation: Relation, owned: TableOwnership, user: str, users: Sequence[str]
) -> list[dict[str, str | None]]:
    """Return who owns rows with ``user`` where a table has several owner columns.

    Who excuses a pupil is not the pupil, though both columns name the caller somewhere.
    """
    others = [other for other in users if other != user]
    alike: dict[str, str | None] = dict.fromkeys(owned.owners, user)
    if len(owned.owners) < 2 or not others or not agree(relation, alike):
        return []
    return [
        {column: user if column == own else others[0] for column in owned.owners}
        for own in owned.owners
    ]
