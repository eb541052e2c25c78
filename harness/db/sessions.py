"""Run SQL as somebody: a database role with the claims of a token.

Does what PostgREST, Storage and Realtime do before they touch a user's data: settings
local to the transaction that name the role and carry the claims, in the modern form
(``request.jwt.claims``) and the older one (``request.jwt.claim.<name>``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from harness.db.address import Connection

__all__ = ["as_role", "become", "claim_settings", "rolled_back_as"]

# Claims that older SQL reads one by one.
SINGLE_CLAIMS = ("sub", "role", "email")


def claim_settings(
    role: str, claims: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return the settings that make a transaction speak for ``role`` and ``claims``.

    ``claims`` gets the role if it names none; without claims only the role is told,
    and what an earlier identity of the same transaction claimed is blanked.
    """
    told = {"role": role, **(claims or {})}
    single = {
        f"request.jwt.claim.{name}": str(told.get(name) or "") for name in SINGLE_CLAIMS
    }
    return {
        "role": role,
        "request.jwt.claims": orjson.dumps(told).decode(),
        **single,
    }


async def become(
    connection: Connection, role: str, claims: Mapping[str, Any] | None = None
) -> None:
    """Be ``role`` until the current transaction ends; one round trip.

    The connection's login must be a member of ``role``.
    """
    settings = claim_settings(role, claims)
    calls = ", ".join(
        f"set_config(${2 * i + 1}, ${2 * i + 2}, true)" for i in range(len(settings))
    )
    values = [text for setting in settings.items() for text in setting]
    await connection.fetchrow(f"select {calls}", *values)


@asynccontextmanager
async def as_role(
    connection: Connection, role: str, claims: Mapping[str, Any] | None = None
) -> AsyncIterator[Connection]:
    """Open a transaction as ``role``; committed at the end, rolled back on error.

    Not inside another transaction: the identity would outlive the block.
    """
    if connection.is_in_transaction():
        raise RuntimeError("as_role() needs a transaction of its own")
    async with connection.transaction():
        await become(connection, role, claims)
        yield connection


@asynccontextmanager
async def rolled_back_as(
    connection: Connection, role: str, claims: Mapping[str, Any] | None = None
) -> AsyncIterator[Connection]:
    """Open a transaction (or savepoint) as ``role`` that leaves no trace."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await become(connection, role, claims)
        yield connection
    finally:
        # A connection that was lost has rolled back by itself.
        if not connection.is_closed():
            await transaction.rollback()
