"""The application put together: what a process starts once and stops at its end."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from aiohttp import web
from supabase import AsyncClient, AsyncClientOptions
from supabase_auth.errors import AuthError

from harness.clock import Clock
from scenarios.wedsync.connection_monitor import RealtimeConnectionMonitor
from scenarios.wedsync.records import SubscriptionRecords
from scenarios.wedsync.sessions import Sessions
from scenarios.wedsync.settings import Settings
from scenarios.wedsync.web import RealtimeApi, make_app

__all__ = ["Running", "running_server"]

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A running application, by its parts."""

    app: web.Application
    records: SubscriptionRecords
    sessions: Sessions
    monitor: RealtimeConnectionMonitor


@asynccontextmanager
async def running_server(settings: Settings, clock: Clock) -> AsyncIterator[Running]:
    """Start monitor and sessions; end every subscription afterwards."""
    service = _client(settings.supabase_url, settings.service_key, settings.service_key)
    public = _client(settings.supabase_url, settings.anon_key, settings.anon_key)
    records = SubscriptionRecords(service, clock)

    async def client_for(token: str) -> AsyncClient:
        client = _client(settings.supabase_url, settings.anon_key, token)
        await client.realtime.set_auth(token)
        return client

    async def identify(token: str) -> str | None:
        try:
            answer = await public.auth.get_user(token)
        except AuthError:
            return None
        return answer.user.id if answer else None

    sessions = Sessions(client_for, records, user_limit=settings.user_connections)
    monitor = RealtimeConnectionMonitor(records, sessions.all, clock)
    api = RealtimeApi(settings, records, sessions, monitor)
    monitor.start()
    try:
        yield Running(make_app(identify, api), records, sessions, monitor)
    finally:
        await monitor.stop()
        await sessions.close()
        await service.postgrest.aclose()
        await public.auth.close()


def _client(url: str, key: str, token: str) -> AsyncClient:
    http = httpx.AsyncClient(verify=_trusted_certificates(), timeout=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"}
    return AsyncClient(url, key, AsyncClientOptions(headers=headers, httpx_client=http))


@functools.cache
def _trusted_certificates() -> ssl.SSLContext:
    """Load the certificates once for all clients of the process."""
    return ssl.create_default_context()
