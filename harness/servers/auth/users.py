"""Users as rows of ``auth.users`` and ``auth.identities``, and as JSON."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson
from asyncpg import Record
from asyncpg.pool import PoolConnectionProxy

__all__ = [
    "NO_INSTANCE",
    "Connection",
    "NewUser",
    "User",
    "UserPage",
    "add_email_identity",
    "change_identity_email",
    "delete_user",
    "find_user",
    "find_user_by_email",
    "insert_user",
    "list_users",
    "lock_user",
    "merged",
    "soft_delete_user",
    "timestamp",
    "update_user",
]

Connection: TypeAlias = "PoolConnectionProxy[Record]"

NO_INSTANCE = uuid.UUID(int=0)

# Rows that a seed inserted may lack what the service always sets.
USER_COLUMNS = """
    u.id, coalesce(nullif(u.aud, ''), 'authenticated') as aud,
    coalesce(nullif(u.role, ''), 'authenticated') as role, u.email, u.phone,
    u.encrypted_password, u.email_confirmed_at, u.phone_confirmed_at, u.confirmed_at,
    u.last_sign_in_at, u.raw_app_meta_data, u.raw_user_meta_data, u.created_at,
    u.updated_at, u.banned_until, u.deleted_at, u.is_anonymous,
    (
        select json_agg(i order by i.created_at, i.id)
        from auth.identities i where i.user_id = u.id
    ) as identities
