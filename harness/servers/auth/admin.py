"""``/admin/users``: what the service role may do with everybody's account."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from harness.servers.auth.audit import admin_of, record, traits_of
from harness.servers.auth.context import AuthContext, answer
from harness.servers.auth.parameters import (
    Parameters,
    ban_duration,
    email_address,
    user_id,
)
from harness.servers.auth.passwords import is_hash, require_short, require_strong
from harness.servers.auth.refusals import Refusal, email_taken
from harness.servers.auth.sessions import end_sessions
from harness.servers.auth.sign_in import EMAIL_PROVIDER, email_identity
from harness.servers.auth.users import (
    Connection,
    NewUser,
    User,
    UserPage,
    add_email_identity,
    change_identity_email,
    delete_user,
    find_user,
    find_user_by_email,
    insert_user,
    list_users,
    lock_user,
    merged,
    soft_delete_user,
    update_user,
)

__all__ = ["create", "index", "read", "remove", "write"]

PER_PAGE = 50
PAGE_LIMIT = 2**31 - 1
PER_PAGE_LIMIT = 1000


async def index(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``GET /admin/users``: a page of users, newest first."""
    context.require_admin(request)
    page = _positive(request, "page", 1, PAGE_LIMIT)
    per_page = _positive(request, "per_page", PER_PAGE, PER_PAGE_LIMIT)
    matching = request.query.get("filter", "").replace("\0", "")
    async with context.transaction() as connection:
        listed = await list_users(
            connection, page=page, per_page=per_page, matching=matching
        )
    body = {
        "users": [user.to_json() for user in listed.users],
        "aud": "authenticated",
    }
    return answer(body, headers=_paging(request, listed, page, per_page))


