"""Settings of the server, checked once at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Settings", "SettingsError"]

USER_CONNECTIONS = 250
SUBSCRIPTIONS_PER_WINDOW = 10
WINDOW_MS = 60_000


class SettingsError(Exception):
    """The environment lacks something, or it cannot work."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the project is reached, and how much a user may have.

    The service key is for bookkeeping on the server and never leaves it.
    """

    supabase_url: str
    anon_key: str
    service_key: str
    user_connections: int = USER_CONNECTIONS
    subscriptions_per_window: int = SUBSCRIPTIONS_PER_WINDOW
    window_ms: int = WINDOW_MS

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read ``environ``; raises :class:`SettingsError` naming the variable."""
        names = {
            "supabase_url": "NEXT_PUBLIC_SUPABASE_URL",
            "anon_key": "NEXT_PUBLIC_SUPABASE_ANON_KEY",
            "service_key": "SUPABASE_SERVICE_ROLE_KEY",
        }
        missing = [variable for variable in names.values() if not environ.get(variable)]
        if missing:
            raise SettingsError(f"{', '.join(missing)} must be set")
        values = {name: environ[variable] for name, variable in names.items()}
        if urlsplit(values["supabase_url"]).scheme not in ("http", "https"):
            raise SettingsError("NEXT_PUBLIC_SUPABASE_URL is not an HTTP URL")
        return cls(values["supabase_url"], values["anon_key"], values["service_key"])
