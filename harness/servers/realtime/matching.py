"""Which changes of a batch match the event and filters of a watch.

Conditions on types whose text tells everything are decided here, once per distinct
filter and batch; the rest (collations, patterns, intervals) PostgreSQL decides for all
values at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import asyncpg

from harness.protocols.pgoutput import Change, Unchanged
from harness.protocols.realtime_filters import Filter, Predicate, predicate
from harness.servers.realtime.subscriptions import ANY, Watch
from harness.servers.realtime.tables import Column, Table

__all__ = ["Matcher"]

SQL_OPERATORS = {
    "eq": "v = $2::text::{type}",
    "neq": "v <> $2::text::{type}",
    "lt": "v < $2::text::{type}",
    "lte": "v <= $2::text::{type}",
    "gt": "v > $2::text::{type}",
    "gte": "v >= $2::text::{type}",
    "in": "v = any($2::text::{type}[])",
    "isdistinct": "v is distinct from $2::text::{type}",
    "like": "v::text like $2",
    "ilike": "v::text ilike $2",
    "match": "v::text ~ $2",
    "imatch": "v::text ~* $2",
}
DATES = frozenset({"date", "timestamp", "timestamptz"})
FILTER_TIMEOUT_S = 1.0
TOO_SLOW = "a filter takes too long"
Positions = frozenset[int]


log = logging.getLogger(__name__)


class Matcher:
    """The changes of one table in one batch, matched against watches.

    ``broken`` are the watches whose filters could not be decided, with the reasons.
    """

    def __init__(
        self,
        table: Table,
        changes: Sequence[Change],
        connection: asyncpg.Connection[asyncpg.Record],
    ) -> None:
        self._table = table
        self._changes = changes
        self._connection = connection
        self._all = frozenset(range(len(changes)))
        self.broken: dict[Watch, str] = {}
        self._by_event: dict[str, Positions] = {ANY: self._all}
        self._by_filter: dict[Filter, Positions] = {}
        self._by_watch: dict[Watch, Positions] = {}
        self._values: dict[str, list[str | Unchanged | None]] = {}

    async def positions(self, watch: Watch) -> Positions:
        """Return the positions of the changes that ``watch`` is to see."""
        positions = self._by_watch.get(watch)
        if positions is None:
            try:
                positions = self._of_event(watch.event)
                for condition in watch.filters:
                    positions &= await self._of_filter(condition)
            except (asyncpg.PostgresError, TimeoutError) as exc:
                if self._connection.is_closed():
                    raise
                # One subscriber's filter is no reason for others to miss anything.
                log.warning("a filter failed: %s", exc)
                self.broken[watch] = str(exc) or TOO_SLOW
                positions = frozenset()
            self._by_watch[watch] = positions
        return positions

    def known(self, watch: Watch) -> Positions:
        """Return what :meth:`positions` found for ``watch``."""
        return self._by_watch[watch]

    def _of_event(self, event: str) -> Positions:
        found = self._by_event.get(event)
        if found is None:
            found = self._by_event[event] = frozenset(
                position
                for position, change in enumerate(self._changes)
                if change.operation == event
            )
        return found

    async def _of_filter(self, condition: Filter) -> Positions:
        found = self._by_filter.get(condition)
        if found is None:
            found = self._by_filter[condition] = await self._decide(condition)
        return found

    async def _decide(self, condition: Filter) -> Positions:
        column = self._table.by_name.get(condition.column)
        if column is None:
            return frozenset()
        values = self._column_values(column)
        holds = await self._predicate(condition, column)
        if holds is None:
            return await self._decide_in_sql(condition, column, values)
        return frozenset(
            position
            for position, value in enumerate(values)
            if not isinstance(value, Unchanged) and holds(value)
        )

    def _column_values(self, column: Column) -> list[str | Unchanged | None]:
        values = self._values.get(column.name)
        if values is None:
            values = _values(self._changes, self._table, column)
            self._values[column.name] = values
        return values

    async def _predicate(self, condition: Filter, column: Column) -> Predicate | None:
        known = self._table.predicates
        if condition not in known:
            canonical = await self._canonical(condition, column)
            known[condition] = predicate(canonical, self._comparable(column))
        found: Predicate | None = known[condition]
        return found

    def _comparable(self, column: Column) -> str:
        """Return the type whose text tells everything, '' where SQL has to compare."""
        if column.comparable in DATES:
            # The stream prints dates as ISO; here they look as the database likes them.
            style = self._connection.get_settings().DateStyle
            return column.comparable if style.startswith("ISO") else ""
        return column.comparable

    async def _canonical(self, condition: Filter, column: Column) -> Filter:
        """Return the filter with its value as PostgreSQL prints it."""
        if condition.op in ("is", "like", "ilike", "match", "imatch"):
            return condition
        array = "[]" if condition.op == "in" else ""
        value = await self._connection.fetchval(
            # The type's own output, which a cast to text is not always.
            f"select format('%s', $1::text::{column.sql_type}{array})",
            condition.value,
        )
        return condition._replace(value=value)

    async def _decide_in_sql(
        self,
        condition: Filter,
        column: Column,
        values: list[str | Unchanged | None],
    ) -> Positions:
        known = [
            (position, value)
            for position, value in enumerate(values)
            if not isinstance(value, Unchanged)
        ]
        test = SQL_OPERATORS[condition.op].format(type=column.sql_type)
        negation = "not " if condition.negate else ""
        found = await self._connection.fetchval(
            "select array_agg(i - 1) from"
            f" unnest($1::text[]::{column.sql_type}[]) with ordinality as u (v, i)"
            f" where {negation}({test})",
            [value for _, value in known],
            condition.value,
            timeout=FILTER_TIMEOUT_S,
        )
        return frozenset(known[i][0] for i in found or ())


def _values(
    changes: Sequence[Change], table: Table, column: Column
) -> list[str | Unchanged | None]:
    """Return the column's value in each change: new ones, old ones for deletes."""
    relation = table.relation
    if column.name not in relation.columns:
        return [Unchanged()] * len(changes)
    index = relation.columns.index(column.name)
    is_identity = relation.key_columns[index]
    values: list[str | Unchanged | None] = []
    for change in changes:
        if change.new is not None:
            values.append(change.new[index])
        elif change.old is not None and (change.old_is_full or is_identity):
            values.append(change.old[index])
        else:
            # Not in the log: no filter on it can hold.
            values.append(Unchanged())
    return values
