"""What a project may set about its Realtime service, with the platform's defaults.

Quota names and defaults are those of a hosted tenant; the rest are bounds of this
implementation.  ``compat`` brings back behaviour of the hosted service that ours
improves on (see docs/realtime-guarantees.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError

__all__ = ["RealtimeSettings"]

MAX_WORKERS = 64


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """Limits and switches of one project; every field may be given by name.

    ``unseen_change_limit`` and ``unseen_change_bytes`` bound how many decoded changes
    wait in memory before the replication stream is held back, ``congested_bytes`` how
    much may wait for one slow client before it is cut.  ``workers`` is how many
    processes write to clients in the service's place; 0 lets it write itself.
    ``max_header_length`` bounds the value of each header with which a socket is asked
    for.
    """

    max_concurrent_users: int = 200
    max_events_per_second: int = 100
    max_joins_per_second: int = 100
    max_channels_per_client: int = 100
    max_presence_events_per_second: int = 1000
    max_client_presence_events_per_window: int = 5
    client_presence_window_ms: int = 30_000
    max_payload_size_in_kb: int = 3000
    private_only: bool = False
    presence_enabled: bool = False
    suspend: bool = False
    compat: bool = False
    jwt_claim_validators: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    max_frame_bytes: int = 5_000_000
    max_header_length: int = 4096
    idle_timeout_s: float = 60.0
    no_channel_timeout_s: float = 600.0
    congested_bytes: int = 4 * 1024 * 1024
    congested_grace_s: float = 10.0
    unseen_change_limit: int = 20_000
    unseen_change_bytes: int = 64 * 1024 * 1024
    max_record_bytes: int = 1_048_576
    workers: int = 0
    publication: str = "supabase_realtime"
    publication_check_s: float = 60.0
    message_retention_h: float = 72.0
    statement_timeout_ms: int = 5_000
    database_idle_s: float = 60.0
    connect_error_backoff_ms: int = 0
    channel_error_backoff_ms: int = 0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RealtimeSettings:
        """Return settings with ``values`` over the defaults.

        Raises :class:`ConfigError` for a name that does not exist or a value of
        another type.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        defaults = cls()
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"realtime.{name} is not a setting")
            default = getattr(defaults, name)
            if not _fits(value, default):
                raise ConfigError(
                    f"realtime.{name}: {value!r} is not of type"
                    f" {type(default).__name__}"
                )
        settings = cls(**values)
        if not 0 <= settings.workers <= MAX_WORKERS:
            raise ConfigError(f"realtime.workers: 0 to {MAX_WORKERS}")
        return settings

    @property
    def max_payload_bytes(self) -> int:
        """The largest broadcast or tracked payload, by the platform's rule."""
        return self.max_payload_size_in_kb * 1000 + 500


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, Mapping):
        return isinstance(value, Mapping)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))
