"""Counters of one project's Realtime service, in Prometheus' text format."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Metrics", "render"]


@dataclass(slots=True)
class Metrics:
    """What happened since the service started.  Every field becomes a counter.

    Seconds are sums.  A broadcast of the database waits from its commit until it is
    read, a batch of changes from the commit of its first until it is judged; then it is
    written to those who see it.
    """

    connections: int = 0
    refused_connections: int = 0
    joins: int = 0
    refused_joins: int = 0
    malformed_messages: int = 0
    cut_clients: int = 0
    broadcasts_from_database: int = 0
    broadcast_waiting_seconds: float = 0.0
    changes_decoded: int = 0
    changes_delivered: int = 0
    changes_lost: int = 0
    change_batches: int = 0
    change_waiting_seconds: float = 0.0
    change_judging_seconds: float = 0.0
    change_writing_seconds: float = 0.0
    replication_restarts: int = 0
    internal_errors: int = 0


def render(metrics: Metrics, gauges: dict[str, float], project: str) -> str:
    """Return counters and ``gauges`` as Prometheus reads them."""
    label = project.replace("\\", r"\\").replace('"', r"\"")
    lines = []
    for field in fields(metrics):
        name = f"realtime_{field.name}_total"
        lines.append(f"# TYPE {name} counter")
        lines.append(f'{name}{{project="{label}"}} {getattr(metrics, field.name)}')
    for gauge, value in gauges.items():
        name = f"realtime_{gauge}"
        lines.append(f"# TYPE {name} gauge")
        lines.append(f'{name}{{project="{label}"}} {value:g}')
    return "\n".join(lines) + "\n"