async def create(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``POST /admin/users``: a user as described, confirmed if so wished."""
    admin = admin_of(context.require_admin(request))
    asked = await Parameters.of(request)
    new = await _described(context, asked)
    now = context.now()
    async with context.transaction() as connection:
        if new.email and await find_user_by_email(connection, new.email):
            raise email_taken()
        await insert_user(connection, new, now)
        if new.email:
            identity = email_identity(new.id, new.email, confirmed=new.email_confirmed)
            await add_email_identity(connection, new.id, identity, now)
        user = await _found(connection, new.id)
        traits = traits_of(user, provider="email" if new.email else "phone")
        await record(connection, admin, "user_signedup", now, traits)
        return answer(user.to_json())


async def read(
    context: AuthContext, request: web.BaseRequest, name: str
) -> web.Response:
    """``GET /admin/users/{id}``."""
    context.require_admin(request)
    async with context.transaction() as connection:
        return answer((await _found(connection, user_id(name))).to_json())


async def write(
    context: AuthContext, request: web.BaseRequest, name: str
) -> web.Response:
    """``PUT /admin/users/{id}``: change what is given, leave the rest."""
    admin = admin_of(context.require_admin(request))
    asked = await Parameters.of(request)
    now = context.now()
    async with context.transaction() as connection:
        user = await _found(connection, user_id(name))
    changes = await _changes(context, asked, now)
    async with context.transaction() as connection:
        user = _known(await lock_user(connection, user.id))
        changes |= _merged_metadata(user, asked)
        await update_user(connection, user.id, changes, now)
        if "email" in changes:
            await _carry_email(connection, user, changes["email"], now)
        if "encrypted_password" in changes:
            await end_sessions(connection, user.id)
        changed = await _found(connection, user.id)
        await record(connection, admin, "user_modified", now, traits_of(changed))
        return answer(changed.to_json())


async def remove(
    context: AuthContext, request: web.BaseRequest, name: str
) -> web.Response:
    """``DELETE /admin/users/{id}``: the row goes, or only what it says."""
    admin = admin_of(context.require_admin(request))
    asked = await Parameters.of(request)
    async with context.transaction() as connection:
        user = await _found(connection, user_id(name))
        now, traits = context.now(), traits_of(user)
        await record(connection, admin, "user_deleted", now, traits)
        if asked.flag("should_soft_delete"):
            await soft_delete_user(connection, user, context.now())
        else:
            await delete_user(connection, user.id)
    return answer({})


async def _described(context: AuthContext, asked: Parameters) -> NewUser:
    email, phone = asked.text("email"), asked.text("phone").lstrip("+")
    if not (email or phone):
        raise Refusal(
            400,
            "validation_failed",
            "Cannot create a user without either an email or phone",
        )
    confirmed = asked.flag("email_confirm")
    metadata = asked.table("user_metadata") or {}
    provider = (
        EMAIL_PROVIDER if email else {"provider": "phone", "providers": ["phone"]}
    )
    return NewUser(
        id=_chosen_id(asked.text("id")),
        email=email_address(email) if email else None,
        phone=phone or None,
        role=asked.text("role") or "authenticated",
        encrypted_password=await _password_hash(context, asked),
        email_confirmed=bool(email) and confirmed,
        phone_confirmed=bool(phone) and asked.flag("phone_confirm"),
        app_metadata={**provider, **(asked.table("app_metadata") or {})},
        user_metadata={**metadata, "email_verified": True} if confirmed else metadata,
        banned_until=_banned_until(asked.text("ban_duration"), context.now()),
    )


async def _password_hash(context: AuthContext, asked: Parameters) -> str:
    given, hashed = asked.text("password"), asked.text("password_hash")
    if given and hashed:
        message = "Only a password or a password hash should be provided"
        raise Refusal(400, "validation_failed", message)
    if hashed:
        if not is_hash(hashed):
            message = "The password hash is not one of bcrypt"
            raise Refusal(400, "validation_failed", message)
        return hashed
    require_short(given)
    return await context.hasher.hash(given or secrets.token_urlsafe(48))


async def _changes(
    context: AuthContext, asked: Parameters, now: datetime
) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if email := asked.text("email"):
        changes["email"] = email_address(email)
    if phone := asked.text("phone").lstrip("+"):
        changes["phone"] = phone
    if password := asked.text("password"):
        require_strong(password, context.settings)
        changes["encrypted_password"] = await context.hasher.hash(password)
    elif "password_hash" in asked:
        changes["encrypted_password"] = await _password_hash(context, asked)
    if role := asked.text("role"):
        changes["role"] = role
    if asked.flag("email_confirm"):
        changes["email_confirmed_at"] = now
    if asked.flag("phone_confirm"):
        changes["phone_confirmed_at"] = now
    if duration := asked.text("ban_duration"):
        changes["banned_until"] = _banned_until(duration, now)
    return changes


def _merged_metadata(user: User, asked: Parameters) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if (app := asked.table("app_metadata")) is not None:
        changes["raw_app_meta_data"] = merged(user.app_metadata, app)
    if (data := asked.table("user_metadata")) is not None:
        changes["raw_user_meta_data"] = merged(user.user_metadata, data)
    return changes


async def _carry_email(
    connection: Connection, user: User, email: str, now: datetime
) -> None:
    if any(each["provider"] == "email" for each in user.identities):
        await change_identity_email(connection, user.id, email, now)
    else:
        identity = email_identity(user.id, email, confirmed=True)
        await add_email_identity(connection, user.id, identity, now)


async def _found(connection: Connection, wanted: uuid.UUID) -> User:
    return _known(await find_user(connection, wanted))


def _known(user: User | None) -> User:
    if user is None:
        raise Refusal(404, "user_not_found", "User not found")
    return user


def _chosen_id(given: str) -> uuid.UUID:
    if not given:
        return uuid.uuid4()
    try:
        chosen = uuid.UUID(given)
    except ValueError as exc:
        message = "ID must conform to the uuid v4 format"
        raise Refusal(400, "validation_failed", message) from exc
    if chosen.int == 0:
        raise Refusal(400, "validation_failed", "ID cannot be a nil uuid")
    return chosen


def _banned_until(duration: str, now: datetime) -> datetime | None:
    banned_for: timedelta | None = ban_duration(duration) if duration else None
    return now + banned_for if banned_for else None


def _positive(request: web.BaseRequest, name: str, default: int, most: int) -> int:
    given = request.query.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdigit()) or int(given) == 0:
        message = f"Bad Pagination Parameters: {name} is not a positive number"
        raise Refusal(400, "validation_failed", message)
    return min(int(given), most)


def _paging(
    request: web.BaseRequest, listed: UserPage, page: int, per_page: int
) -> dict[str, str]:
    path = request.path
    last = max(1, -(-listed.total // per_page))

    def link(number: int, rel: str) -> str:
        # Clients read the first parameter of the link, so the page comes first.
        query = urlencode({"page": number, "per_page": per_page})
        return f'<{path}?{query}>; rel="{rel}"'

    links = [link(page + 1, "next")] if page < last else []
    links.append(link(last, "last"))
    return {"X-Total-Count": str(listed.total), "Link": ", ".join(links)}
