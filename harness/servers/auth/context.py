"""What every Auth endpoint works with: the project, its settings, who is asking."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from harness.protocols.jwt import BadTokenError, mint
from harness.servers.auth.hooks import customised_claims
from harness.servers.auth.passwords import PasswordHasher
from harness.servers.auth.rate_limit import FailureLimit
from harness.servers.auth.refusals import Refusal
from harness.servers.auth.sessions import Device, Session, find_session
from harness.servers.auth.settings import AuthSettings
from harness.servers.auth.users import Connection, User, find_user
from harness.servers.project import ServedProject, bearer_token

__all__ = ["AuthContext", "SignedIn", "answer", "device"]

LOGIN = "supabase_auth_admin"
ADMIN_ROLES = frozenset({"service_role", "supabase_admin"})


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The user whose token a request carries; ``session`` if the token names one."""

    user: User
    session: Session | None


class AuthContext:
    """One project's Auth: its database, settings and the limits it keeps."""

    def __init__(self, project: ServedProject) -> None:
        self.project = project
        self.settings = AuthSettings.from_mapping(project.settings.auth)
        self.hasher = PasswordHasher(self.settings.password_hash_cost)
        per_account = self.settings.sign_ins_per_5_minutes
        self.account_failures = FailureLimit(project.clock, per_account)
        # Many accounts may be behind one address, but not any number.
        self.remote_failures = FailureLimit(project.clock, 10 * per_account)
        self.refresh_failures = FailureLimit(
            project.clock, self.settings.token_refreshes_per_5_minutes
        )

    @property
    def issuer(self) -> str:
        """The ``iss`` of tokens."""
        return self.settings.jwt_issuer or f"{self.project.public_url}/auth/v1"

    def now(self) -> datetime:
        """Return the time by the project's clock."""
        return self.project.clock.now()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction."""
        pool = await self.project.pool(LOGIN)
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    async def session_json(
        self, connection: Connection, user: User, session: Session, method: str
    ) -> dict[str, Any]:
        """Return what a client keeps: both tokens and the user.

        ``method`` is what the token is given for, as a hook is told.
        """
        claims: Mapping[str, Any] = self._token_claims(user, session)
        issued, expires_in = claims["iat"], self.settings.jwt_expiry_s
        if function := self.settings.hooks.custom_access_token:
            claims = await customised_claims(
                connection, function, user.id, claims, method
            )
        return {
            "access_token": mint(claims, self.project.keys.user_token_key),
            "token_type": "bearer",
            "expires_in": expires_in,
            "expires_at": issued + expires_in,
            "refresh_token": session.refresh_token,
            "user": user.to_json(),
        }

    def _token_claims(self, user: User, session: Session) -> dict[str, Any]:
        issued = int(self.now().timestamp())
        return {
            "iss": self.issuer,
            "sub": str(user.id),
            "aud": user.row["aud"],
            "exp": issued + self.settings.jwt_expiry_s,
            "iat": issued,
            "email": user.email,
            "phone": user.phone,
            "app_metadata": user.app_metadata,
            "user_metadata": user.user_metadata,
            "role": user.row["role"],
            "aal": session.aal,
            "amr": [
                {"method": each.method, "timestamp": each.timestamp}
                for each in session.methods
            ],
            "session_id": str(session.id),
            "is_anonymous": user.is_anonymous,
        }

    def claims(self, request: web.BaseRequest) -> Mapping[str, Any]:
        """Return the verified claims of a request, or raise the official refusal."""
        token = bearer_token(request)
        if not token:
            raise Refusal(
                401, "no_authorization", "This endpoint requires a valid Bearer token"
            )
        try:
            return self.project.callers.resolve(token).claims
        except BadTokenError as exc:
            message = f"invalid JWT: unable to parse or verify signature, {exc}"
            raise Refusal(403, "bad_jwt", message) from exc

    def require_admin(self, request: web.BaseRequest) -> Mapping[str, Any]:
        """Let only the service role through; return the claims of its token."""
        claims = self.claims(request)
        if claims.get("role") not in ADMIN_ROLES:
            raise Refusal(403, "not_admin", "User not allowed")
        return claims

    async def signed_in(
        self, connection: Connection, request: web.BaseRequest
    ) -> SignedIn:
        """Return who is asking, or raise the official refusal."""
        claims = self.claims(request)
        subject = claims.get("sub")
        if not subject:
            raise Refusal(403, "bad_jwt", "invalid claim: missing sub claim")
        user_id = _uuid_claim("sub", subject)
        user = await find_user(connection, user_id)
        if user is None:
            raise Refusal(
                403, "user_not_found", "User from sub claim in JWT does not exist"
            )
        if not (named := claims.get("session_id")):
            return SignedIn(user, None)
        session = await find_session(connection, _uuid_claim("session_id", named))
        if session is None or session.user_id != user.id:
            raise Refusal(
                403,
                "session_not_found",
                "Session from session_id claim in JWT does not exist",
            )
        return SignedIn(user, session)

    def close(self) -> None:
        """Let go of the hashing threads."""
        self.hasher.close()


def answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON response."""
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def device(request: web.BaseRequest) -> Device:
    """Return what a request says of where it comes from."""
    agent = request.headers.get("User-Agent", "")
    # Header bytes that are no UTF-8 arrive as lone surrogates.
    return Device(agent.encode("utf-8", "replace").decode(), _address(request))


def _address(request: web.BaseRequest) -> str | None:
    """Return the client's address: the first that proxies report, else the peer's."""
    reported = request.headers.get("X-Forwarded-For", "").partition(",")[0].strip()
    for text in (reported, request.remote or ""):
        try:
            # inet has no room for the zone of a link-local address.
            return str(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            continue
    return None


def _uuid_claim(name: str, value: object) -> uuid.UUID:
    try:
        return uuid.UUID(str(value))
    except ValueError as exc:
        message = f"invalid claim: {name} claim must be a UUID"
        raise Refusal(403, "bad_jwt", message) from exc
