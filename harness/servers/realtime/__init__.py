"""Realtime: broadcast, presence, private channels and row changes over WebSockets.

:class:`RealtimeService` is what the gateway holds.  Wire formats live in
:mod:`harness.protocols`; every permission is decided by PostgreSQL.
"""

from harness.servers.realtime.service import RealtimeService

__all__ = ["RealtimeService"]
