"""One batch of changes on its way to its subscribers.

For each table of the batch: match the watches, let PostgreSQL judge what each set of
claims may see, encode each change once per set of columns, frame it once per group of
channels that get the same frames, and hand every channel its frames in commit order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from harness.protocols.pgoutput import Change, Relation, Unchanged
from harness.protocols.phoenix import Serializer, encode_json
from harness.protocols.websocket import OP_TEXT, encode_frame
from harness.servers.realtime.matching import Matcher
from harness.servers.realtime.payloads import ErrorText, encode_change, encode_error
from harness.servers.realtime.settings import RealtimeSettings
from harness.servers.realtime.subscriptions import Subscription, Watch
from harness.servers.realtime.tables import Table
from harness.servers.realtime.visibility import (
    Claims,
    Question,
    Verdict,
    VisibilityChecker,
)

__all__ = ["Item", "Letters", "TableBatch", "by_relation"]

COLUMNS_SQL = """
select a.attname from pg_catalog.pg_attribute a
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
    and has_column_privilege($2, $1, a.attnum, 'SELECT')
"""
Positions = frozenset[int]
NONE: Positions = frozenset()


class Item(NamedTuple):
    """One change with its place in the batch and its transaction."""

    place: int
    change: Change
    commit_us: int
    xid: int
    commit_lsn: int


class Letters(NamedTuple):
    """What one channel gets: frames with their places, and rows that were lost."""

    subscription: Subscription
    frames: Sequence[tuple[int, bytes]]
    failed: int
    failure: str


@dataclass(slots=True)
class _Group:
    """Subscriptions that share role and claims, and the rows they ask about."""

    role: str
    claims_json: str
    sub: str
    members: list[Subscription] = field(default_factory=list)
    wanted: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _View:
    """What one group may see of the batch."""

    columns: frozenset[str]
    visible: Positions
    old_rows: Positions
    refused: Positions
    failed: dict[int, str]


class TableBatch:
    """The changes of one table within a batch."""

    def __init__(
        self,
        table: Table,
        items: Sequence[Item],
        checker: VisibilityChecker,
        connection: asyncpg.Connection[asyncpg.Record],
        settings: RealtimeSettings,
    ) -> None:
        self._table = table
        self._items = items
        self._checker = checker
        self._connection = connection
        self._settings = settings
        changes = [item.change for item in items]
        self._matcher = Matcher(table, changes, connection)
        self._rows = frozenset(
            i for i, change in enumerate(changes) if change.operation != "DELETE"
        )
        self._deletes = frozenset(range(len(items))) - self._rows
        # Old values can be judged where the log holds the whole old row.
        decidable = table.has_row_security and not settings.compat
        self._judged_old = frozenset(
            i for i, change in enumerate(changes) if decidable and change.old_is_full
        )
        self._cast: dict[tuple[str, str], bytes] = {}
        self._data: dict[tuple[int, frozenset[str], bool], bytes] = {}

    async def letters(self, subscriptions: Iterable[Subscription]) -> list[Letters]:
        """Return what each subscription gets of this table's changes."""
        watched: dict[Watch, Positions] = {}
        groups: dict[tuple[str, str], _Group] = {}
        for subscription in subscriptions:
            await self._enlist(subscription, watched, groups)
        by_role: defaultdict[str, list[_Group]] = defaultdict(list)
        for group in groups.values():
            if group.wanted:
                by_role[group.role].append(group)
        await self._convert_values(by_role)
        letters: list[Letters] = []
        for role, some in by_role.items():
            views = await self._views(role, some)
            letters += self._write(some, views, watched)
        return letters

    async def _enlist(
        self,
        subscription: Subscription,
        watched: dict[Watch, Positions],
        groups: dict[tuple[str, str], _Group],
    ) -> None:
        identity = subscription.identity
        group = groups.get(identity.key)
        if group is None:
            group = _Group(identity.role, identity.claims_json, identity.sub)
            groups[identity.key] = group
        group.members.append(subscription)
        relation = self._table.relation
        for watch in subscription.watches:
            if not watch.covers(relation.schema, relation.name):
                continue
            if watch not in watched:
                watched[watch] = await self._matcher.positions(watch)
            group.wanted |= watched[watch]

    def _too_early(self, subscription: Subscription) -> Positions:
        """Return the changes that were committed before it subscribed."""
        since = subscription.since_lsn
        if self._items[0].commit_lsn > since:
            return NONE
        return frozenset(
            row for row, item in enumerate(self._items) if item.commit_lsn <= since
        )

    # Judging --------------------------------------------------------------------------

    async def _views(self, role: str, groups: list[_Group]) -> list[_View]:
        has_key = bool(self._table.key)
        judged = self._rows if has_key and self._table.has_row_security else NONE
        new = await self._judge(role, groups, judged, is_old=False)
        old = await self._judge(role, groups, self._judged_old, is_old=True)
        columns = new.columns if judged else await self._columns(role)
        key_is_readable = all(column.name in columns for column in self._table.key)
        refused = self._rows if not (has_key and key_is_readable) else NONE
        views = []
        for position in range(len(groups)):
            seen = new.visible.get(position, NONE) if judged else self._rows
            seen_old = old.visible.get(position, NONE)
            deletes = (self._deletes - self._judged_old) | (self._deletes & seen_old)
            failed = {
                row: failure.text
                for verdict in (new, old)
                for failure in verdict.failures
                if failure.claims == position
                for row in failure.rows
                # An update whose old row was not judged is shown without it.
                if verdict is new or row in self._deletes
            }
            views.append(
                _View(columns, (seen | deletes) - refused, seen_old, refused, failed)
            )
        return views

    async def _judge(
        self, role: str, groups: list[_Group], rows: Positions, *, is_old: bool
    ) -> Verdict:
        """Judge ``rows`` for each group; positions of the answer are the batch's."""
        wanted = [sorted(rows & group.wanted) for group in groups]
        asked = sorted({row for some in wanted for row in some})
        if not asked:
            return Verdict()
        index = {row: i for i, row in enumerate(asked)}
        claims = [
            Claims(
                group.claims_json,
                group.sub,
                None if len(some) == len(asked) else tuple(index[row] for row in some),
            )
            for group, some in zip(groups, wanted, strict=True)
        ]
        subjects = [self._old(row) if is_old else self._key(row) for row in asked]
        xids = () if is_old else sorted({self._items[row].xid for row in asked})
        question = Question(self._table, role, subjects, xids, is_old)
        verdict = await self._checker.check(question, claims)
        return _renumbered(verdict, asked)

    async def _columns(self, role: str) -> frozenset[str]:
        records = await self._connection.fetch(
            COLUMNS_SQL, self._table.relation.oid, role
        )
        return frozenset(record["attname"] for record in records)

    def _key(self, position: int) -> tuple[str, ...]:
        change = self._items[position].change
        names = self._table.relation.columns
        row = change.new or ()
        return tuple(str(row[names.index(c.name)]) for c in self._table.key)

    def _old(self, position: int) -> tuple[str, ...]:
        """Return the old row as a JSON object that PostgreSQL can read back."""
        change = self._items[position].change
        members = []
        names = self._table.relation.columns
        for name, value in zip(names, change.old or (), strict=True):
            column = self._table.by_name.get(name)
            if column is None or value is None or isinstance(value, Unchanged):
                continue
            # JSON columns take JSON; everything else its own text.
            text = value.encode() if column.form == "verbatim" else encode_json(value)
            members.append(encode_json(name) + b":" + text)
        return ((b"{" + b",".join(members) + b"}").decode(),)

    async def _convert_values(self, by_role: dict[str, list[_Group]]) -> None:
        """Let PostgreSQL write the JSON of values that only it can write."""
        if not by_role:
            return
        names = self._table.relation.columns
        texts: defaultdict[str, set[str]] = defaultdict(set)
        for index, name in enumerate(names):
            column = self._table.by_name.get(name)
            if column is None or column.form != "sql":
                continue
            for item in self._items:
                for row in (item.change.new, item.change.old):
                    if row is not None and isinstance(value := row[index], str):
                        texts[column.sql_type].add(value)
        for sql_type, values in texts.items():
            records = await self._connection.fetch(
                f"select t, to_jsonb(t::{sql_type})::text as j"
                " from unnest($1::text[]) as t",
                list(values),
            )
            for record in records:
                self._cast[sql_type, record["t"]] = record["j"].encode()

    # Writing --------------------------------------------------------------------------

    def _write(
        self,
        groups: list[_Group],
        views: list[_View],
        watched: dict[Watch, Positions],
    ) -> list[Letters]:
        letters = []
        # Channels that would get the same frames share them.
        shared: dict[tuple[object, ...], list[tuple[int, bytes]]] = {}
        for group, view in zip(groups, views, strict=True):
            shared_rows = view.visible | view.refused
            for subscription in group.members:
                early = self._too_early(subscription)
                shown = shared_rows - early
                matches = [
                    (watch, found)
                    # Later bindings come first, as on the hosted service.
                    for watch in reversed(subscription.watches)
                    if watch in watched and (found := watched[watch] & shown)
                ]
                failed = {
                    row: text
                    for row, text in view.failed.items()
                    if row not in early
                    and any(row in watched.get(w, NONE) for w in subscription.watches)
                }
                if not matches and not failed:
                    continue
                channel = subscription.channel
                key = (
                    channel.topic,
                    channel.socket.serializer,
                    channel.legacy,
                    tuple(matches),
                    view.columns,
                    view.old_rows,
                    view.refused,
                )
                frames = shared.get(key)
                if frames is None:
                    frames = shared[key] = self._frames(subscription, matches, view)
                text = next(iter(failed.values()), "")
                letters.append(Letters(subscription, frames, len(failed), text))
        return letters

    def _frames(
        self,
        subscription: Subscription,
        matches: list[tuple[Watch, Positions]],
        view: _View,
    ) -> list[tuple[int, bytes]]:
        by_row: defaultdict[int, dict[tuple[str, ...] | None, list[int]]]
        by_row = defaultdict(dict)
        # Whole rows go before selections of columns.
        for watch, found in sorted(matches, key=lambda m: m[0].columns is not None):
            for row in found:
                by_row[row].setdefault(watch.columns, []).append(watch.id)
        channel = subscription.channel
        frames = []
        for row in sorted(by_row):
            item = self._items[row]
            for columns, ids in by_row[row].items():
                data = self._encoded(row, columns, view)
                text = _message(
                    channel.socket.serializer,
                    channel.topic,
                    item.change.operation if channel.legacy else None,
                    ids,
                    data,
                )
                frames.append((item.place, encode_frame(OP_TEXT, text)))
        return frames

    def _encoded(
        self, row: int, selection: tuple[str, ...] | None, view: _View
    ) -> bytes:
        item = self._items[row]
        if row in view.refused:
            error = ErrorText.UNAUTHORIZED if self._table.key else ErrorText.NO_KEY
            return encode_error(item.change, self._table, error)
        columns = view.columns
        if selection is not None:
            keys = {column.name for column in self._table.key}
            columns = columns & (keys | set(selection))
        old_row = not self._table.has_row_security or row in view.old_rows
        if self._settings.compat and item.change.operation == "UPDATE":
            old_row = True
        cached = self._data.get((row, columns, old_row))
        if cached is None:
            cached = self._data[row, columns, old_row] = encode_change(
                item.change,
                self._table,
                item.commit_us,
                columns,
                old_row=old_row,
                max_bytes=self._settings.max_record_bytes,
                cast=self._cast,
            )
        return cached


def _renumbered(verdict: Verdict, asked: list[int]) -> Verdict:
    """Return ``verdict`` with positions in the batch instead of among those asked."""
    return Verdict(
        columns=verdict.columns,
        visible={
            claims: frozenset(asked[row] for row in rows)
            for claims, rows in verdict.visible.items()
        },
        failures=[
            failure._replace(rows=tuple(asked[row] for row in failure.rows))
            for failure in verdict.failures
        ],
    )


def _message(
    serializer: Serializer,
    topic: str,
    legacy_event: str | None,
    ids: list[int],
    data: bytes,
) -> bytes:
    if legacy_event is not None:
        return serializer.push(None, topic, legacy_event, data)
    payload = b'{"ids":%b,"data":%b}' % (encode_json(ids), data)
    return serializer.push(None, topic, "postgres_changes", payload)


def by_relation(items: Iterable[Item]) -> dict[int, tuple[Relation, list[Item]]]:
    """Return the items of a batch by table, each table's in commit order."""
    found: dict[int, tuple[Relation, list[Item]]] = {}
    for item in items:
        relation = item.change.relation
        found.setdefault(id(relation), (relation, []))[1].append(item)
    return found
