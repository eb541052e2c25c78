"""The smallest database on which two versions disagree about one statement.

The shrinker of a check asks one database whether a case still shows its fault; here a
case shows only if one version meets its expectation and the other does not.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from harness.events import Witness
from harness.policies.cases import Case
from harness.policies.diff_changes import Change
from harness.policies.diff_world import Pair
from harness.policies.population import Population, StoredRow
from harness.policies.probing import Answer, Attempt, Prober
from harness.policies.shrinking import Shrinker
from harness.policies.witness import write_witness

__all__ = ["Contrast"]

AGREED = Answer(sqlstate="HPAGR", message="both versions say the same")


class _ContrastProber(Prober):
    """Answers as the version that shows the case, if the other one does not."""

    def __init__(self, shows: Prober, other: Prober) -> None:
        super().__init__(shows.connection)
        self._shows, self._other = shows, other
        self.case: Case | None = None

    async def attempt(self, attempt: Attempt) -> Answer:
        """Ask both versions."""
        shown, other = await asyncio.gather(
            self._shows.attempt(attempt), self._other.attempt(attempt)
        )
        assert self.case is not None
        return AGREED if self.case.expectation.holds(other) else shown


class Contrast:
    """Shrinks changes on two databases without any world in them."""

    def __init__(self, base: Prober, head: Prober, pair: Pair) -> None:
        self._base, self._head = base, head
        self._pair = pair
        tables = {
            name: tuple(map(self._common, rows.values()))
            for name, rows in pair.rows.items()
        }
        self._population = Population(pair.base.population.world, tables)

    async def witness(self, change: Change) -> Witness | None:
        """Return the smallest witness of ``change``."""
        if change.case is None:
            return None
        if change.is_new:
            return await self._witness_of_new(change.case)
        rows = tuple(map(self._common, change.case.rows))
        case = replace(change.case, rows=(*rows, *self._referred(change.case)))
        sides = (self._head, self._base)
        if change.direction == "narrowed":
            sides = (self._base, self._head)
        prober = _ContrastProber(*sides)
        prober.case = case
        shrinker = Shrinker(
            prober, self._pair.common, self._pair.ownership, self._population
        )
        shrunk = await shrinker.shrink(_without_copied(case))
        if not shrunk.reproduced:
            shrunk = await shrinker.shrink(case)
        return write_witness(shrunk, self._pair.common)

    async def _witness_of_new(self, case: Case) -> Witness:
        """Shrink on HEAD alone: BASE has nothing to ask."""
        catalog, population = self._pair.head.catalog, self._pair.head.population
        shrinker = Shrinker(self._head, catalog, self._pair.ownership, population)
        return write_witness(await shrinker.shrink(case), catalog)

    def _referred(self, case: Case) -> list[StoredRow]:
        """Return the rows that the values of the last statement refer to."""
        last = case.steps[-1]
        relation = self._pair.common.relations.get(last.target) if last.target else None
        return [
            row
            for key in (relation.foreign_keys if relation else ())
            for row in self._population.of(key.target)
            if set(key.columns) <= set(last.values)
            and [last.values[column] for column in key.columns]
            == [row.text(column) for column in key.target_columns]
        ]

    def _common(self, row: StoredRow) -> StoredRow:
        """Return ``row`` with the columns that both versions have."""
        relation = self._pair.common.relations[row.table]
        values = {k: v for k, v in row.values.items() if relation.has_column(k)}
        return replace(row, values=values)


def _without_copied(case: Case) -> Case:
    """Leave out the rows of which a row to insert is a copy: they may be in its way."""
    last = case.steps[-1]
    if last.action != "insert":
        return case
    rows = tuple(row for row in case.rows if row.table != last.target)
    return replace(case, rows=rows)
