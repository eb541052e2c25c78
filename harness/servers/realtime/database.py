"""The service's connections to its project's database, opened when first needed.

Connections are pooled by the project; this module turns what can go wrong on the way
into the refusals that clients know, and prepares the database once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from harness.errors import HarnessError
from harness.servers.project import ServedProject
from harness.servers.realtime.settings import RealtimeSettings
from harness.servers.realtime.tokens import RefusedError

__all__ = ["LOGIN", "RETRY_S", "Database", "DatabaseUnavailableError"]

LOGIN = "supabase_admin"
POOL_SIZE = 4
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
CONNECT_ERRORS = (OSError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError)
log = logging.getLogger(__name__)


class DatabaseUnavailableError(HarnessError):
    """The project's database takes no connection; ``refusal`` is what clients hear."""

    def __init__(self, message: str, refusal: RefusedError) -> None:
        super().__init__(message)
        self.refusal = refusal


class Database:
    """Lends connections of the service's login."""

    def __init__(self, project: ServedProject, settings: RealtimeSettings) -> None:
        self._project = project
        self._settings = settings
        self._prepared = False

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Lend a connection; raises :class:`DatabaseUnavailableError`."""
        pool = await self._project.pool(LOGIN, max_size=POOL_SIZE)
        try:
            connection = await pool.acquire()
        except CONNECT_ERRORS as exc:
            raise unavailable(exc) from exc
        except asyncpg.PostgresError as exc:
            raise unavailable(exc) from exc
        try:
            if not self._prepared:
                await connection.execute("select realtime.add_partitions()")
                self._prepared = True
            yield connection
        except CONNECT_ERRORS as exc:
            raise unavailable(exc) from exc
        finally:
            await pool.release(connection)

    async def is_reachable(self) -> bool:
        """Tell whether a query is answered now."""
        try:
            async with self.connection() as connection:
                await connection.execute("select")
        except (DatabaseUnavailableError, asyncpg.PostgresError):
            return False
        return True

    async def maintain_partitions(self) -> None:
        """Make the partitions of the next days and drop those past their retention."""
        async with self.connection() as connection:
            await connection.execute("select realtime.add_partitions()")
            await connection.execute(
                "select realtime.drop_partitions(make_interval(secs => $1))",
                self._settings.message_retention_h * 3600,
            )


def unavailable(error: Exception) -> DatabaseUnavailableError:
    """Return ``error`` as what clients are told."""
    if isinstance(error, asyncpg.TooManyConnectionsError):
        refusal = RefusedError(
            "DatabaseLackOfConnections",
            "Database can't accept more connections, Realtime won't connect",
        )
    else:
        refusal = RefusedError(
            "UnableToConnectToProject",
            "Realtime was unable to connect to the project database",
        )
    return DatabaseUnavailableError(f"{type(error).__name__}: {error}", refusal)
