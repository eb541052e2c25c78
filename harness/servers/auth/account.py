"""What users do with their own account: ``/user`` and ``/logout``."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from harness.servers.auth.audit import Actor, record
from harness.servers.auth.context import AuthContext, SignedIn, answer
from harness.servers.auth.parameters import Parameters, email_address
from harness.servers.auth.passwords import require_strong
from harness.servers.auth.refusals import Refusal, email_taken
from harness.servers.auth.sessions import end_sessions
from harness.servers.auth.sign_in import EMAIL_PROVIDER, email_identity
from harness.servers.auth.users import (
    Connection,
    User,
    add_email_identity,
    change_identity_email,
    find_user,
    find_user_by_email,
    lock_user,
    merged,
    update_user,
)

__all__ = ["log_out", "read_user", "write_user"]


async def read_user(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``GET /user``: who is asking."""
    async with context.transaction() as connection:
        signed_in = await context.signed_in(connection, request)
    return answer(signed_in.user.to_json())


async def write_user(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``PUT /user``: a new address, password or metadata."""
    asked = await Parameters.of(request)
    if "app_metadata" in asked:
        raise Refusal(
            403, "not_admin", "Updating app_metadata requires admin privileges"
        )
    if asked.text("phone"):
        raise Refusal(422, "phone_provider_disabled", "Phone logins are disabled")
    async with context.transaction() as connection:
        signed_in = await context.signed_in(connection, request)
    changes: dict[str, Any] = {}
    if "password" in asked:
        changes |= await _new_password(context, signed_in.user, asked)
    async with context.transaction() as connection:
        # Read again: what is merged must not have been changed in the meantime.
        before = _still_there(await lock_user(connection, signed_in.user.id))
        if (data := asked.table("data")) is not None:
            changes["raw_user_meta_data"] = merged(before.user_metadata, data)
        if email := asked.text("email"):
            await _change_email(connection, context, before, email, changes)
        await update_user(connection, before.id, changes, context.now())
        actor = Actor.of(before)
        if "encrypted_password" in changes:
            await _end_other_sessions(connection, signed_in)
            await record(connection, actor, "user_updated_password", context.now())
        await record(connection, actor, "user_modified", context.now())
        user = _still_there(await find_user(connection, before.id))
    return answer(user.to_json())


async def log_out(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``POST /logout``: end this session, the others, or all."""
    scope = request.query.get("scope", "global")
    if scope not in ("global", "local", "others"):
        raise Refusal(400, "validation_failed", f"Unsupported logout scope {scope!r}")
    async with context.transaction() as connection:
        signed_in = await context.signed_in(connection, request)
        session = signed_in.session
        await record(connection, Actor.of(signed_in.user), "logout", context.now())
        if scope == "global" or session is None:
            await end_sessions(connection, signed_in.user.id)
        elif scope == "local":
            await end_sessions(connection, signed_in.user.id, only=session.id)
        else:
            await end_sessions(connection, signed_in.user.id, keep=session.id)
    return web.Response(status=204)


def _still_there(user: User | None) -> User:
    if user is None:
        message = "User from sub claim in JWT does not exist"
        raise Refusal(403, "user_not_found", message)
    return user


async def _new_password(
    context: AuthContext, user: User, asked: Parameters
) -> dict[str, Any]:
    password = asked.text("password")
    if user.is_anonymous and not (user.email or asked.text("email")):
        raise Refusal(
            422,
            "validation_failed",
            "Updating password of an anonymous user without an email or phone "
            "is not allowed",
        )
    require_strong(password, context.settings)
    if await context.hasher.matches(password, user.row["encrypted_password"]):
        raise Refusal(
            422,
            "same_password",
            "New password should be different from the old password.",
        )
    return {"encrypted_password": await context.hasher.hash(password)}


async def _change_email(
    connection: Connection,
    context: AuthContext,
    user: User,
    given: str,
    changes: dict[str, Any],
) -> None:
    email = email_address(given)
    if email == user.email:
        return
    if await find_user_by_email(connection, email) is not None:
        raise email_taken()
    now = context.now()
    metadata = changes.get("raw_user_meta_data", user.user_metadata)
    identity = email_identity(user.id, email, confirmed=True)
    if any(each["provider"] == "email" for each in user.identities):
        await change_identity_email(connection, user.id, email, now)
    else:
        await add_email_identity(connection, user.id, identity, now)
    # Without mail an address is confirmed by being given.
    changes |= {
        "email": email,
        "email_confirmed_at": now,
        "is_anonymous": False,
        "raw_app_meta_data": {**EMAIL_PROVIDER, **user.app_metadata},
        "raw_user_meta_data": {**metadata, **identity},
    }


async def _end_other_sessions(connection: Connection, signed_in: SignedIn) -> None:
    keep = signed_in.session.id if signed_in.session else None
    await end_sessions(connection, signed_in.user.id, keep=keep)
