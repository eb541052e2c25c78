"""Reading the JSON body of a request into what the endpoint may ask for, typed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
from aiohttp import web

from harness.servers.auth.refusals import Refusal

__all__ = ["Parameters", "ban_duration", "email_address", "user_id"]

# The grammar that HTML gives for <input type="email">.
LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = re.compile(rf"[\w.!#$%&'*+/=?^`{{|}}~-]+@{LABEL}(?:\.{LABEL})*", re.ASCII)
EMAIL_LIMIT = 255
# An escape proper, not the end of an escaped backslash.
ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


class Parameters:
    """The members of a JSON object, each of the type that is asked for."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members

    @classmethod
    async def of(cls, request: web.BaseRequest) -> Parameters:
        """Read the body of ``request``; an empty one has no members."""
        body = await request.read()
        if not body.strip():
            return cls({})
        try:
            members = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise _unreadable(str(exc)) from exc
        if not isinstance(members, dict):
            raise _unreadable("it is not an object")
        return cls(members)

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        """Return a text member, '' when it is missing."""
        value = self._members.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise _unreadable(f"{name} is not text")
        # Neither text nor jsonb of PostgreSQL has a NUL character.
        if "\0" in value:
            raise _unreadable(f"{name} has a NUL character")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean member, false when it is missing."""
        value = self._members.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise _unreadable(f"{name} is neither true nor false")
        return value

    def table(self, name: str) -> dict[str, Any] | None:
        """Return an object member, None when it is missing."""
        value = self._members.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _unreadable(f"{name} is not an object")
        if ESCAPED_NUL.search(orjson.dumps(value)):
            raise _unreadable(f"{name} has a NUL character")
        return value


def email_address(given: str) -> str:
    """Return the address in lower case, or raise the official refusal."""
    if not given:
        raise Refusal(400, "validation_failed", "An email address is required")
    if len(given) > EMAIL_LIMIT:
        raise Refusal(400, "validation_failed", "An email address is too long")
    if not EMAIL.fullmatch(given):
        raise Refusal(
            400,
            "validation_failed",
            "Unable to validate email address: invalid format",
        )
    return given.lower()


def user_id(given: str) -> uuid.UUID:
    """Read the id of a user from a path."""
    try:
        return uuid.UUID(given)
    except ValueError as exc:
        message = "user_id must be an UUID"
        raise Refusal(404, "validation_failed", message) from exc


def ban_duration(given: str) -> timedelta | None:
    """Read ``24h``, ``1h30m``, ...; ``none`` lifts a ban."""
    if given == "none":
        return None
    if not DURATION.fullmatch(given):
        raise Refusal(
            400,
            "validation_failed",
            f"invalid format for ban duration: {given!r} is not like 1h30m",
        )
    seconds = sum(
        float(amount) * UNIT_S[unit] for amount, unit in DURATION_PART.findall(given)
    )
    return timedelta(seconds=min(seconds, 100 * 365 * 86400))


def _unreadable(why: str) -> Refusal:
    return Refusal(400, "bad_json", f"Could not read the body as JSON: {why}")
