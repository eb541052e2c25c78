"""``auth.audit_log_entries``: who did what, as the official service writes it down.

An entry is written in the transaction of what it tells of, so that neither is there
without the other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from harness.servers.auth.users import NO_INSTANCE, Connection, User

__all__ = ["Actor", "admin_of", "record", "traits_of"]

# What each action is filed under.
LOG_TYPES: Final = {
    "login": "account",
    "logout": "account",
    "token_refreshed": "token",
    "token_revoked": "token",
    "user_confirmation_requested": "user",
    "user_deleted": "team",
    "user_modified": "user",
    "user_repeated_signup": "user",
    "user_signedup": "team",
    "user_updated_password": "user",
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user, or the role of a token that is nobody's."""

    id: uuid.UUID
    username: str
    name: object = None

    @classmethod
    def of(cls, user: User) -> Actor:
        """Return a user as an actor."""
        name = user.user_metadata.get("full_name")
        return cls(user.id, user.phone or user.email, name)


def admin_of(claims: Mapping[str, Any]) -> Actor:
    """Return who acts with a token of the service role."""
    return Actor(NO_INSTANCE, str(claims.get("role") or ""))


def traits_of(user: User, **more: str) -> dict[str, str]:
    """Return what an entry about somebody else says of them."""
    return {
        **more,
        "user_id": str(user.id),
        "user_email": user.email,
        "user_phone": user.phone,
    }


async def record(
    connection: Connection,
    actor: Actor,
    action: str,
    now: datetime,
    traits: Mapping[str, str] | None = None,
) -> None:
    """Write an entry."""
    payload: dict[str, Any] = {
        "action": action,
        "actor_id": str(actor.id),
        "actor_username": actor.username,
        "actor_via_sso": False,
        "log_type": LOG_TYPES[action],
    }
    if actor.name is not None:
        payload["actor_name"] = actor.name
    if traits:
        payload["traits"] = dict(traits)
    await connection.execute(
        "insert into auth.audit_log_entries (instance_id, id, payload, created_at) "
        "values ($1, $2, $3, $4)",
        NO_INSTANCE,
        uuid.uuid4(),
        orjson.dumps(payload).decode(),
        now,
    )
