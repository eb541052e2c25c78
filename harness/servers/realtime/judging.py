"""A connection that judges rows, and the functions that it has for that.

A generated function lives as long as its connection and is made anew when its table
changes.  There is one a role: PostgreSQL plans anew whenever a plan's role changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import asyncpg

from harness.db.address import DatabaseAddress
from harness.servers.realtime.database import CONNECT_ERRORS, LOGIN, unavailable
from harness.servers.realtime.policies import policy_condition
from harness.servers.realtime.tables import Table
from harness.servers.realtime.visibility_one_sql import (
    one_row_function,
    one_row_parameters,
)
from harness.servers.realtime.visibility_sql import (
    check_function,
    old_rows_function,
    parameters,
)

__all__ = ["JudgingConnection", "Kind"]

Kind = Literal["one", "rows", "rows, with care", "old rows", "old rows, with care"]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Statement: TypeAlias = "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]"


class _Function(NamedTuple):
    """A generated function and its prepared call."""

    table: Table
    name: str
    definition: str
    call: Statement


class JudgingConnection:
    """Opened when first asked, and anew after it was lost."""

    def __init__(self, address: DatabaseAddress, timeout_ms: int) -> None:
        self._address = address
        self._timeout_ms = timeout_ms
        self._connection: Connection | None = None
        self._functions: dict[tuple[int, str, Kind], _Function] = {}
        self._numbers = itertools.count(1)

    async def connection(self) -> Connection:
        """Return the connection.

        Raises :class:`~.database.DatabaseUnavailableError` when there can be none.
        """
        if self._connection is None or self._connection.is_closed():
            self._functions.clear()
            try:
                self._connection = await asyncpg.connect(
                    **self._address.connect_args(LOGIN),
                    server_settings={
                        "application_name": "realtime_visibility",
                        "search_path": "public, extensions",
                        "statement_timeout": str(self._timeout_ms),
                        # One plan per function: planning costs more than the check.
                        "plan_cache_mode": "force_generic_plan",
                        # A plan made while a table was empty must not read all of
                        # it row by row once it is not.
                        "enable_seqscan": "off",
                        "jit": "off",
                    },
                )
            except (*CONNECT_ERRORS, asyncpg.PostgresError) as exc:
                raise unavailable(exc) from exc
        return self._connection

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that was not lost."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def prepare(self, kind: Kind, table: Table, role: str) -> None:
        """Have the function of this kind; takes no lock on ``table``."""
        await self._call(await self.connection(), kind, table, role)

    async def fetch(
        self, kind: Kind, table: Table, role: str, arguments: Sequence[Any]
    ) -> list[asyncpg.Record]:
        """Call the function of this kind.

        Raises :class:`~.database.DatabaseUnavailableError` when the connection is lost,
        and otherwise what PostgreSQL says, or why it could not be asked.
        """
        connection = await self.connection()
        try:
            call = await self._call(connection, kind, table, role)
            rows: list[asyncpg.Record] = await call.fetch(*arguments)
        except CONNECT_ERRORS as exc:
            if isinstance(exc, asyncpg.InterfaceError) and not connection.is_closed():
                raise  # a question that cannot be asked, now or later
            connection.terminate()
            raise unavailable(exc) from exc
        except asyncpg.PostgresError as exc:
            if connection.is_closed():
                raise unavailable(exc) from exc
            raise
        return rows

    async def _call(
        self, connection: Connection, kind: Kind, table: Table, role: str
    ) -> Statement:
        key = table.relation.oid, role, kind
        known = self._functions.get(key)
        if known is not None and known.table is table:
            return known.call
        name = f"visible_{table.relation.oid}_{next(self._numbers)}"
        if known is not None:
            # Often a table is described anew as it was.
            same = await _definition(connection, known.name, kind, table, role)
            if same == known.definition:
                self._functions[key] = known._replace(table=table)
                return known.call
            del self._functions[key]
            await _drop(connection, known.name)
        definition = await _definition(connection, name, kind, table, role)
        await connection.execute(definition)
        call = await connection.prepare(_select(name, kind, table))
        self._functions[key] = _Function(table, name, definition, call)
        return call


async def _definition(
    connection: Connection, name: str, kind: Kind, table: Table, role: str
) -> str:
    if kind == "one":
        return one_row_function(name, table)
    careful = kind.endswith("with care")
    if kind.startswith("rows"):
        return check_function(name, table, careful=careful)
    condition = await policy_condition(connection, table, role)
    return old_rows_function(name, table, condition, careful=careful)


def _select(name: str, kind: Kind, table: Table) -> str:
    if kind == "one":
        return f"select pg_temp.{name}({one_row_parameters(len(table.key))})"
    key_columns = len(table.key) if kind.startswith("rows") else 1
    return f"select * from pg_temp.{name}({parameters(key_columns)})"


async def _drop(connection: Connection, name: str) -> None:
    for function in (name, f"{name}_find", f"{name}_holds"):
        await connection.execute(f"drop function if exists pg_temp.{function}")
