"""Where a database is, in the forms that asyncpg and libpq take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Connection", "DatabaseAddress"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is: ``host`` is a host name or a Unix socket directory."""

    host: str
    port: int
    dbname: str
    password: str = ""

    def connect_args(self, user: str) -> dict[str, Any]:
        """Return keyword arguments for :func:`asyncpg.connect` as ``user``."""
        args: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "database": self.dbname,
            "user": user,
        }
        if self.password:
            args["password"] = self.password
        return args

    def dsn(self, user: str) -> str:
        """Return a libpq keyword string as ``user``."""
        parts = {
            "host": self.host,
            "port": str(self.port),
            "dbname": self.dbname,
            "user": user,
        }
        if self.password:
            parts["password"] = self.password
        return " ".join(f"{k}='{v}'" for k, v in parts.items())
