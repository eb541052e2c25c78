"""``GET /health``: which storage there is, and whether it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from scenarios.keepintouch.storage_service import StorageService

__all__ = ["make_app"]


def make_app(storage: StorageService) -> web.Application:
    """Return the application over a storage."""
    app = web.Application()

    async def health(request: web.Request) -> web.Response:
        reachable = await storage.is_reachable()
        body = {
            "status": "ok" if reachable else "degraded",
            "storage_backend": storage.backend,
        }
        return web.json_response(body, status=200 if reachable else 503)

    app.router.add_get("/health", health)
    return app
