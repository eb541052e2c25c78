"""What each watcher of a table gets of a batch: judged by PostgreSQL, framed once.

All holders of claims of one role are judged together.  Each change is encoded once for
each set of columns and framed once for all channels that get the same frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import asyncpg

from harness.protocols.phoenix import Serializer, encode_json
from harness.protocols.websocket import OP_TEXT, encode_frame
from harness.servers.realtime.batch import NONE, Positions, TableBatch
from harness.servers.realtime.payloads import (
    NO_KEY,
    UNAUTHORIZED,
    ChangeEncoder,
    refused,
)
from harness.servers.realtime.subscriptions import Subscription
from harness.servers.realtime.visibility import Question, Verdict, VisibilityChecker
from harness.servers.realtime.watchers import Holder, RoleWatchers, TableWatchers

__all__ = ["Frame", "Letter", "write_letters"]

# NULL when the role may read them all.
COLUMNS_SQL = """
select case when not may_enter or not has_table_privilege($2, $1::oid, 'SELECT')
    then array(
        select a.attname from pg_catalog.pg_attribute a
        where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
            and may_enter and has_column_privilege($2, $1::oid, a.attnum, 'SELECT'))
    end
from (select has_schema_privilege($2, c.relnamespace, 'USAGE')
        and pg_has_role('authenticator', $2, 'MEMBER') as may_enter
    from pg_catalog.pg_class c where c.oid = $1) as role
"""


class Frame(NamedTuple):
    """A framed change and its place in the batch."""

    place: int
    data: bytes


class Letter(NamedTuple):
    """What one channel gets of a table: frames, and how many changes were lost.

    ``ends`` tells that the subscription cannot go on.
    """

    subscription: Subscription
    frames: Sequence[Frame]
    lost: int = 0
    reason: str = ""
    ends: bool = False


async def write_letters(
    batch: TableBatch, watchers: TableWatchers, checker: VisibilityChecker
) -> list[Letter]:
    """Return what each subscription gets of this table's changes."""
    letters: list[Letter] = []
    first, last = batch.items[0].commit_lsn, batch.items[-1].commit_lsn
    all_covered = watchers.newest_lsn <= first and last < watchers.oldest_lsn
    for role in watchers.roles.values():
        wanted = [await batch.wanted(watches) for watches in role.kinds]
        letters += _endings(batch, role)
        if not any(wanted):
            continue
        await batch.convert_values()
        delivery = _RoleDelivery(batch, role, wanted)
        try:
            await delivery.judge(checker)
        except asyncpg.PostgresError as exc:
            if batch.connection.is_closed():
                raise
            # The role is gone, for instance; others have nothing to do with it.
            letters += delivery.refusals(str(exc))
        else:
            letters += delivery.letters(all_covered=all_covered)
    return letters


def _endings(batch: TableBatch, role: RoleWatchers) -> list[Letter]:
    """Return the ends of subscriptions whose filters cannot be decided."""
    broken = batch.matcher.broken
    if not broken:
        return []
    reasons = [
        next((broken[watch] for watch in watches if watch in broken), "")
        for watches in role.kinds
    ]
    return [
        Letter(member, (), reason=reasons[cohort.kind], ends=True)
        for holder in role.holders
        for cohort in holder.cohorts
        if reasons[cohort.kind]
        for member in cohort.members
    ]


