"""Choosing a storage service from the environment.

Supabase when ``SUPABASE_URL`` and ``SUPABASE_SERVICE_KEY`` are set; local storage when
neither is, but never in production, and never because only one of them is missing.
``STORAGE_BACKEND=local`` asks for local storage explicitly.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from scenarios.keepintouch.local_storage_service import LocalStorageService
from scenarios.keepintouch.storage_service import StorageService
from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService

__all__ = ["StorageConfigurationError", "get_storage_service"]

logger = logging.getLogger(__name__)


class StorageConfigurationError(Exception):
    """The environment does not say clearly where data goes."""


def get_storage_service(environ: Mapping[str, str]) -> StorageService:
    """Return the storage that ``environ`` asks for.

    Raises :class:`StorageConfigurationError` at the start instead of losing data later.
    """
    url = environ.get("SUPABASE_URL", "")
    key = environ.get("SUPABASE_SERVICE_KEY", "")
    backend = environ.get("STORAGE_BACKEND", "")
    in_production = environ.get("APP_ENV") == "production"
    if backend not in ("", "local", "supabase"):
        raise StorageConfigurationError(f"unknown STORAGE_BACKEND {backend!r}")
    if backend == "local" and not in_production:
        return _local(environ)
    if url and key:
        logger.info("using Supabase storage", extra={"url": url})
        return SupabaseStorageService(url, key)
    if url or key or in_production or backend == "supabase":
        missing = [
            n for n in ("SUPABASE_URL", "SUPABASE_SERVICE_KEY") if not environ.get(n)
        ]
        raise StorageConfigurationError(
            f"{' and '.join(missing)} must be set"
            + (", production never uses local storage" if in_production else "")
        )
    return _local(environ)


def _local(environ: Mapping[str, str]) -> LocalStorageService:
    logger.info("using local storage")
    return LocalStorageService(
        backup_file=environ.get("LOCAL_STORAGE_BACKUP"),
        temp_dir=environ.get("LOCAL_STORAGE_TEMP_DIR"),
    )
