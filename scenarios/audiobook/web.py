"""The HTTP interface: who is asking, and where the audio of a section can be heard.

``GET /sections/{id}/audio`` tells which backend holds the audio and gives a URL: a
signed one, good for five minutes, for audio in Supabase, and a path of this application
for local audio.  ``GET /audio/{path}`` serves local audio to its owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from supabase_auth.errors import AuthError

from scenarios.audiobook.audio_service import URL_LIFETIME_S, AudioService
from scenarios.audiobook.audio_store import AudioRefusedError, LocalAudioStore, Reason

__all__ = ["ServiceOf", "UserOf", "make_app"]

# From a bearer token to a user id; raises AuthError for a token that is not valid.
UserOf = Callable[[str], Awaitable[str]]
# From a user id and token to their audio.
ServiceOf = Callable[[str, str], Awaitable[AudioService]]

STATUS = {
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.EXISTS: 409,
    Reason.TOO_LARGE: 413,
    Reason.WRONG_TYPE: 415,
    Reason.QUOTA: 413,
    Reason.BAD_PATH: 400,
}
USER_OF = web.AppKey("user_of", object)
SERVICE_OF = web.AppKey("service_of", object)
LOCAL = web.AppKey("local", LocalAudioStore)


def make_app(
    user_of: UserOf, service_of: ServiceOf, local: LocalAudioStore
) -> web.Application:
    """Return the application; what it needs from outside is passed in."""
    app = web.Application(middlewares=[_refusals])
    app[USER_OF] = user_of
    app[SERVICE_OF] = service_of
    app[LOCAL] = local
    app.router.add_get("/sections/{section_id}/audio", _locate)
    app.router.add_get("/audio/{path:.+}", _serve_local)
    return app


@web.middleware
async def _refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer refusals with their status, and nothing else about them."""
    try:
        response: web.StreamResponse = await handler(request)
    except AudioRefusedError as refused:
        body = {"error": str(refused.reason)}
        return web.json_response(body, status=STATUS[refused.reason])
    return response


async def _locate(request: web.Request) -> web.Response:
    user_id, token = await _caller(request)
    service_of: Any = request.app[SERVICE_OF]
    audio: AudioService = await service_of(user_id, token)
    section_id = request.match_info["section_id"]
    record = await audio.audio(section_id)
    url = await audio.url(section_id)
    return web.json_response(
        {
            "section_id": section_id,
            "storage_backend": record.storage_backend,
            "mime_type": record.mime_type,
            "url": url,
            "expires_in": URL_LIFETIME_S
            if record.storage_backend == "supabase"
            else None,
        }
    )


async def _serve_local(request: web.Request) -> web.StreamResponse:
    user_id, _ = await _caller(request)
    path = request.match_info["path"]
    if path.split("/")[0] != user_id:
        raise AudioRefusedError(Reason.NOT_FOUND, path)
    content = await request.app[LOCAL].download(path)
    kind = "audio/wav" if path.endswith(".wav") else "audio/mpeg"
    return web.Response(body=content, content_type=kind)


async def _caller(request: web.Request) -> tuple[str, str]:
    """Return who asks and their token; 401 without a valid one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise web.HTTPUnauthorized(text="a bearer token is required")
    user_of: Any = request.app[USER_OF]
    try:
        return await user_of(token), token
    except AuthError as exc:
        raise web.HTTPUnauthorized(text="the token is not valid") from exc
