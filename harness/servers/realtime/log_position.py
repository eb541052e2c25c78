"""Where PostgreSQL's log ends, asked once for all who want to know at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from harness.servers.realtime.database import Database, DatabaseUnavailableError

__all__ = ["LogPosition"]

POSITION_SQL = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


class LogPosition:
    """Answers with a position that was current after the question was asked."""

    def __init__(
        self,
        database: Database,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._database = database
        self._spawn = spawn
        self._waiting: list[asyncio.Future[int]] = []
        self._is_asking = False

    async def now(self) -> int:
        """Return the end of the log.

        Raises :class:`DatabaseUnavailableError` or :class:`asyncpg.PostgresError`.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        if not self._is_asking:
            self._is_asking = True
            self._spawn(self._ask())
        return await answer

    async def _ask(self) -> None:
        try:
            while self._waiting:
                # Only those who asked before the query began may take its answer.
                waiting, self._waiting = self._waiting, []
                await self._answer(waiting)
        finally:
            self._is_asking = False

    async def _answer(self, waiting: list[asyncio.Future[int]]) -> None:
        try:
            async with self._database.connection() as connection:
                position = await connection.fetchval(POSITION_SQL)
        except (DatabaseUnavailableError, asyncpg.PostgresError) as exc:
            for future in waiting:
                if not future.done():
                    future.set_exception(exc)
            return
        except asyncio.CancelledError:
            for future in waiting:
                future.cancel()
            raise
        for future in waiting:
            if not future.done():
                future.set_result(position)
