"""The changes of one table within a batch: what they are and what has to be judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from harness.protocols.pgoutput import Change, Relation, Unchanged
from harness.protocols.phoenix import encode_json
from harness.servers.realtime.matching import Matcher
from harness.servers.realtime.settings import RealtimeSettings
from harness.servers.realtime.subscriptions import Subscription, Watch
from harness.servers.realtime.tables import Table

__all__ = ["NONE", "Item", "Positions", "TableBatch", "by_relation"]

MAX_CAST_VALUES = 10_000
Positions = frozenset[int]
NONE: Positions = frozenset()


@dataclass(slots=True)
class Item:
    """One change with its transaction; ``place`` is its place in the batch."""

    change: Change
    commit_us: int
    xid: int
    commit_lsn: int
    place: int = 0


class TableBatch:
    """Changes of ``table``, known by their positions.

    ``rows`` are inserts and updates, ``deletes`` the rest; ``judged`` are the rows that
    policies decide about, ``judged_old`` those whose old row they decide about.
    """

    def __init__(
        self,
        table: Table,
        items: Sequence[Item],
        connection: asyncpg.Connection[asyncpg.Record],
        settings: RealtimeSettings,
    ) -> None:
        self.table = table
        self.items = items
        self.settings = settings
        self.connection = connection
        changes = [item.change for item in items]
        self.matcher = Matcher(table, changes, connection)
        self.rows = frozenset(
            i for i, change in enumerate(changes) if change.new is not None
        )
        self.deletes = frozenset(range(len(items))) - self.rows
        is_secured = table.has_row_security
        self.judged = self.rows if is_secured and table.key else NONE
        self.judged_old = NONE
        if is_secured and not settings.compat:
            # Old values can be judged where the log holds the whole old row.
            self.judged_old = frozenset(
                i for i, change in enumerate(changes) if change.old_is_full
            )

    async def wanted(self, watches: Iterable[Watch]) -> Positions:
        """Return the changes that any of ``watches`` matches."""
        found = [await self.matcher.positions(watch) for watch in watches]
        return NONE.union(*found)

    def covered(self, subscription: Subscription) -> Positions:
        """Return the changes that were committed while it was subscribed."""
        since, until = subscription.since_lsn, subscription.until_lsn
        return frozenset(
            row
            for row, item in enumerate(self.items)
            if since <= item.commit_lsn < until
        )

    def key_of(self, position: int) -> tuple[str, ...]:
        """Return the primary key of a new row."""
        row = self.items[position].change.new or ()
        return tuple([str(row[place]) for place in self.table.key_places])

    def old_row_of(self, position: int) -> tuple[str, ...]:
        """Return the old row as one JSON object that PostgreSQL can read back."""
        change = self.items[position].change
        members = []
        names = self.table.relation.columns
        for name, value in zip(names, change.old or (), strict=True):
            column = self.table.by_name.get(name)
            if column is None or value is None or isinstance(value, Unchanged):
                continue
            # JSON columns take JSON; everything else its own text.
            text = value.encode() if column.form == "verbatim" else encode_json(value)
            members.append(encode_json(name) + b":" + text)
        return ((b"{" + b",".join(members) + b"}").decode(),)

    async def convert_values(self) -> None:
        """Let PostgreSQL write the JSON of values that only it can write."""
        table = self.table
        if len(table.cast) > MAX_CAST_VALUES:
            table.cast.clear()
        texts: defaultdict[str, set[str]] = defaultdict(set)
        for index, name in enumerate(table.relation.columns):
            column = table.by_name.get(name)
            if column is None or column.form != "sql":
                continue
            for item in self.items:
                for row in (item.change.new, item.change.old):
                    if row is not None and isinstance(value := row[index], str):
                        texts[column.sql_type].add(value)
        for sql_type, values in texts.items():
            records = await self.connection.fetch(
                f"select t, to_jsonb(t::{sql_type})::text as j"
                " from unnest($1::text[]) as t",
                list(values),
            )
            for record in records:
                table.cast[sql_type, record["t"]] = record["j"].encode()


def by_relation(items: Iterable[Item]) -> list[tuple[Relation, list[Item]]]:
    """Return the items of a batch by table, each table's in commit order."""
    found: dict[int, tuple[Relation, list[Item]]] = {}
    for item in items:
        relation = item.change.relation
        entry = found.get(id(relation))
        if entry is None:
            entry = found[id(relation)] = (relation, [])
        entry[1].append(item)
    return list(found.values())
