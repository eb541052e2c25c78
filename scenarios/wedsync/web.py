"""The HTTP interface of the realtime server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from scenarios.wedsync.channels import ChannelDeniedError
from scenarios.wedsync.records import LimitReachedError
from scenarios.wedsync.subscription_manager import SubscriptionFailedError
from scenarios.wedsync.validation import Identify, Identity, read_subscribe, secured

if TYPE_CHECKING:
    from scenarios.wedsync.connection_monitor import RealtimeConnectionMonitor
    from scenarios.wedsync.records import SubscriptionRecords
    from scenarios.wedsync.sessions import Sessions
    from scenarios.wedsync.settings import Settings

__all__ = ["RealtimeApi", "make_app"]

KEEP_ALIVE = b": keep-alive\n\n"


class RealtimeApi:
    """The routes, over sessions, records and a monitor."""

    def __init__(
        self,
        settings: Settings,
        records: SubscriptionRecords,
        sessions: Sessions,
        monitor: RealtimeConnectionMonitor,
    ) -> None:
        self._settings = settings
        self._records = records
        self._sessions = sessions
        self._monitor = monitor

    async def subscribe(
        self, request: web.Request, who: Identity
    ) -> web.StreamResponse:
        """POST /api/realtime/subscribe."""
        asked = await read_subscribe(request)
        if not await self._records.allows(
            who.user_id,
            len(asked.channels),
            limit=self._settings.subscriptions_per_window,
            window_ms=self._settings.window_ms,
        ):
            return _error(429, "Rate limit exceeded")
        tenant = await self._records.tenant(who.user_id)
        if tenant is None:
            return _error(403, "The user has no profile")
        manager = await self._sessions.of(tenant, who.token)
        try:
            live = await manager.subscribe(asked.channels, asked.filters)
        except ChannelDeniedError as denied:
            return _error(403, str(denied))
        except LimitReachedError as reached:
            return _error(429, str(reached))
        except SubscriptionFailedError:
            return _error(500, "Subscription failed")
        subscriptions = [
            {
                "channel": result.channel_id,
                "status": "active",
                "filter": result.filter,
            }
            for result in live
        ]
        return web.json_response({"success": True, "subscriptions": subscriptions})

    async def unsubscribe(
        self, request: web.Request, who: Identity
    ) -> web.StreamResponse:
        """DELETE /api/realtime/subscribe/{channel_id}."""
        manager = self._sessions.find(who.user_id)
        channel_id = request.match_info["channel_id"]
        if manager is None or not await manager.unsubscribe(channel_id):
            return _error(404, "No such subscription")
        return web.Response(status=204)

    async def status(self, request: web.Request, who: Identity) -> web.StreamResponse:
        """GET /api/realtime/status."""
        manager = self._sessions.find(who.user_id)
        if manager is not None:
            await manager.flush()
        channels = await self._records.active_channels(who.user_id)
        count, last = await self._records.messages_today(who.user_id)
        return web.json_response(
            {
                "connected": manager is not None and manager.is_connected,
                "activeChannels": sorted(channels),
                "messageCount": count,
                "lastMessageAt": last,
            }
        )

    async def events(self, request: web.Request, who: Identity) -> web.StreamResponse:
        """GET /api/realtime/events: server-sent events of the user's channels."""
        manager = self._sessions.find(who.user_id)
        if manager is None:
            return _error(404, "No subscriptions")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers["Cache-Control"] = "no-store"
        await response.prepare(request)
        await response.write(KEEP_ALIVE)
        async for event in manager.events():
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        return response

    async def metrics(self, request: web.Request, who: Identity) -> web.StreamResponse:
        """GET /api/realtime/metrics: counts without anybody's data."""
        stats = await self._monitor.stats()
        per_channel: dict[str, int] = {}
        for manager in self._sessions.all():
            for name, count in manager.active().items():
                per_channel[name] = per_channel.get(name, 0) + count
        return web.json_response(
            {
                **dataclasses.asdict(stats),
                "average_messages": stats.average_messages,
                "live_channels": per_channel,
            }
        )


def make_app(identify: Identify, api: RealtimeApi) -> web.Application:
    """Return the application; every route demands a valid token."""
    app = web.Application(client_max_size=64 * 1024)
    where = "/api/realtime"
    routes: list[tuple[str, str, Callable[..., Awaitable[web.StreamResponse]]]] = [
        ("POST", f"{where}/subscribe", api.subscribe),
        (
            "DELETE",
            f"{where}/subscribe/{{channel_id:[a-z0-9-]{{1,80}}}}",
            api.unsubscribe,
        ),
        ("GET", f"{where}/status", api.status),
        ("GET", f"{where}/events", api.events),
        ("GET", f"{where}/metrics", api.metrics),
    ]
    for method, path, handler in routes:
        app.router.add_route(method, path, secured(identify, handler))
    return app


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
