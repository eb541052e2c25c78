"""How Auth says no: a status, a code and a sentence, in the version a client asks for.

Clients that send ``X-Supabase-Api-Version: 2024-01-01`` or later get ``{code,
message}``; the others the older ``{code: status, error_code, msg}``.  The header
``x-sb-error-code`` is in both.  Codes are those of the official service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

__all__ = ["Refusal", "email_taken", "off", "render", "taken"]

VERSION_HEADER = "X-Supabase-Api-Version"
CODED_VERSION = "2024-01-01"


class Refusal(Exception):
    """A request that Auth answers with an error; ``extra`` joins the body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


def off(what: str, code: str, status: int = 422) -> Refusal:
    """Return the refusal of a feature that this stack does not have."""
    return Refusal(status, code, f"{what} is off: it is not part of this stack")


def email_taken() -> Refusal:
    """Return the refusal of an address that another user has."""
    return Refusal(
        422,
        "email_exists",
        "A user with this email address has already been registered",
    )


def taken(constraint: str | None) -> Refusal | None:
    """Return the refusal of what a unique constraint of ``auth.users`` found taken.

    None for any other constraint: that is one of the project's own tables.
    """
    match constraint:
        case "users_email_partial_key":
            return email_taken()
        case "users_phone_key":
            message = "A user with this phone number has already been registered"
            return Refusal(422, "phone_exists", message)
        case "users_pkey":
            message = "A user with this id has already been registered"
            return Refusal(422, "user_already_exists", message)
    return None


def render(refusal: Refusal, version: str) -> web.Response:
    """Return the response to a client that asked for API ``version`` ('' for none)."""
    coded = version >= CODED_VERSION  # dates in ISO form compare as text
    if coded:
        body: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    else:
        body = {
            "code": refusal.status,
            "error_code": refusal.code,
            "msg": refusal.message,
        }
    headers = {"X-Sb-Error-Code": refusal.code, **refusal.headers}
    if coded:
        headers[VERSION_HEADER] = CODED_VERSION
    return web.Response(
        body=orjson.dumps({**body, **refusal.extra}),
        status=refusal.status,
        headers=headers,
        content_type="application/json",
    )
