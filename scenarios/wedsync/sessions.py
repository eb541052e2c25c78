"""One long-lived manager for each signed-in user."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from scenarios.wedsync.subscription_manager import RealtimeSubscriptionManager

if TYPE_CHECKING:
    from supabase import AsyncClient

    from scenarios.wedsync.channels import Tenant
    from scenarios.wedsync.records import SubscriptionRecords

__all__ = ["ClientFor", "Sessions"]

# From a user's token to a client that speaks with it.
ClientFor = Callable[[str], Awaitable["AsyncClient"]]


class Sessions:
    """The managers of all signed-in users of this server."""

    def __init__(
        self, client_for: ClientFor, records: SubscriptionRecords, *, user_limit: int
    ) -> None:
        self._client_for = client_for
        self._records = records
        self._user_limit = user_limit
        self._managers: dict[str, RealtimeSubscriptionManager] = {}
        self._clients: dict[str, AsyncClient] = {}
        self._tokens: dict[str, str] = {}
        self._lock = asyncio.Lock()

    def all(self) -> Iterable[RealtimeSubscriptionManager]:
        """Return the managers there are."""
        return list(self._managers.values())

    def find(self, user_id: str) -> RealtimeSubscriptionManager | None:
        """Return a user's manager, if there is one."""
        return self._managers.get(user_id)

    async def of(self, tenant: Tenant, token: str) -> RealtimeSubscriptionManager:
        """Return the user's manager, making it on first use.

        A newer token replaces the connection's; a changed tenant ends the old one.
        """
        async with self._lock:
            manager = self._managers.get(tenant.user_id)
            if manager is not None and manager.tenant != tenant:
                await self._end(tenant.user_id)
                manager = None
            if manager is None:
                manager = await self._begin(tenant, token)
            elif self._tokens[tenant.user_id] != token:
                await self._clients[tenant.user_id].realtime.set_auth(token)
                self._tokens[tenant.user_id] = token
            return manager

    async def close(self) -> None:
        """End every user's subscriptions."""
        async with self._lock:
            for user_id in list(self._managers):
                await self._end(user_id)

    async def _begin(self, tenant: Tenant, token: str) -> RealtimeSubscriptionManager:
        client = await self._client_for(token)
        manager = RealtimeSubscriptionManager(
            client, self._records, tenant, user_limit=self._user_limit
        )
        self._managers[tenant.user_id] = manager
        self._clients[tenant.user_id] = client
        self._tokens[tenant.user_id] = token
        return manager

    async def _end(self, user_id: str) -> None:
        manager = self._managers.pop(user_id)
        client = self._clients.pop(user_id)
        self._tokens.pop(user_id)
        try:
            await manager.clean_up()
        finally:
            await client.postgrest.aclose()
            await client.auth.close()
