"""Which parent a row is best hung on: one that the table's own policies ask for.

A review may be written of an order that is released and the reviewer's; a world in
which no review hangs on such an order would never see the policy admit anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Protocol, TypeVar

from harness.db.catalog import Name
from harness.policies.comparisons import Col, Const, Uid
from harness.policies.mining import Mined

__all__ = ["ParentChoice", "stride"]

Asked = tuple[str, Const | Uid]


class Hanging(Protocol):
    """What is needed of a planned row."""

    @property
    def table(self) -> Name:
        """The row's table."""
        ...

    @property
    def values(self) -> Mapping[str, str | None]:
        """The row's values."""
        ...


R = TypeVar("R", bound=Hanging)


@dataclass
class ParentChoice:
    """Sorts parents by how much of what policies ask for holds for them."""

    mined: Mined
    _asked: dict[tuple[Name, Name], tuple[Asked, ...]] = field(default_factory=dict)

    def sorted(self, table: Name, rows: Sequence[R], user: str) -> list[R]:
        """Return parents of a row of ``user`` in ``table``, the best first."""
        return sorted(rows, key=lambda row: -self._holding(table, row, user))

    def _holding(self, table: Name, row: Hanging, user: str) -> int:
        key = (table, row.table)
        if key not in self._asked:
            self._asked[key] = tuple(dict.fromkeys(self._of(*key)))
        return sum(
            row.values.get(column)
            in (term.values if isinstance(term, Const) else (user,))
            for column, term in self._asked[key]
        )

    def _of(self, table: Name, parent: Name) -> Iterator[Asked]:
        for (name, _), reading in self.mined.policy_readings.items():
            comparisons = reading.comparisons if name == table else ()
            for comparison in comparisons:
                for left, right in comparison.pairs():
                    if not isinstance(left, Col) or left.table != parent:
                        continue
                    if isinstance(right, (Const, Uid)):
                        yield left.column, right


def stride(count: int) -> int:
    """Return a step, about a third of ``count``, that reaches every place."""
    step = max(1, count // 3)
    while gcd(step, count) > 1:
        step += 1
    return step