"""
UPDATABLE = frozenset(
    {
        "email",
        "encrypted_password",
        "email_confirmed_at",
        "phone",
        "phone_confirmed_at",
        "raw_app_meta_data",
        "raw_user_meta_data",
        "role",
        "banned_until",
        "is_anonymous",
    }
)
JSON_COLUMNS = frozenset({"raw_app_meta_data", "raw_user_meta_data"})


@dataclass(frozen=True, slots=True)
class User:
    """A row of ``auth.users`` with its identities."""

    row: Mapping[str, Any]
    app_metadata: Mapping[str, Any]
    user_metadata: Mapping[str, Any]
    identities: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> User:
        """Read a row of ``USER_COLUMNS``."""
        return cls(
            row,
            _loaded(row["raw_app_meta_data"], {}),
            _loaded(row["raw_user_meta_data"], {}),
            _loaded(row["identities"], []),
        )

    @property
    def id(self) -> uuid.UUID:
        """The user's id, ``sub`` of their tokens."""
        # asyncpg has a UUID class of its own, which orjson does not know.
        return uuid.UUID(int=self.row["id"].int)

    @property
    def email(self) -> str:
        """The e-mail address, '' without one."""
        return self.row["email"] or ""

    @property
    def phone(self) -> str:
        """The phone number, '' without one."""
        return self.row["phone"] or ""

    @property
    def is_anonymous(self) -> bool:
        """Whether they signed in without credentials."""
        return bool(self.row["is_anonymous"])

    def is_banned(self, now: datetime) -> bool:
        """Tell whether a ban holds at ``now``."""
        until = self.row["banned_until"]
        return until is not None and until > now

    def to_json(self) -> dict[str, Any]:
        """Return the user as the service shows them."""
        row = self.row
        shown = {
            "id": str(self.id),
            "aud": row["aud"],
            "role": row["role"],
            "email": self.email,
            "email_confirmed_at": timestamp(row["email_confirmed_at"]),
            "phone": self.phone,
            "phone_confirmed_at": timestamp(row["phone_confirmed_at"]),
            "confirmed_at": timestamp(row["confirmed_at"]),
            "last_sign_in_at": timestamp(row["last_sign_in_at"]),
            "app_metadata": self.app_metadata,
            "user_metadata": self.user_metadata,
            "identities": [_identity_json(each) for each in self.identities],
            "created_at": timestamp(row["created_at"]),
            "updated_at": timestamp(row["updated_at"]),
            "banned_until": timestamp(row["banned_until"]),
            "deleted_at": timestamp(row["deleted_at"]),
            "is_anonymous": self.is_anonymous,
        }
        return {name: value for name, value in shown.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """Somebody to be inserted."""

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    email: str | None = None
    phone: str | None = None
    role: str = "authenticated"
    encrypted_password: str = ""
    email_confirmed: bool = False
    phone_confirmed: bool = False
    app_metadata: Mapping[str, Any] = field(default_factory=dict)
    user_metadata: Mapping[str, Any] = field(default_factory=dict)
    banned_until: datetime | None = None
    is_anonymous: bool = False


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of users and how many there are altogether."""

    users: Sequence[User]
    total: int


async def find_user(connection: Connection, user_id: uuid.UUID) -> User | None:
    """Return the user of that id."""
    row = await connection.fetchrow(
        f"select {USER_COLUMNS} from auth.users u where u.id = $1", user_id
    )
    return None if row is None else User.of(row)


async def lock_user(connection: Connection, user_id: uuid.UUID) -> User | None:
    """Return the user, whom nobody else changes before this transaction ends."""
    row = await connection.fetchrow(
        f"select {USER_COLUMNS} from auth.users u where u.id = $1 "
        "for no key update of u",
        user_id,
    )
    return None if row is None else User.of(row)


async def find_user_by_email(connection: Connection, email: str) -> User | None:
    """Return the user of that (lower-case) address; single sign-on is apart."""
    row = await connection.fetchrow(
        f"select {USER_COLUMNS} from auth.users u "
        "where lower(u.email) = $1 and not u.is_sso_user and u.deleted_at is null",
        email,
    )
    return None if row is None else User.of(row)


async def insert_user(connection: Connection, new: NewUser, now: datetime) -> None:
    """Insert ``new``; raises asyncpg's UniqueViolationError for a taken address."""
    await connection.execute(
        """
        insert into auth.users (
            instance_id, id, aud, role, email, phone, encrypted_password,
            email_confirmed_at, phone_confirmed_at, raw_app_meta_data,
            raw_user_meta_data, banned_until, is_anonymous, created_at, updated_at,
            confirmation_token, recovery_token, email_change_token_new, email_change
        ) values (
            $1, $2, 'authenticated', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
            $13, '', '', '', ''
        )
        """,
        NO_INSTANCE,
        new.id,
        new.role,
        new.email,
        new.phone,
        new.encrypted_password,
        now if new.email_confirmed else None,
        now if new.phone_confirmed else None,
        _dumped(new.app_metadata),
        _dumped(new.user_metadata),
        new.banned_until,
        new.is_anonymous,
        now,
    )


async def add_email_identity(
    connection: Connection,
    user_id: uuid.UUID,
    identity_data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Give the user the identity of somebody who signs in by e-mail address."""
    await connection.execute(
        """
        insert into auth.identities (provider_id, user_id, identity_data, provider,
            last_sign_in_at, created_at, updated_at)
        values ($1, $2, $3, 'email', $4, $4, $4)
        on conflict (provider_id, provider) do nothing
        """,
        str(user_id),
        user_id,
        _dumped(identity_data),
        now,
    )


async def change_identity_email(
    connection: Connection, user_id: uuid.UUID, email: str, now: datetime
) -> None:
    """Let the e-mail identity carry the new address."""
    await connection.execute(
        """
        update auth.identities
        set identity_data = identity_data
                || jsonb_build_object('email', $2::text, 'email_verified', true),
            updated_at = $3
        where user_id = $1 and provider = 'email'
        """,
        user_id,
        email,
        now,
    )


async def update_user(
    connection: Connection,
    user_id: uuid.UUID,
    changes: Mapping[str, Any],
    now: datetime,
) -> None:
    """Set columns of the user, whose names are of :data:`UPDATABLE`."""
    assert changes.keys() <= UPDATABLE
    values = [
        _dumped(value) if name in JSON_COLUMNS else value
        for name, value in changes.items()
    ]
    sets = "".join(f", {name} = ${place}" for place, name in enumerate(changes, 3))
    await connection.execute(
        f"update auth.users set updated_at = $2{sets} where id = $1",
        user_id,
        now,
        *values,
    )


async def list_users(
    connection: Connection, *, page: int, per_page: int, matching: str
) -> UserPage:
    """Return a page, newest first; ``matching`` is part of an address or name."""
    where = """
        where $1 = '' or strpos(lower(u.email), lower($1)) > 0
            or strpos(lower(u.raw_user_meta_data ->> 'full_name'), lower($1)) > 0
    """
    total = await connection.fetchval(
        f"select count(*) from auth.users u {where}", matching
    )
    rows = await connection.fetch(
        f"select {USER_COLUMNS} from auth.users u {where} "
        "order by u.created_at desc nulls last, u.id limit $2 offset $3",
        matching,
        per_page,
        (page - 1) * per_page,
    )
    return UserPage([User.of(row) for row in rows], total)


async def delete_user(connection: Connection, user_id: uuid.UUID) -> None:
    """Delete the user and, by foreign keys, what hangs on them."""
    await connection.execute("delete from auth.users where id = $1", user_id)


async def soft_delete_user(connection: Connection, user: User, now: datetime) -> None:
    """Keep the row but nothing that says who it was or lets them in."""
    await connection.execute(
        """
        update auth.users
        set email = $2, phone = $3, encrypted_password = '', raw_app_meta_data = '{}',
            raw_user_meta_data = '{}', confirmation_token = '', recovery_token = '',
            email_change = '', email_change_token_new = '',
            email_change_token_current = '', phone_change = '', phone_change_token = '',
            reauthentication_token = '', deleted_at = $4, updated_at = $4
        where id = $1
        """,
        user.id,
        _obscured(user.id, user.email) if user.email else None,
        _obscured(user.id, user.phone) if user.phone else None,
        now,
    )
    await connection.execute(
        """
        update auth.identities set identity_data = '{}', updated_at = $2,
            provider_id = encode(sha256(convert_to(provider_id, 'utf8')), 'hex')
        where user_id = $1
        """,
        user.id,
        now,
    )
    await connection.execute("delete from auth.sessions where user_id = $1", user.id)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with the members of ``new``; a null removes one."""
    both = {**old, **new}
    return {name: value for name, value in both.items() if value is not None}


def timestamp(value: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, without idle zeros, as the service does."""
    if value is None:
        return None
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def _identity_json(identity: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        name: timestamp(datetime.fromisoformat(identity[name]))
        for name in ("last_sign_in_at", "created_at", "updated_at")
        if identity[name] is not None
    }
    return {
        "identity_id": identity["id"],
        "id": identity["provider_id"],
        "user_id": identity["user_id"],
        "identity_data": identity["identity_data"],
        "provider": identity["provider"],
        **times,
        "email": identity["email"] or "",
    }


def _loaded(text: str | None, default: Any) -> Any:
    # A JSON null counts as missing.
    return default if text is None else orjson.loads(text) or default


def _dumped(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _obscured(user_id: uuid.UUID, text: str) -> str:
    digest = hashlib.sha256(f"{user_id}{text}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
