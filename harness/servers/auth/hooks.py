"""Hooks: functions of a project's database that Auth asks before it decides.

Source: Supabase "Auth Hooks".  A hook is called as Auth's own login, so that it needs
EXECUTE for ``supabase_auth_admin``; it takes and returns one JSON document.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import orjson

from harness.db.supabase_config import CALLED_HOOKS, HookConfig
from harness.errors import ConfigError
from harness.servers.auth.refusals import Refusal
from harness.servers.auth.users import Connection

__all__ = ["Hooks", "customised_claims", "refuse_user", "rejects"]

TIMEOUT_S: Final = 2.0
REQUIRED_CLAIMS: Final = (
    *("aud", "exp", "iat", "sub", "email", "phone", "role", "aal", "session_id"),
    "is_anonymous",
)
REJECTED: Final = "Further password verification attempts will be rejected."


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions to call, as SQL names them; '' where there is none."""

    before_user_created: str = ""
    custom_access_token: str = ""
    password_verification_attempt: str = ""

    @classmethod
    def of(cls, uris: Mapping[str, Any]) -> Hooks:
        """Read URIs by the name of their hook; raises :class:`ConfigError`."""
        functions: dict[str, str] = {}
        for name, uri in uris.items():
            function = HookConfig(name, True, str(uri)).function
            if function is None:
                known = ", ".join(CALLED_HOOKS)
                raise ConfigError(
                    f"auth.hook.{name} cannot be called: {uri!r}",
                    hint=f"pg-functions://postgres/SCHEMA/NAME for {known}",
                )
            functions[name] = ".".join(map(_quoted, function))
        return cls(**functions)


async def customised_claims(
    connection: Connection,
    function: str,
    user_id: uuid.UUID,
    claims: Mapping[str, Any],
    method: str,
) -> Mapping[str, Any]:
    """Return the claims that the function makes of those of a token to come."""
    document = {
        "user_id": str(user_id),
        "claims": claims,
        "authentication_method": method,
    }
    told = (await _ask(connection, function, document)).get("claims")
    if told is None:
        raise _failure("output claims field is missing")
    if not isinstance(told, dict) or any(name not in told for name in REQUIRED_CLAIMS):
        raise _failure("output claims do not conform to the expected schema")
    return told


async def refuse_user(
    connection: Connection, function: str, user: Mapping[str, Any]
) -> None:
    """Raise what the function says against a user who is about to be created."""
    await _ask(connection, function, {"user": user})


async def rejects(
    connection: Connection, function: str, user_id: uuid.UUID, *, valid: bool
) -> tuple[Refusal | None, bool]:
    """Ask about a try to sign in by password: a refusal, and whether to log out."""
    document = {"user_id": str(user_id), "valid": valid}
    told = await _ask(connection, function, document)
    if told.get("decision") != "reject":
        return None, False
    message = str(told.get("message") or REJECTED)
    ends = told.get("should_logout_user") is True
    return Refusal(400, "invalid_credentials", message), ends


async def _ask(
    connection: Connection, function: str, document: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        # A function that fails must not spoil what is written after it.
        async with connection.transaction():
            text = await connection.fetchval(
                f"select to_jsonb({function}($1))::text",
                orjson.dumps(document).decode(),
                timeout=TIMEOUT_S,
            )
    except TimeoutError as exc:
        raise _failure(f"The hook did not answer within {TIMEOUT_S:g} s") from exc
    except asyncpg.PostgresError as exc:
        raise _failure(f"Error running hook {function}: {exc}") from exc
    told = orjson.loads(text or "{}")
    if not isinstance(told, dict):
        raise _failure("Error unmarshaling JSON output.")
    error = told.get("error")
    if isinstance(error, dict) and error.get("message"):
        status = error.get("http_code")
        if not isinstance(status, int) or not 400 <= status <= 599:
            status = 500
        code = "unexpected_failure" if status == 500 else "unknown"
        raise Refusal(status, code, str(error["message"]))
    return told


def _failure(message: str) -> Refusal:
    return Refusal(500, "unexpected_failure", message)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
