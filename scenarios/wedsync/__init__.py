"""WedSync: live wedding data for suppliers and couples.

A long-lived server holds one realtime connection for each signed-in user, made with
that user's own token, so that row level security decides what arrives.  It offers
``POST /api/realtime/subscribe``, ``DELETE /api/realtime/subscribe/{id}``,
``GET /api/realtime/status``, ``GET /api/realtime/events`` and
``GET /api/realtime/metrics``.
"""

from __future__ import annotations

from pathlib import Path

from harness.resources import sql_root
from harness.scenario import Scenario
from harness.servers.project import ProjectSettings

__all__ = ["SCENARIO"]

_HERE = Path(__file__).parent

SCENARIO = Scenario(
    name="wedsync",
    title="WedSync realtime for weddings",
    schema=("wedsync",),
    draft=("wedsync/draft",),
    suite=_HERE,
    rules=sql_root() / "wedsync" / "rules.toml",
    # A supplier in season has more than the 200 connections of the default.
    settings=ProjectSettings(
        realtime={
            "max_concurrent_users": 1000,
            "max_joins_per_second": 1000,
            "max_events_per_second": 20000,
        }
    ),
)
