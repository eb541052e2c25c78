"""The two clients of the application: one for Storage, one for the database.

The Storage client is synchronous, and is called in threads; the database client is
asynchronous.  Both are made with URL and key, and fail at once when these cannot work.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from supabase import (
    AsyncClient,
    AsyncClientOptions,
    Client,
    ClientOptions,
    SupabaseException,
    create_async_client,
    create_client,
)

__all__ = ["ClientSettingsError", "database_client", "storage_client"]


class ClientSettingsError(Exception):
    """The URL or key of the project cannot work."""


def storage_client(url: str, key: str, token: str | None = None) -> Client:
    """Return the client whose ``storage`` keeps pictures, speaking for ``token``."""
    _check(url, key)
    headers = {"Authorization": f"Bearer {token or key}"}
    try:
        return create_client(url, key, ClientOptions(headers=headers))
    except SupabaseException as exc:
        raise ClientSettingsError(f"no Storage client: {exc}") from exc


async def database_client(url: str, key: str, token: str | None = None) -> AsyncClient:
    """Return the client whose tables hold stories, speaking for ``token``."""
    _check(url, key)
    headers = {"Authorization": f"Bearer {token or key}"}
    try:
        return await create_async_client(url, key, AsyncClientOptions(headers=headers))
    except SupabaseException as exc:
        raise ClientSettingsError(f"no database client: {exc}") from exc


def _check(url: str, key: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ClientSettingsError(f"SUPABASE_URL is not an HTTP URL: {url!r}")
    if not key:
        raise ClientSettingsError("SUPABASE_KEY is empty")
