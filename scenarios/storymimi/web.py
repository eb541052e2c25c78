"""The HTTP interface: ``POST /stories`` and ``DELETE /stories/{id}``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from scenarios.storymimi.story_service import (
    RateLimitedError,
    StoryFailedError,
    StoryRequest,
    StoryService,
)

__all__ = ["Signed", "make_app"]

MAX_TITLE = 200
MAX_PROMPT = 4000


@dataclass(frozen=True, slots=True)
class Signed:
    """Who is asking, and the service that acts for them."""

    user_id: str
    stories: StoryService


# From a bearer token to a signed-in user, None for a token that is not valid.
SignIn = Callable[[str], Awaitable[Signed | None]]
SIGN_IN = web.AppKey("sign_in", object)


def make_app(sign_in: SignIn) -> web.Application:
    """Return the application; how tokens are verified is passed in."""
    app = web.Application()

    async def create(request: web.Request) -> web.Response:
        signed = await _signed(request, sign_in)
        title, prompt = await _asked(request)
        try:
            story = await signed.stories.create_new_story(
                StoryRequest(signed.user_id, title, prompt)
            )
        except RateLimitedError:
            return web.json_response({"error": "rate limit exceeded"}, status=429)
        except StoryFailedError as failed:
            body = {"error": "the story could not be made", "story_id": failed.story_id}
            return web.json_response(body, status=502)
        return web.json_response(story, status=201)

    async def delete(request: web.Request) -> web.Response:
        signed = await _signed(request, sign_in)
        story_id = request.match_info["story_id"]
        if not await signed.stories.delete_story(signed.user_id, story_id):
            raise web.HTTPNotFound
        return web.Response(status=204)

    app.router.add_post("/stories", create)
    app.router.add_delete("/stories/{story_id:[0-9a-f-]{36}}", delete)
    return app


async def _signed(request: web.Request, sign_in: SignIn) -> Signed:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    signed = await sign_in(token) if scheme.lower() == "bearer" and token else None
    if signed is None:
        raise web.HTTPUnauthorized
    return signed


async def _asked(request: web.Request) -> tuple[str, str]:
    """Return title and prompt, or answer 400."""
    try:
        body = await request.json()
        title, prompt = str(body["title"]).strip(), str(body["prompt"]).strip()
    except (ValueError, KeyError, TypeError) as exc:
        raise web.HTTPBadRequest(text="title and prompt are required") from exc
    if not 0 < len(title) <= MAX_TITLE or not 0 < len(prompt) <= MAX_PROMPT:
        raise web.HTTPBadRequest(text="title or prompt has a wrong length")
    return title, prompt
