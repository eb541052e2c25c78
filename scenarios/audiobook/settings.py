"""Settings of the application, read once from the environment.

``STORAGE_BACKEND`` is ``local`` (the default) or ``supabase``, which also needs
``SUPABASE_URL``, ``SUPABASE_ANON_KEY`` and ``SUPABASE_SERVICE_ROLE_KEY``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

__all__ = ["Backend", "Settings", "SettingsError"]

Backend = Literal["local", "supabase"]
BACKENDS = ("local", "supabase")
DEFAULT_AUDIO_DIR = "uploads"


class SettingsError(Exception):
    """The environment does not say what the application needs to know."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where audio goes and how the project is reached."""

    backend: Backend
    audio_dir: Path
    supabase_url: str = ""
    anon_key: str = ""
    service_key: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read ``environ``; raises :class:`SettingsError` naming the variable."""
        backend = environ.get("STORAGE_BACKEND", "local")
        if backend not in BACKENDS:
            raise SettingsError(
                f"STORAGE_BACKEND is {backend!r}, not one of {', '.join(BACKENDS)}"
            )
        settings = cls(
            backend=cast("Backend", backend),
            audio_dir=Path(environ.get("LOCAL_AUDIO_DIR", DEFAULT_AUDIO_DIR)),
            supabase_url=environ.get("SUPABASE_URL", ""),
            anon_key=environ.get("SUPABASE_ANON_KEY", ""),
            service_key=environ.get("SUPABASE_SERVICE_ROLE_KEY", ""),
        )
        if backend == "supabase":
            settings.require_supabase()
        return settings

    def require_supabase(self) -> None:
        """Raise unless everything needed to reach the project is known."""
        needed = {
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_ANON_KEY": self.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_key,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise SettingsError(f"{', '.join(missing)} must be set for supabase")