class _RoleDelivery:
    """A table's batch for the watchers of one role.

    ``wanted`` are the rows that each kind of watches matches.
    """

    def __init__(
        self, batch: TableBatch, role: RoleWatchers, wanted: list[Positions]
    ) -> None:
        self._batch = batch
        self._role = role
        self._wanted = wanted
        self._new = Verdict()
        self._old = Verdict()
        self._columns: frozenset[str] = frozenset()
        self._refused = NONE
        self._shared: dict[tuple[object, ...], list[Frame]] = {}
        self._data: dict[tuple[int, frozenset[str], bool], bytes] = {}

    # Judging --------------------------------------------------------------------------

    async def judge(self, checker: VisibilityChecker) -> None:
        """Ask PostgreSQL about rows, old rows and columns."""
        batch = self._batch
        self._new = await self._ask(checker, batch.judged, is_old=False)
        self._old = await self._ask(checker, batch.judged_old, is_old=True)
        columns = self._new.columns
        if not self._new.present and not self._new.columns:
            columns = await self._readable_columns()
        self._columns = batch.table.names if columns is None else columns
        key = batch.table.key
        if not key or not all(column.name in self._columns for column in key):
            self._refused = batch.rows

    async def _ask(
        self, checker: VisibilityChecker, judged: Positions, *, is_old: bool
    ) -> Verdict:
        asked = sorted(judged.intersection(NONE.union(*self._wanted)))
        if not asked:
            return Verdict()
        role, batch = self._role, self._batch
        claims = role.claims
        if not role.is_uniform:
            index = {row: i for i, row in enumerate(asked)}
            claims = [
                holder.claims._replace(members=self._members(holder, index))
                for holder in role.holders
            ]
        subject = batch.old_row_of if is_old else batch.key_of
        question = Question(
            batch.table,
            role.role,
            [subject(row) for row in asked],
            () if is_old else sorted({batch.items[row].xid for row in asked}),
            is_old,
        )
        verdict = await checker.check(question, claims)
        return verdict.renumbered(asked)

    def _members(self, holder: Holder, index: dict[int, int]) -> tuple[int, ...]:
        """Return which of the rows in question the holder asks about."""
        rows = NONE.union(*(self._wanted[kind] for kind in holder.kinds))
        return tuple(sorted(index[row] for row in rows if row in index))

    async def _readable_columns(self) -> frozenset[str] | None:
        table = self._batch.table
        columns = await self._batch.connection.fetchval(
            COLUMNS_SQL, table.relation.oid, self._role.role
        )
        return None if columns is None else frozenset(columns)

    # Writing --------------------------------------------------------------------------

    def letters(self, *, all_covered: bool) -> list[Letter]:
        """Return what each subscription of the role gets.

        ``all_covered`` tells that no subscription began or ended within the batch.
        """
        batch = self._batch
        # What no policy judged is there for everybody.
        open_rows = batch.rows - batch.judged | batch.deletes - batch.judged_old
        open_rows |= self._refused
        failures = self._failures()
        positions: Iterable[int] = range(len(self._role.holders))
        if not open_rows:
            positions = {*self._new.visible, *self._old.visible, *failures}
        letters: list[Letter] = []
        for position in positions:
            seen = self._new.visible.get(position, NONE)
            old = self._old.visible.get(position, NONE)
            failed = failures.get(position, {})
            for cohort in self._role.holders[position].cohorts:
                rows = self._rows(cohort.kind, open_rows, seen, old)
                if not rows and not failed:
                    continue
                wanted = self._wanted[cohort.kind]
                for member in cohort.members:
                    own, due = rows, wanted
                    if not all_covered:
                        due = wanted & batch.covered(member)
                        own = rows & due
                    letters.append(self._letter(member, cohort.kind, own, old))
                    if failed:
                        letters.append(_lost(member, failed, due))
        return letters

    def refusals(self, reason: str) -> list[Letter]:
        """Return that everything was lost which the role's subscriptions wanted."""
        return [
            Letter(member, (), len(due), reason)
            for holder in self._role.holders
            for cohort in holder.cohorts
            for member in cohort.members
            if (due := self._wanted[cohort.kind] & self._batch.covered(member))
        ]

    def _failures(self) -> dict[int, dict[int, str]]:
        """Return the rows that could not be judged, by holder."""
        failed: defaultdict[int, dict[int, str]] = defaultdict(dict)
        for verdict in (self._new, self._old):
            for failure in verdict.failures:
                for row in failure.rows:
                    # An update whose old row was not judged is shown without it.
                    if verdict is self._new or row in self._batch.deletes:
                        failed[failure.claims][row] = failure.text
        return failed

    def _rows(
        self, kind: int, open_rows: Positions, seen: Positions, old: Positions
    ) -> Positions:
        rows = seen | open_rows if open_rows else seen
        if old:
            rows |= self._batch.deletes & old
        return self._wanted[kind] & rows

    def _letter(
        self, member: Subscription, kind: int, rows: Positions, old: Positions
    ) -> Letter:
        channel = member.channel
        serializer = channel.socket.serializer
        key = (channel.topic, serializer, channel.legacy, kind, rows, old)
        frames = self._shared.get(key)
        if frames is None:
            frames = self._shared[key] = self._frames(member, kind, rows, old)
        return Letter(member, frames)

    def _frames(
        self, member: Subscription, kind: int, rows: Positions, old: Positions
    ) -> list[Frame]:
        channel = member.channel
        serializer = channel.socket.serializer
        frames = []
        ids_of_row = self._ids(kind, rows)
        for row in sorted(rows):
            item = self._batch.items[row]
            legacy_event = item.change.operation if channel.legacy else None
            for columns, ids in ids_of_row[row].items():
                data = self._encoded(row, columns, row in old)
                text = _message(serializer, channel.topic, legacy_event, ids, data)
                frames.append(Frame(item.place, encode_frame(OP_TEXT, text)))
        return frames

    def _ids(
        self, kind: int, rows: Positions
    ) -> dict[int, dict[tuple[str, ...] | None, list[int]]]:
        """Return for each row the ids that match, by the columns they ask for."""
        by_row: dict[int, dict[tuple[str, ...] | None, list[int]]]
        by_row = {row: {} for row in rows}
        # Later bindings come first, but whole rows before selections of columns.
        latest_first = self._role.kinds[kind][::-1]
        for watch in sorted(latest_first, key=lambda w: w.columns is not None):
            for row in self._batch.matcher.known(watch) & rows:
                by_row[row].setdefault(watch.columns, []).append(watch.id)
        return by_row

    def _encoded(
        self, row: int, selection: tuple[str, ...] | None, old_is_visible: bool
    ) -> bytes:
        batch, table = self._batch, self._batch.table
        item = batch.items[row]
        if row in self._refused:
            return refused(item.change, UNAUTHORIZED if table.key else NO_KEY)
        columns = self._columns
        if selection is not None:
            columns &= {column.name for column in table.key} | set(selection)
        shows_old = not table.has_row_security or old_is_visible
        if batch.settings.compat and item.change.operation == "UPDATE":
            shows_old = True
        key = row, columns, shows_old
        data = self._data.get(key)
        if data is None:
            encoder = self._encoder(columns)
            data = self._data[key] = encoder.encode(
                item.change, item.commit_us, old_row=shows_old
            )
        return data

    def _encoder(self, columns: frozenset[str]) -> ChangeEncoder:
        table = self._batch.table
        encoder = table.encoders.get(columns)
        if encoder is None:
            limit = self._batch.settings.max_record_bytes
            encoder = ChangeEncoder(table, columns, table.cast, limit)
            table.encoders[columns] = encoder
        assert isinstance(encoder, ChangeEncoder)
        return encoder


def _lost(member: Subscription, failed: dict[int, str], due: Positions) -> Letter:
    lost = [text for row, text in failed.items() if row in due]
    return Letter(member, (), len(lost), lost[0] if lost else "")


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
