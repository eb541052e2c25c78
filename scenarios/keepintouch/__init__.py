"""KeepInTouch: users, onboarding, documents, on local disk or in Supabase.

One contract (:class:`~scenarios.keepintouch.storage_service.StorageService`) with two
implementations, a factory that fails fast, a migration, backup and restore, and
``/health``.
"""

from __future__ import annotations

from pathlib import Path

from harness.resources import sql_root
from harness.scenario import Scenario

__all__ = ["SCENARIO"]

_HERE = Path(__file__).parent

SCENARIO = Scenario(
    name="keepintouch",
    title="KeepInTouch personal contacts",
    schema=("keepintouch",),
    draft=("keepintouch/draft",),
    suite=_HERE,
    rules=sql_root() / "keepintouch" / "rules.toml",
)
