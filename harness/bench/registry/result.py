"""What a benchmark hands back: counts and seconds; everything else is derived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.events import LatencySummary

__all__ = ["Baseline", "BenchResult"]

US = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The same work done the plainest way, measured side by side with ours.

    ``name`` says what it is: ``plain SELECT as the owner``, ``raw TCP echo``.
    """

    name: str
    ops: int
    wall_s: float
    server_cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0

    @property
    def wall_us_per_op(self) -> float:
        """Microseconds of wall time an operation."""
        return self.wall_s / self.ops * US


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One measured operation.

    ``name`` is the suite (``realtime``), ``operation`` what was done (``fan-out to
    1,000 subscribers``).  ``reference`` quotes a figure measured elsewhere (the real
    service), ``goal`` what is aimed at, ``met`` whether this run reached it.
    """

    name: str
    operation: str
    ops: int
    wall_s: float
    server_cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0
    server_rss_mib: float = 0.0
    baseline: Baseline | None = None
    latency: LatencySummary | None = None
    reference: str = ""
    goal: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def ops_per_s(self) -> float:
        """Operations a second of wall time."""
        return self.ops / self.wall_s if self.wall_s else 0.0

    @property
    def wall_us_per_op(self) -> float:
        """Microseconds of wall time an operation."""
        return self._per_op(self.wall_s)

    @property
    def server_cpu_us_per_op(self) -> float:
        """Microseconds of the server's CPU an operation."""
        return self._per_op(self.server_cpu_s)

    @property
    def postgres_cpu_us_per_op(self) -> float:
        """Microseconds of PostgreSQL's CPU an operation."""
        return self._per_op(self.postgres_cpu_s)

    @property
    def ratio(self) -> float | None:
        """Wall time an operation as a multiple of the baseline's (1.0 = the same)."""
        if self.baseline is None or not self.baseline.wall_us_per_op:
            return None
        return self.wall_us_per_op / self.baseline.wall_us_per_op

    def to_record(self) -> dict[str, Any]:
        """Return everything, derived figures included, ready for JSON."""
        record: dict[str, Any] = {
            "suite": self.name,
            "operation": self.operation,
            "ops": self.ops,
            "ops_per_s": round(self.ops_per_s, 1),
            "wall_us_per_op": round(self.wall_us_per_op, 3),
            "server_cpu_us_per_op": round(self.server_cpu_us_per_op, 3),
            "postgres_cpu_us_per_op": round(self.postgres_cpu_us_per_op, 3),
            "server_rss_mib": round(self.server_rss_mib, 1),
            "reference": self.reference,
            "goal": self.goal,
            "met": self.met,
            "note": self.note,
        }
        if self.baseline is not None:
            record["baseline"] = self.baseline
            record["ratio"] = self.ratio
        if self.latency is not None:
            record["latency"] = self.latency
        return record

    def _per_op(self, seconds: float) -> float:
        return seconds / self.ops * US if self.ops else 0.0
