"""Holding the schema cache: loaded on first use, stale on ``NOTIFY pgrst``.

Event triggers of the platform send that notification at every DDL statement; an
application may send it too.  It is marked stale at once and read again by the next
request.  Because a notification may arrive just after the request that needs it, a
request that misses something asks for :meth:`SchemaHolder.refresh_if_changed` before it
gives up.
"""

from __future__ import annotations

import asyncio

from harness.db.pipeline import Pipeline, PipelinePool, Statement
from harness.servers.rest.introspection import read_fingerprint, read_schema_cache
from harness.servers.rest.schema import SchemaCache
from harness.servers.rest.settings import RestSettings

__all__ = ["SchemaHolder"]

CHANNEL = "pgrst"
LISTEN_IDLE_S = 60.0  # without a request for so long, the listening connection goes
LISTEN = Statement(f"LISTEN {CHANNEL}", keep=False)


class SchemaHolder:
    """Gives the current schema cache and the settings in force with it."""

    def __init__(
        self, pool: PipelinePool, conninfo: str, settings: RestSettings
    ) -> None:
        self._pool = pool
        self._conninfo = conninfo
        self._given = settings
        self._listener: Pipeline | None = None
        self._cache: SchemaCache | None = None
        self._stale = False
        self._asked = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._loading = asyncio.Lock()
        self.settings = settings

    async def current(self) -> SchemaCache:
        """Return the cache, read anew if the schema is known to have changed."""
        cache = self._cache
        self._asked = True
        listener = self._listener
        if cache is None or self._stale or listener is None or listener.lost:
            async with self._loading:
                return await self._load()
        return cache

    async def refresh_if_changed(self, seen: SchemaCache) -> SchemaCache | None:
        """Return a newer cache than ``seen``, or ``None`` if it is the newest."""
        if self._cache is seen and not self._stale:
            if await self._unchanged():
                return None
            self._stale = True
        cache = await self.current()
        return None if cache is seen else cache

    def close(self) -> None:
        """Stop listening."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._listener is not None:
            self._listener.close()

    async def _load(self) -> SchemaCache:
        if self._listener is None or self._listener.lost:
            # Listening comes first, so that no change falls between.
            self._listener = await self._listen()
            self._stale = self._stale or not await self._unchanged()
        if self._cache is not None and not self._stale:
            return self._cache
        self._stale = False
        try:
            cache = await self._read(self._given)
            self.settings = self._given.overridden(cache.config)
            if self.settings.db_schemas != self._given.db_schemas:
                cache = await self._read(self.settings)
        except BaseException:
            self._stale = True
            raise
        self._cache = cache
        # Statements prepared against the old schema must be prepared again.
        self._pool.generation += 1
        return cache

    async def _unchanged(self) -> bool:
        if self._cache is None:
            return False
        async with self._pool.connection() as pipeline:
            return await read_fingerprint(pipeline) == self._cache.fingerprint

    async def _read(self, settings: RestSettings) -> SchemaCache:
        async with self._pool.connection() as pipeline:
            return await read_schema_cache(
                pipeline, settings.db_schemas, settings.db_extra_search_path
            )

    async def _listen(self) -> Pipeline:
        pipeline = await Pipeline.connect(self._conninfo)
        pipeline.on_notify = self._notified
        await pipeline.run([LISTEN])
        self._watch_idleness()
        return pipeline

    def _watch_idleness(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._asked = False
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(LISTEN_IDLE_S, self._end_if_idle)

    def _end_if_idle(self) -> None:
        """Stop listening for a project that nobody asks: connections are few."""
        self._idle_timer = None
        if self._asked:
            self._watch_idleness()
        elif self._listener is not None:
            self._listener.close()

    def _notified(self, payload: str) -> None:
        if payload in ("", "reload schema", "reload config"):
            self._stale = True
