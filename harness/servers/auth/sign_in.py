"""Signing up and signing in: ``/signup`` and the grants of ``/token``."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import asyncpg
from aiohttp import web

from harness.servers.auth.audit import Actor, record
from harness.servers.auth.context import AuthContext, answer, device
from harness.servers.auth.hooks import refuse_user, rejects
from harness.servers.auth.parameters import Parameters, email_address
from harness.servers.auth.passwords import require_strong, weakness
from harness.servers.auth.refusals import Refusal, off
from harness.servers.auth.sessions import (
    begin_session,
    end_sessions,
    refresh_session,
)
from harness.servers.auth.users import (
    Connection,
    NewUser,
    User,
    add_email_identity,
    find_user,
    find_user_by_email,
    insert_user,
    update_user,
)

__all__ = ["email_identity", "sign_up", "token"]

EMAIL_PROVIDER = {"provider": "email", "providers": ["email"]}
BY_EMAIL = {"provider": "email"}
USER_TIMES = (
    "email_confirmed_at",
    "phone_confirmed_at",
    "confirmed_at",
    "last_sign_in_at",
    "banned_until",
    "deleted_at",
)


async def sign_up(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``POST /signup``: a new user, anonymous without an address."""
    settings = context.settings
    if not settings.enable_signup:
        raise Refusal(422, "signup_disabled", "Signups not allowed for this instance")
    asked = await Parameters.of(request)
    if asked.text("phone"):
        raise Refusal(422, "phone_provider_disabled", "Phone signups are disabled")
    if not asked.text("email"):
        return await _sign_up_anonymously(context, request, asked)
    if not settings.email_enable_signup:
        raise Refusal(422, "email_provider_disabled", "Email signups are disabled")
    password = asked.text("password")
    if not password:
        raise Refusal(400, "validation_failed", "Signup requires a valid password")
    require_strong(password, settings)
    email = email_address(asked.text("email"))
    new = NewUser(
        email=email,
        encrypted_password=await context.hasher.hash(password),
        app_metadata=EMAIL_PROVIDER,
        user_metadata=asked.table("data") or {},
    )
    if settings.enable_confirmations:
        return await _sign_up_unconfirmed(context, new)
    async with context.transaction() as connection:
        await _create(connection, context, new, confirmed=True)
        user = await _existing(connection, new.id)
        await _record(connection, context, user, "user_signedup", BY_EMAIL)
        await _record(connection, context, user, "login", BY_EMAIL)
        return await _signed_in(connection, context, request, new.id, "password")


async def _sign_up_anonymously(
    context: AuthContext, request: web.BaseRequest, asked: Parameters
) -> web.Response:
    if not context.settings.enable_anonymous_sign_ins:
        raise Refusal(
            422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled"
        )
    new = NewUser(is_anonymous=True, user_metadata=asked.table("data") or {})
    async with context.transaction() as connection:
        await _ask_before(connection, context, new)
        await insert_user(connection, new, context.now())
        return await _signed_in(connection, context, request, new.id, "anonymous")


async def _sign_up_unconfirmed(context: AuthContext, new: NewUser) -> web.Response:
    async with context.transaction() as connection:
        assert new.email is not None
        known = await find_user_by_email(connection, new.email)
        if known is None:
            await _create(connection, context, new, confirmed=False)
            user = await _existing(connection, new.id)
            action = "user_confirmation_requested"
            await _record(connection, context, user, action, BY_EMAIL)
            return answer(user.to_json())
        await _record(connection, context, known, "user_repeated_signup", BY_EMAIL)
    # Where addresses must be confirmed, nobody learns by signing up which exist.
    return answer(_unstored(new, uuid.uuid4(), context.now()))


def _unstored(new: NewUser, user_id: uuid.UUID, now: datetime) -> dict[str, Any]:
    row = {
        **dict.fromkeys(USER_TIMES),
        "id": user_id,
        "aud": "authenticated",
        "role": new.role,
        "email": new.email,
        "phone": None,
        "created_at": now,
        "updated_at": now,
        "is_anonymous": new.is_anonymous,
    }
    return User(row, new.app_metadata, new.user_metadata, []).to_json()


async def token(context: AuthContext, request: web.BaseRequest) -> web.Response:
    """``POST /token``: the grant that ``grant_type`` in the query names."""
    match request.query.get("grant_type", ""):
        case "password":
            return await _password_grant(context, request)
        case "refresh_token":
            return await _refresh_grant(context, request)
        case "id_token":
            raise off("Signing in with an id token", "provider_disabled", 400)
        case "web3":
            raise off("Signing in with a wallet", "web3_provider_disabled")
        case "pkce":
            message = "invalid flow state, no valid flow state found"
            raise Refusal(404, "flow_state_not_found", message)
    raise Refusal(400, "invalid_credentials", "unsupported_grant_type")


