"""The Auth service of one project: its endpoints, and what it says is off."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from aiohttp import web

from harness.servers.auth import account, admin, sign_in
from harness.servers.auth.context import AuthContext, answer
from harness.servers.auth.refusals import VERSION_HEADER, Refusal, off, render, taken
from harness.servers.outages import OUTAGES
from harness.servers.project import ServedProject

__all__ = ["AuthService"]

logger = logging.getLogger(__name__)

Endpoint = Callable[[AuthContext, web.BaseRequest], Awaitable[web.Response]]

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/signup"): sign_in.sign_up,
    ("POST", "/token"): sign_in.token,
    ("GET", "/user"): account.read_user,
    ("PUT", "/user"): account.write_user,
    ("POST", "/logout"): account.log_out,
    ("GET", "/admin/users"): admin.index,
    ("POST", "/admin/users"): admin.create,
}
USER_ENDPOINTS = {"GET": admin.read, "PUT": admin.write, "DELETE": admin.remove}

MAIL = "Sending mail"
# Path prefixes of what the official service offers and this one does not:
# what it is called, the code that clients know for "not available", the status.
OFF: dict[str, tuple[str, str, int]] = {
    "/admin/audit": ("The audit log endpoint", "validation_failed", 404),
    "/admin/custom-providers": ("Adding providers", "provider_disabled", 404),
    "/admin/generate_link": (MAIL, "email_provider_disabled", 422),
    "/admin/oauth": ("The OAuth server", "feature_disabled", 404),
    "/admin/sso": ("Single sign-on", "sso_provider_not_found", 404),
    "/authorize": ("Signing in with a provider", "provider_disabled", 400),
    "/callback": ("Signing in with a provider", "provider_disabled", 400),
    "/factors": ("Multi-factor authentication", "mfa_totp_enroll_not_enabled", 422),
    "/invite": (MAIL, "email_provider_disabled", 422),
    "/magiclink": (MAIL, "email_provider_disabled", 422),
    "/oauth": ("The OAuth server", "feature_disabled", 404),
    "/otp": (MAIL, "otp_disabled", 422),
    "/passkeys": ("Signing in with a passkey", "provider_disabled", 404),
    "/reauthenticate": (MAIL, "email_provider_disabled", 422),
    "/recover": (MAIL, "email_provider_disabled", 422),
    "/resend": (MAIL, "email_provider_disabled", 422),
    "/saml": ("SAML 2.0", "saml_provider_disabled", 404),
    "/sso": ("Single sign-on", "sso_provider_not_found", 404),
    "/user/identities": ("Linking identities", "manual_linking_disabled", 404),
    "/user/oauth": ("The OAuth server", "feature_disabled", 404),
}
PROVIDERS = (
    *("apple", "azure", "bitbucket", "discord", "facebook", "figma", "fly", "github"),
    *("gitlab", "google", "kakao", "keycloak", "linkedin", "linkedin_oidc", "notion"),
    *("slack", "slack_oidc", "snapchat", "spotify", "twitch", "twitter", "workos", "x"),
    "zoom",
)


class AuthService:
    """Auth as the gateway asks for it."""

    def __init__(self, project: ServedProject) -> None:
        self._context = AuthContext(project)

    async def start(self) -> None:
        """Open nothing: the first request connects."""

    async def stop(self) -> None:
        """Let go of the hashing threads."""
        self._context.close()

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer one request; ``path`` is what follows ``/auth/v1``."""
        try:
            return await self._answer(request, path.rstrip("/"))
        except Refusal as refusal:
            return render(refusal, _version(request))
        except OUTAGES:
            raise
        except asyncpg.PostgresError as exc:
            return render(_refusal(exc, request.method, path), _version(request))

    async def _answer(self, request: web.BaseRequest, path: str) -> web.Response:
        endpoint = ENDPOINTS.get((request.method, path))
        if endpoint is not None:
            return await endpoint(self._context, request)
        prefix, _, name = path.rpartition("/")
        if prefix == "/admin/users" and request.method in USER_ENDPOINTS:
            return await USER_ENDPOINTS[request.method](self._context, request, name)
        if request.method == "GET" and path == "/.well-known/jwks.json":
            keys = {"keys": self._context.project.keys.public_jwks()}
            return answer(keys, headers={"Cache-Control": "public, max-age=600"})
        if request.method == "GET" and (shown := self._public(path)) is not None:
            return answer(shown)
        if prefix.startswith("/admin/users/"):
            # Factors and passkeys of somebody.
            raise off("Multi-factor authentication", "mfa_totp_enroll_not_enabled", 404)
        if path == "/verify":
            raise Refusal(403, "otp_expired", "Token has expired or is invalid")
        for start, (what, code, status) in OFF.items():
            if path == start or path.startswith(f"{start}/"):
                raise off(what, code, status)
        if any(known == path for _, known in ENDPOINTS) or prefix == "/admin/users":
            raise Refusal(405, "validation_failed", f"{request.method} is not allowed")
        raise Refusal(404, "validation_failed", f"there is no endpoint {path!r}")

    def _public(self, path: str) -> dict[str, Any] | None:
        match path:
            case "/health":
                return {
                    "version": "harness",
                    "name": "Auth",
                    "description": "Users, sessions and tokens of this stack",
                }
            case "/settings":
                return self._settings()
        return None

    def _settings(self) -> dict[str, Any]:
        settings = self._context.settings
        return {
            "external": {
                "anonymous_users": settings.enable_anonymous_sign_ins,
                **dict.fromkeys(PROVIDERS, False),
                "email": settings.email_enable_signup,
                "phone": False,
            },
            "disable_signup": not settings.enable_signup,
            "mailer_autoconfirm": not settings.enable_confirmations,
            "phone_autoconfirm": False,
            "sms_provider": "",
            "saml_enabled": False,
        }


def _refusal(exc: asyncpg.PostgresError, method: str, path: str) -> Refusal:
    if isinstance(exc, asyncpg.UniqueViolationError):
        # Somebody else was faster than the look before the write.
        refusal = taken(exc.constraint_name)
        if refusal is not None:
            return refusal
    if (
        isinstance(exc, asyncpg.ForeignKeyViolationError)
        and exc.constraint_name == "sessions_user_id_fkey"
    ):
        # Deleted between the check of the password and the session.
        return Refusal(404, "user_not_found", "User not found")
    # Most often a trigger of the project on auth.users.
    logger.warning("%s %s: %s", method, path, exc)
    return Refusal(500, "unexpected_failure", _database_failure(path))


def _version(request: web.BaseRequest) -> str:
    return request.headers.get(VERSION_HEADER, "")


def _database_failure(path: str) -> str:
    if path.startswith("/signup"):
        return "Database error saving new user"
    return "Database error on users of this project"
