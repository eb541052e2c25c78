"""The tables of KeepInTouch, each behind a small repository; service key throughout."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from scenarios.keepintouch.storage_service import Row

if TYPE_CHECKING:
    from supabase import AsyncClient

__all__ = [
    "TABLES",
    "DocumentRepository",
    "OnboardingRepository",
    "UserRepository",
    "all_rows",
]

# Parents before children, so that restoring in this order meets no missing key.
TABLES: Mapping[str, str] = {
    "users": "id",
    "onboarding_sessions": "id",
    "documents": "id",
    "diary_entries": "id",
    "contacts": "id",
    "interactions": "id",
    "reminders": "id",
    "messages": "id",
    "user_settings": "user_id",
}
PAGE = 500
SESSION = "id, user_id, data, claimed_at, created_at, updated_at"


class UserRepository:
    """The table ``users``, whose rows belong to accounts of Auth."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def insert(self, row: Mapping[str, Any]) -> Row:
        """Insert a user."""
        answer = await self._client.table("users").insert(dict(row)).execute()
        return _one(answer.data)

    async def find(self, user_id: str) -> Row | None:
        """Return a user."""
        answer = await (
            self._client.table("users").select("*").eq("id", user_id).execute()
        )
        return _one(answer.data) if answer.data else None

    async def update(self, user_id: str, changes: Mapping[str, Any]) -> bool:
        """Change a user; false when there is no such user."""
        answer = await (
            self._client.table("users")
            .update(dict(changes))
            .eq("id", user_id)
            .execute()
        )
        return bool(answer.data)


class OnboardingRepository:
    """The table ``onboarding_sessions``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def insert(self, row: Mapping[str, Any]) -> None:
        """Insert a session."""
        await self._client.table("onboarding_sessions").insert(dict(row)).execute()

    async def find(self, session_id: str, secret_hash: str | None) -> Row | None:
        """Return a session whose secret has this hash (or that has none)."""
        query = self._client.table("onboarding_sessions").select(SESSION)
        answer = await _with_secret(query.eq("id", session_id), secret_hash).execute()
        return _one(answer.data) if answer.data else None

    async def update(
        self, session_id: str, secret_hash: str | None, data: Mapping[str, Any]
    ) -> bool:
        """Replace the data of a session; false for an unknown one."""
        query = self._client.table("onboarding_sessions").update({"data": dict(data)})
        answer = await _with_secret(query.eq("id", session_id), secret_hash).execute()
        return bool(answer.data)

    async def claim(
        self, session_id: str, secret_hash: str, user_id: str, claimed_at: str
    ) -> bool:
        """Give a session that nobody has to a user; one statement decides races."""
        answer = await (
            self._client.table("onboarding_sessions")
            .update({"user_id": user_id, "claimed_at": claimed_at})
            .eq("id", session_id)
            .eq("secret_hash", secret_hash)
            .is_("user_id", "null")
            .execute()
        )
        return bool(answer.data)


class DocumentRepository:
    """The table ``documents``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def insert(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Insert documents, all or none."""
        table = self._client.table("documents")
        answer = await table.insert([dict(row) for row in rows]).execute()
        return cast("list[Row]", answer.data)

    async def of_user(self, user_id: str) -> list[Row]:
        """Return all documents of a user, oldest first."""
        rows: list[Row] = []
        while True:
            answer = await (
                self._client.table("documents")
                .select("*")
                .eq("user_id", user_id)
                .order("created_at")
                .order("id")
                .range(len(rows), len(rows) + PAGE - 1)
                .execute()
            )
            rows += cast("list[Row]", answer.data)
            if len(answer.data) < PAGE:
                return rows


async def all_rows(client: AsyncClient, table: str) -> AsyncIterator[Row]:
    """Yield every row of a table by its key, however many pages that takes."""
    key = TABLES[table]
    last = "00000000-0000-0000-0000-000000000000"
    while True:
        query = client.table(table).select("*").gt(key, last).order(key)
        answer = await query.limit(PAGE).execute()
        rows = cast("list[Row]", answer.data)
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        last = rows[-1][key]


def _with_secret(query: Any, secret_hash: str | None) -> Any:
    if secret_hash is None:
        return query.is_("secret_hash", "null")
    return query.eq("secret_hash", secret_hash)


def _one(data: object) -> Row:
    return cast("list[Row]", data)[0]
