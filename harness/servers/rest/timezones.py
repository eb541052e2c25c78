"""Which time zones PostgreSQL knows, asked once: listing them takes a while."""

from __future__ import annotations

from harness.db.pipeline import PipelinePool, Statement

__all__ = ["TimeZones"]

LIST = Statement("SELECT string_agg(name, E'\\n') FROM pg_catalog.pg_timezone_names")


class TimeZones:
    """The names in ``pg_timezone_names``."""

    def __init__(self, pool: PipelinePool) -> None:
        self._pool = pool
        self._names: frozenset[str] | None = None

    def listed(self, name: str) -> bool:
        """Tell whether ``name`` is a time zone; False before :meth:`knows` asked."""
        return self._names is not None and name in self._names

    async def knows(self, name: str) -> bool:
        """Tell whether ``name`` is a time zone."""
        if self._names is None:
            async with self._pool.connection() as pipeline:
                (result,) = await pipeline.run([LIST])
            listed = (result.get_value(0, 0) or b"").decode()
            self._names = frozenset(listed.splitlines())
        return name in self._names
