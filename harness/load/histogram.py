"""Latency histograms: microseconds in, percentiles out, merged without loss.

A thin shell around HdrHistogram with one fixed layout (1 us to 10 minutes, 3
significant digits), so that any two merge exactly, whichever worker made them.  The
text form is the standard compressed V2 encoding in base64, readable by every
HdrHistogram tool.
"""

from __future__ import annotations

import binascii
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

from harness.errors import ReportError
from harness.events import LatencySummary

__all__ = ["LatencyHistogram"]

LOWEST_US = 1
HIGHEST_US = 600_000_000
SIGNIFICANT_DIGITS = 3
US_PER_MS = 1000.0
BUCKET_BITS = 11  # HdrHistogram keeps so many leading bits for 3 significant digits


class LatencyHistogram:
    """Counts of latencies; values outside the range count at its ends."""

    def __init__(self) -> None:
        self._hdr: Any = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)

    def record_us(self, latency_us: int, count: int = 1) -> None:
        """Count one latency ``count`` times."""
        clamped = min(max(latency_us, LOWEST_US), HIGHEST_US)
        self._hdr.record_value(clamped, count)

    def record_many_us(self, latencies_us: Iterable[int]) -> None:
        """Count many latencies, those of one bucket in one go."""
        for latency_us, count in Counter(map(_bucket_us, latencies_us)).items():
            self.record_us(latency_us, count)

    def merge(self, other: LatencyHistogram) -> None:
        """Add the counts of ``other``; exact, as both have one layout."""
        self._hdr.add(other._hdr)

    @property
    def count(self) -> int:
        """How many latencies were counted."""
        return int(self._hdr.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        """Return the value in milliseconds that ``percentile`` per cent are within."""
        if not self.count:
            return 0.0
        return float(self._hdr.get_value_at_percentile(percentile)) / US_PER_MS

    @property
    def max_ms(self) -> float:
        """The largest latency, within the precision of the layout."""
        return float(self._hdr.get_max_value()) / US_PER_MS if self.count else 0.0

    def summary(self) -> LatencySummary:
        """Return the percentiles that reports show."""
        return LatencySummary(
            count=self.count,
            p50_ms=self.percentile_ms(50),
            p90_ms=self.percentile_ms(90),
            p95_ms=self.percentile_ms(95),
            p99_ms=self.percentile_ms(99),
            max_ms=self.max_ms,
        )

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield (milliseconds, count) of every bucket in use, ascending."""
        for bucket in self._hdr.get_recorded_iterator():
            yield (
                bucket.value_iterated_to / US_PER_MS,
                bucket.count_at_value_iterated_to,
            )

    def encode(self) -> str:
        """Return the standard text form ('' when nothing was counted)."""
        return self._hdr.encode().decode("ascii") if self.count else ""

    @classmethod
    def decode(cls, text: str) -> LatencyHistogram:
        """Read what :meth:`encode` wrote; raises :class:`ReportError` on other text."""
        histogram = cls()
        if not text:
            return histogram
        try:
            histogram._hdr.decode_and_add(text)
        except (
            HdrCookieException,
            HdrLengthException,
            binascii.Error,
            zlib.error,
            ValueError,
            IndexError,
        ) as exc:
            raise ReportError(f"not a latency histogram: {text[:40]!r}") from exc
        return histogram


def _bucket_us(latency_us: int) -> int:
    """Return the lowest value that HdrHistogram counts in the same bucket."""
    spare = latency_us.bit_length() - BUCKET_BITS
    return latency_us if spare <= 0 else latency_us >> spare << spare