async def _password_grant(
    context: AuthContext, request: web.BaseRequest
) -> web.Response:
    asked = await Parameters.of(request)
    password = asked.text("password")
    if asked.text("phone"):
        raise Refusal(422, "phone_provider_disabled", "Phone logins are disabled")
    email = asked.text("email").lower()
    if not email:
        raise Refusal(400, "validation_failed", "missing email or phone")
    remote = request.remote or ""
    _require_patience(context, email, remote)
    async with context.transaction() as connection:
        user = await find_user_by_email(connection, email)
    # No connection is held while bcrypt works.
    hashed = user.row["encrypted_password"] if user else None
    right = await context.hasher.matches(password, hashed)
    # Of many tries at once, those too many learn nothing, not even of a right one.
    _require_patience(context, email, remote)
    if user is not None:
        await _ask_about_try(context, user, valid=right)
    if not right or user is None:
        context.account_failures.fail(email)
        context.remote_failures.fail(remote)
        raise Refusal(400, "invalid_credentials", "Invalid login credentials")
    if user.is_banned(context.now()):
        raise Refusal(400, "user_banned", "User is banned")
    if user.row["confirmed_at"] is None:
        raise Refusal(400, "email_not_confirmed", "Email not confirmed")
    async with context.transaction() as connection:
        await _record(connection, context, user, "login", BY_EMAIL)
        response = await _session_body(
            connection, context, request, user.id, "password"
        )
    sentences, reasons = weakness(password, context.settings)
    if reasons:
        response["weak_password"] = {
            "message": " ".join(sentences),
            "reasons": reasons,
        }
    return answer(response)


async def _ask_about_try(context: AuthContext, user: User, *, valid: bool) -> None:
    function = context.settings.hooks.password_verification_attempt
    if not function:
        return
    async with context.transaction() as connection:
        refusal, ends = await rejects(connection, function, user.id, valid=valid)
        if ends:
            await end_sessions(connection, user.id)
    # Raised after the transaction, which may have ended sessions.
    if refusal is not None:
        raise refusal


def _require_patience(context: AuthContext, email: str, remote: str) -> None:
    wait_s = max(
        context.account_failures.wait_s(email), context.remote_failures.wait_s(remote)
    )
    _refuse_for(wait_s)


def _refuse_for(wait_s: float) -> None:
    if wait_s > 0:
        raise Refusal(
            429,
            "over_request_rate_limit",
            "Request rate limit reached",
            headers={"Retry-After": str(int(wait_s) + 1)},
        )


async def _refresh_grant(
    context: AuthContext, request: web.BaseRequest
) -> web.Response:
    asked = await Parameters.of(request)
    given = asked.text("refresh_token")
    if not given:
        raise Refusal(400, "validation_failed", "refresh_token required")
    remote = request.remote or ""
    _refuse_for(context.refresh_failures.wait_s(remote))
    async with context.transaction() as connection:
        session = await refresh_session(
            connection, given, context.settings, device(request), context.now()
        )
        if not isinstance(session, Refusal):
            user = await _existing(connection, session.user_id)
            if user.is_banned(context.now()):
                message = "Invalid Refresh Token: User Banned"
                raise Refusal(400, "user_banned", message)
            await _record(connection, context, user, "token_refreshed")
            if session.rotated:
                await _record(connection, context, user, "token_revoked")
            return answer(
                await context.session_json(connection, user, session, "token_refresh")
            )
    context.refresh_failures.fail(remote)
    # Raised after the transaction, which may have revoked a family of tokens.
    raise session


async def _create(
    connection: Connection, context: AuthContext, new: NewUser, *, confirmed: bool
) -> None:
    now = context.now()
    assert new.email is not None
    if await find_user_by_email(connection, new.email) is not None:
        raise _already_exists()
    await _ask_before(connection, context, new)
    try:
        await insert_user(connection, new, now)
    except asyncpg.UniqueViolationError as exc:
        if exc.constraint_name != "users_email_partial_key":
            raise
        raise _already_exists() from exc
    identity = email_identity(new.id, new.email, confirmed=confirmed)
    await add_email_identity(connection, new.id, {**new.user_metadata, **identity}, now)
    # The official service inserts first and confirms then, which triggers can see.
    changes: dict[str, Any] = {"raw_user_meta_data": {**new.user_metadata, **identity}}
    if confirmed:
        changes["email_confirmed_at"] = now
    await update_user(connection, new.id, changes, now)


def email_identity(
    user_id: uuid.UUID, email: str, *, confirmed: bool
) -> dict[str, Any]:
    """Return what the e-mail identity of a user says of them."""
    return {
        "sub": str(user_id),
        "email": email,
        "email_verified": confirmed,
        "phone_verified": False,
    }


async def _ask_before(
    connection: Connection, context: AuthContext, new: NewUser
) -> None:
    if function := context.settings.hooks.before_user_created:
        user = _unstored(new, new.id, context.now())
        await refuse_user(connection, function, user)


async def _record(
    connection: Connection,
    context: AuthContext,
    user: User,
    action: str,
    traits: dict[str, str] | None = None,
) -> None:
    await record(connection, Actor.of(user), action, context.now(), traits)


async def _signed_in(
    connection: Connection,
    context: AuthContext,
    request: web.BaseRequest,
    user_id: uuid.UUID,
    method: str,
) -> web.Response:
    return answer(await _session_body(connection, context, request, user_id, method))


async def _session_body(
    connection: Connection,
    context: AuthContext,
    request: web.BaseRequest,
    user_id: uuid.UUID,
    method: str,
) -> dict[str, Any]:
    session = await begin_session(
        connection, user_id, method, device(request), context.now()
    )
    user = await _existing(connection, user_id)
    return await context.session_json(connection, user, session, method)


async def _existing(connection: Connection, user_id: uuid.UUID) -> User:
    user = await find_user(connection, user_id)
    if user is None:
        raise Refusal(404, "user_not_found", "User not found")
    return user


def _already_exists() -> Refusal:
    return Refusal(422, "user_already_exists", "User already registered")
