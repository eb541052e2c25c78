"""Which database errors mean that the database is away or full, not a failed query.

Kept apart from the gateway because it imports asyncpg, which the gateway loads only
when the first error asks.
"""

from __future__ import annotations

import asyncpg

__all__ = ["OUTAGES"]

OUTAGES: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
)
