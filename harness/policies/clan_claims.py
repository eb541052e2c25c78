"""The claims that tie a clan's users to their tenant, as their tokens carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from harness.db.catalog import Name
from harness.policies.comparisons import Col
from harness.policies.mining import Mined
from harness.policies.personas import Cast, User, persona_of

__all__ = ["cast_with_claims"]

OWN_CLAIMS = ("sub", "role", "email")
FORGER_ID = "3a110000-0000-4000-8000-000000000000"


class PlannedRow(Protocol):
    """What is needed of a planned row."""

    @property
    def clan(self) -> str:
        """The clan that the row belongs to."""
        ...

    @property
    def values(self) -> Mapping[str, str | None]:
        """The row's values."""
        ...


def cast_with_claims(
    cast: Cast, mined: Mined, rows: Mapping[Name, Sequence[PlannedRow]]
) -> Cast:
    """Give every clan's users the claims that policies compare with columns.

    If one of them is in user_metadata, which users write themselves, somebody who
    forges it joins the cast.
    """
    users = []
    for user in cast.users:
        for path, cols in sorted(mined.claim_columns.items()):
            value = _value(rows, user.clan, sorted(cols, key=str))
            if path and path[0] not in OWN_CLAIMS and value is not None:
                user = _with_claim(user, path, value)
        users.append(user)
    users += _forgers(users)
    personas = [p for p in cast.personas if p.user is None]
    acting = (*personas[:1], *map(persona_of, users), *personas[1:])
    return Cast(tuple(users), acting)


def _value(
    rows: Mapping[Name, Sequence[PlannedRow]], clan: str, cols: Sequence[Col]
) -> str | None:
    return next(
        (
            value
            for col in cols
            if col.column not in ("email", "role")
            for row in rows.get(col.table, ())
            if clan and row.clan == clan and (value := row.values.get(col.column))
        ),
        None,
    )


def _forgers(users: Sequence[User]) -> list[User]:
    """Return a stranger who wrote another clan's claim into their user_metadata."""
    lead = next(user for user in users if user.lead)
    if not lead.user_metadata:
        return []
    return [
        User(
            name="mallory",
            id=FORGER_ID,
            clan="mallory",
            rows=False,
            ghost=True,
            user_metadata=lead.user_metadata,
        )
    ]


def _with_claim(user: User, path: tuple[str, ...], value: str) -> User:
    head, *steps = path
    nested: Any = value
    for step in reversed(steps):
        nested = {step: nested}
    if head == "app_metadata" and steps:
        return replace(user, app_metadata={**user.app_metadata, **nested})
    if head == "user_metadata" and steps:
        return replace(user, user_metadata={**user.user_metadata, **nested})
    return replace(user, claims={**user.claims, head: nested})
