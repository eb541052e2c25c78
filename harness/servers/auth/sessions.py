"""Sessions and their refresh tokens: begun, rotated, reused, ended.

A refresh token is good once.  A client that lost the answer may come back with the
token before the current one and gets the current one again; any older token, outside
the reuse interval, ends the whole family, for somebody else has a copy.
"""

from __future__ import annotations

import secrets
import string
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from harness.servers.auth.refusals import Refusal
from harness.servers.auth.settings import AuthSettings
from harness.servers.auth.users import Connection

__all__ = [
    "AuthMethod",
    "Device",
    "Session",
    "begin_session",
    "end_sessions",
    "find_session",
    "refresh_session",
]

TOKEN_ALPHABET = string.ascii_lowercase + string.digits
TOKEN_LENGTH = 22  # 113 bits
NO_INSTANCE = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Device:
    """What a request says of where it comes from."""

    user_agent: str
    address: str | None


@dataclass(frozen=True, slots=True)
class AuthMethod:
    """One way in which a session was authenticated, and when (Unix seconds)."""

    method: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a user with its current refresh token ('' when only looked up)."""

    id: uuid.UUID
    user_id: uuid.UUID
    aal: str
    methods: tuple[AuthMethod, ...]
    refresh_token: str = ""
    rotated: bool = False


async def begin_session(
    connection: Connection,
    user_id: uuid.UUID,
    method: str,
    device: Device,
    now: datetime,
) -> Session:
    """Sign the user in on a new session."""
    session_id, token = uuid.uuid4(), _fresh_token()
    await connection.execute(
        """
        with session as (
            insert into auth.sessions
                (id, user_id, created_at, updated_at, aal, user_agent, ip)
            values ($1, $2, $3, $3, 'aal1', $4, $5::text::inet)
        ), method as (
            insert into auth.mfa_amr_claims
                (id, session_id, created_at, updated_at, authentication_method)
            values (gen_random_uuid(), $1, $3, $3, $6)
        ), token as (
            insert into auth.refresh_tokens
                (instance_id, token, user_id, revoked, created_at, updated_at,
                session_id)
            values ($7, $8, $2::uuid::text, false, $3, $3, $1)
        ), identity as (
            update auth.identities set last_sign_in_at = $3, updated_at = $3
            where user_id = $2
        )
        update auth.users set last_sign_in_at = $3, updated_at = $3 where id = $2
        """,
        session_id,
        user_id,
        now,
        device.user_agent,
        device.address,
        method,
        NO_INSTANCE,
        token,
    )
    methods = (AuthMethod(method, int(now.timestamp())),)
    return Session(session_id, user_id, "aal1", methods, token)


async def find_session(connection: Connection, session_id: uuid.UUID) -> Session | None:
    """Return the session of that id, without a refresh token."""
    row = await connection.fetchrow(
        "select id, user_id, coalesce(aal::text, 'aal1') as aal from auth.sessions "
        "where id = $1",
        session_id,
    )
    return None if row is None else await _session(connection, row)


async def end_sessions(
    connection: Connection,
    user_id: uuid.UUID,
    *,
    only: uuid.UUID | None = None,
    keep: uuid.UUID | None = None,
) -> None:
    """End the user's sessions: all, ``only`` that one, or all but ``keep``."""
    await connection.execute(
        """
        delete from auth.sessions
        where user_id = $1
            and ($2::uuid is null or id = $2) and ($3::uuid is null or id <> $3)
        """,
        user_id,
        only,
        keep,
    )


async def refresh_session(
    connection: Connection,
    token: str,
    settings: AuthSettings,
    device: Device,
    now: datetime,
) -> Session | Refusal:
    """Trade a refresh token for the next one; a refusal is returned, not raised.

    What a refusal changes (a family revoked) must be committed with it, hence the
    value.  The session's row is locked, so that two who come with the same token at
    once are served one after the other.
    """
    row = await connection.fetchrow(
        """
        select s.id, s.user_id, coalesce(s.aal::text, 'aal1') as aal, s.not_after
        from auth.sessions s
        where s.id = (select session_id from auth.refresh_tokens where token = $1)
        for update
        """,
        token,
    )
    given = await connection.fetchrow(
        "select id, token, revoked, updated_at, session_id from auth.refresh_tokens "
        "where token = $1",
        token,
    )
    if given is None:
        return _invalid("refresh_token_not_found", "Refresh Token Not Found")
    if row is None:
        return _invalid("session_not_found", "No Valid Session Found")
    if row["not_after"] is not None and row["not_after"] <= now:
        return _invalid("session_expired", "Session Expired")
    current = token
    if given["revoked"]:
        active = await _active_token(connection, row["id"])
        if active is not None and active["parent"] == token:
            return await _session(connection, row, active["token"])
        # Without an active token the family was revoked: the interval helps no more.
        if active is None or now > given["updated_at"] + timedelta(
            seconds=settings.refresh_token_reuse_interval_s
        ):
            if settings.refresh_token_rotation:
                await _revoke_family(connection, row["id"], now)
            return _invalid("refresh_token_already_used", "Already Used")
    fresh = await _swap(connection, row, current, device, now)
    return replace(await _session(connection, row, fresh), rotated=True)


async def _active_token(connection: Connection, session_id: uuid.UUID) -> Any:
    return await connection.fetchrow(
        "select token, parent from auth.refresh_tokens "
        "where session_id = $1 and not revoked order by id desc limit 1",
        session_id,
    )


async def _revoke_family(
    connection: Connection, session_id: uuid.UUID, now: datetime
) -> None:
    await connection.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = $2 "
        "where session_id = $1 and not revoked",
        session_id,
        now,
    )


async def _swap(
    connection: Connection, row: Any, token: str, device: Device, now: datetime
) -> str:
    fresh = _fresh_token()
    await connection.execute(
        """
        with old as (
            update auth.refresh_tokens set revoked = true, updated_at = $4
            where token = $1 and not revoked
        ), session as (
            update auth.sessions
            set refreshed_at = $4 at time zone 'utc', updated_at = $4,
                user_agent = $5, ip = $6::text::inet
            where id = $3
        )
        insert into auth.refresh_tokens (instance_id, token, user_id, revoked,
            created_at, updated_at, parent, session_id)
        values ($7, $2, $8::uuid::text, false, $4, $4, $1, $3)
        """,
        token,
        fresh,
        row["id"],
        now,
        device.user_agent,
        device.address,
        NO_INSTANCE,
        row["user_id"],
    )
    return fresh


async def _session(connection: Connection, row: Any, token: str = "") -> Session:
    methods = await connection.fetch(
        "select authentication_method, updated_at from auth.mfa_amr_claims "
        "where session_id = $1 order by updated_at desc",
        row["id"],
    )
    return Session(
        uuid.UUID(int=row["id"].int),
        uuid.UUID(int=row["user_id"].int),
        row["aal"],
        tuple(AuthMethod(m[0], int(m[1].timestamp())) for m in methods),
        token,
    )


def _fresh_token() -> str:
    return "".join(secrets.choice(TOKEN_ALPHABET) for _ in range(TOKEN_LENGTH))


def _invalid(code: str, why: str) -> Refusal:
    return Refusal(400, code, f"Invalid Refresh Token: {why}")
