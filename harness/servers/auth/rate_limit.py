"""How often somebody may get a password wrong.

Each account and each remote address has a bucket of failures that refills steadily.
Sign-ins that succeed cost nothing, so a suite that signs in a thousand users is never
slowed down while guessing is.
"""

from __future__ import annotations

from harness.clock import Clock

__all__ = ["FailureLimit"]

BUCKETS = 10_000  # kept; those with the fewest failures go first
SECONDS_PER_PERIOD = 300.0


class FailureLimit:
    """Allows each key a burst of ``per_5_minutes`` failures, then as they refill."""

    def __init__(
        self, clock: Clock, per_5_minutes: int, *, buckets: int = BUCKETS
    ) -> None:
        self._clock = clock
        self._buckets = buckets
        self._capacity = float(per_5_minutes)
        self._refill_per_s = per_5_minutes / SECONDS_PER_PERIOD
        self._spent: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return how many keys have failures counted."""
        return len(self._spent)

    def wait_s(self, key: str) -> float:
        """Return how long ``key`` must wait before the next try; 0 for not at all."""
        over = self._failures(key) + 1 - self._capacity
        return max(0.0, over / self._refill_per_s)

    def fail(self, key: str) -> None:
        """Count a failure of ``key``."""
        if len(self._spent) >= self._buckets:
            self._forget()
        self._spent[key] = (self._failures(key) + 1, self._clock.monotonic_s())

    def _failures(self, key: str) -> float:
        failures, at_s = self._spent.get(key, (0.0, 0.0))
        passed_s = self._clock.monotonic_s() - at_s
        return max(0.0, failures - passed_s * self._refill_per_s)

    def _forget(self) -> None:
        # Those with the fewest failures left lose nothing, or next to it.
        fewest = sorted(self._spent, key=self._failures)
        for key in fewest[: self._buckets // 2]:
            del self._spent[key]
