"""Counters of one project's Storage API in this process, for Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

__all__ = ["Metrics"]

BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Requests counted by operation and status, with their time."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: dict[str, float] = {}

    def record(self, operation: str, status: int, took_s: float) -> None:
        """Count one answered request."""
        self._requests[operation, status] += 1
        self._seconds[operation] = self._seconds.get(operation, 0.0) + took_s
        for bound in BUCKETS_S:
            if took_s <= bound:
                self._buckets[operation, bound] += 1
                break

    def text(self) -> str:
        """Return the counters in Prometheus' text format."""
        lines = [
            "# HELP storage_api_http_requests_total Requests by operation and status.",
            "# TYPE storage_api_http_requests_total counter",
        ]
        lines += [
            f'storage_api_http_requests_total{{operation="{name}",status_code="{code}"}}'
            f" {count}"
            for (name, code), count in sorted(self._requests.items())
        ]
        family = "storage_api_http_request_duration_seconds"
        lines += [
            f"# HELP {family} Time from request to answer.",
            f"# TYPE {family} histogram",
        ]
        for name in sorted(self._seconds):
            total = 0
            for bound in BUCKETS_S:
                total += self._buckets[name, bound]
                lines.append(
                    f'{family}_bucket{{operation="{name}",le="{bound}"}} {total}'
                )
            count = sum(n for (op, _), n in self._requests.items() if op == name)
            lines += [
                f'{family}_bucket{{operation="{name}",le="+Inf"}} {count}',
                f'{family}_sum{{operation="{name}"}} {self._seconds[name]:.6f}',
                f'{family}_count{{operation="{name}"}} {count}',
            ]
        lines += [
            "# HELP process_cpu_seconds_total CPU time of the server process.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {time.process_time():.6f}",
        ]
        return "\n".join(lines) + "\n"
