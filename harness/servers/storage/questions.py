"""Small questions to PostgreSQL, several of which share a connection.

Whether an object may be seen is such a question: the round trip is what it costs.  Kept
apart from the other connections because libpq is slow to load, and a server that starts
is not asked such a thing first.
"""

from __future__ import annotations

from typing import Final

from harness.db.pipeline import (
    ConnectionLostError,
    PipelinePool,
    PoolTimeoutError,
    Statement,
    StatementError,
)
from harness.db.shared_reads import SharedReads
from harness.servers.storage import errors

__all__ = ["Questions"]

NUL_STATE: Final = "22021"  # character_not_in_repertoire
NUL_MESSAGE: Final = 'invalid byte sequence for encoding "UTF8": 0x00'


class Questions:
    """Up to ``limit`` connections for statements that change nothing."""

    def __init__(self, conninfo: str, *, limit: int, idle_s: float) -> None:
        self._pool = PipelinePool(conninfo, max_size=limit, idle_s=idle_s)
        self._reads = SharedReads(self._pool)

    async def text(self, statement: str, *args: str) -> bytes | None:
        """Run a statement in its own transaction; return its first value."""
        params = [arg.encode() for arg in args]
        if b"\0" in b"".join(params):
            # What follows a NUL would be lost on the way, and PostgreSQL refuses one.
            raise errors.from_sqlstate(NUL_STATE, NUL_MESSAGE)
        try:
            (result,) = await self._reads.run([Statement(statement, params)])
        except StatementError as exc:
            raise errors.from_sqlstate(exc.sqlstate, exc.message) from exc
        except (ConnectionLostError, PoolTimeoutError) as exc:
            raise errors.database_timeout() from exc
        return result.get_value(0, 0)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
