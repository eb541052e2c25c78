"""What a request may say, and who may say it: applied to every route alike."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from scenarios.wedsync.channels import CHANNELS, Filter

__all__ = ["Identify", "Identity", "SubscribeRequest", "read_subscribe", "secured"]

MAX_CHANNELS = 10
MAX_NAME = 50
FILTER_KEYS = ("supplier_id", "couple_id", "wedding_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking: a user id that Auth has confirmed, and their token."""

    user_id: str
    token: str


# From a token to a user id, None for a token that is not valid.
Identify = Callable[[str], Awaitable[str | None]]
Handler = Callable[[web.Request, Identity], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """A valid request to subscribe: channels without repeats, filters by column."""

    channels: tuple[str, ...]
    filters: Mapping[str, Filter]


def secured(
    identify: Identify, handler: Handler
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Wrap a handler: nobody reaches it without a valid token."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        valid = scheme.lower() == "bearer" and token
        user_id = await identify(token) if valid else None
        if user_id is None:
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request, Identity(user_id, token))

    guarded.is_secured = True  # type: ignore[attr-defined]  # read by the route check
    return guarded


async def read_subscribe(request: web.Request) -> SubscribeRequest:
    """Read a request to subscribe; raises :class:`aiohttp.web.HTTPBadRequest`."""
    try:
        body = await request.json()
    except ValueError as exc:
        raise _bad("the body is not JSON") from exc
    if not isinstance(body, dict):
        raise _bad("the body is not an object")
    channels = _channels(body.get("channels"))
    filters = _filters(body.get("filters") or {})
    for name in channels:
        column = CHANNELS[name].tenant_column
        if column not in filters:
            raise _bad(f"{column} is required for {name}")
    return SubscribeRequest(channels, filters)


def _channels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _bad("channels must be a list of at least one name")
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in value):
        raise _bad("a channel's name is a short text")
    names = tuple(dict.fromkeys(value))
    if len(names) > MAX_CHANNELS:
        raise _bad(f"at most {MAX_CHANNELS} channels at once")
    for name in names:
        if name not in CHANNELS:
            raise _bad(f"unknown channel {name!r}")
    return names


def _filters(value: Any) -> dict[str, Filter]:
    if not isinstance(value, dict) or not set(value) <= set(FILTER_KEYS):
        raise _bad(f"filters may hold {', '.join(FILTER_KEYS)}")
    if "wedding_id" in value:
        raise _bad("no channel is filtered by wedding_id")
    return {
        column: Filter(column, "eq", _uuid(column, text))
        for column, text in value.items()
    }


def _uuid(column: str, text: Any) -> str:
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError) as exc:
        raise _bad(f"{column} is not a UUID") from exc


def _bad(message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(
        text=web.json_response({"error": message}).text,
        content_type="application/json",
    )
