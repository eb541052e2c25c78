"""Which new rows to try: copies of stored rows of every owner under fresh keys.

They are inserted as they are, with the caller named as the owner, with one parent of
another's row, with columns that one version alone grants, with the fewest columns where
defaults or triggers fill in the rest, and over the rows that they copy (ON CONFLICT).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from harness.db.catalog import Column, Relation, quote_identifier
from harness.policies.diff_world import Pair
from harness.policies.diff_write import Write, bound_columns, spread
from harness.policies.ownership import Part, TableOwnership
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Trial
from harness.policies.values import literal

__all__ = ["new_rows"]

Values = dict[str, str | None]
MAX_INSERTED = 16
MAX_UPSERTED = 4
MAX_PARTIAL = 2
MAX_MIXED = 8
ASIDE_BEGINS = "set local session_replication_role = replica"
ASIDE_ENDS = "set local session_replication_role = origin"


def new_rows(
    pair: Pair, trial: Trial, persona: Persona, relation: Relation
) -> Iterator[Write]:
    """Yield INSERTs of one persona into one table."""
    stored = list(pair.rows.get(relation.name, {}).values())
    partly = _granted_by_one(pair, persona, relation)
    rows = spread(stored, MAX_INSERTED)
    planners = [_Planner(pair, trial, persona, relation, row) for row in rows]
    for number, planner in enumerate(planners):
        copy = planner.copy()
        own = planner.owned_by_caller(copy)
        yield planner.insert(copy)
        if own != copy:
            yield planner.insert(own, "named as the owner")
        if number < MAX_PARTIAL:
            yield from planner.partial(own, partly)
    mixed = chain.from_iterable(planner.mixed(rows) for planner in planners)
    yield from islice(mixed, MAX_MIXED)
    if relation.name == OBJECTS and stored:
        yield from _Planner(pair, trial, persona, relation, stored[0]).uploads()
    for row in spread(stored, MAX_UPSERTED):
        yield from _Planner(pair, trial, persona, relation, row).upserts()


def _granted_by_one(
    pair: Pair, persona: Persona, relation: Relation
) -> list[tuple[Column, str | None]]:
    """Return columns that the role may set in one version only, with a value."""
    stored = list(pair.rows.get(relation.name, {}).values())
    found = []
    for column in relation.columns:
        if column.generated or column.identity:
            continue
        if len(set(_held(pair, persona, relation, column))) == 2:
            values = (row.text(column.name) for row in stored)
            found.append((column, next(filter(None, values), None)))
    return found


def _held(
    pair: Pair, persona: Persona, relation: Relation, column: Column
) -> tuple[bool, bool]:
    base, head = (
        side.catalog.relations[relation.name].may(persona.role, "INSERT", column.name)
        for side in (pair.base, pair.head)
    )
    return base, head


@dataclass(frozen=True, slots=True)
class _Planner:
    """Plans rows of one persona in the manner of ``row``."""

    pair: Pair
    trial: Trial
    persona: Persona
    relation: Relation
    row: StoredRow

    @property
    def owned(self) -> TableOwnership:
        return self.pair.ownership.of(self.relation.name)

    def insert(self, values: Values, detail: str = "") -> Write:
        return Write(
            persona=self.persona,
            row=self.row,
            step=self.trial.insert_step(self.relation, values),
            command="INSERT",
            aside=_aside(self.relation, self.owned, values),
            detail=detail,
        )

    def owned_by_caller(self, values: Values) -> Values:
        """Name the caller wherever a column names who a row belongs to."""
        own = dict(values)
        for user in self.owned.users if self.persona.sub else ():
            if user.part is not Part.REFERENCE and user.column in own:
                own[user.column] = self.persona.sub
        return own

    def mixed(self, rows: Sequence[StoredRow]) -> Iterator[Write]:
        """Hang the row on what belongs together and, in one place, on another's."""
        own = self.owned_by_caller(self.copy())
        parents = self.owned.parents if len(self.owned.parents) > 1 else ()
        strangers = [row for row in rows if row.clan != self.row.clan]
        for parent in parents:
            for stranger in strangers[:1]:
                swapped = {name: stranger.text(name) for name in parent.columns}
                if swapped.keys() <= own.keys():
                    told = f"with {', '.join(parent.columns)} of another's"
                    yield self.insert({**own, **swapped}, told)

    def partial(
        self, values: Values, partly: Sequence[tuple[Column, str | None]]
    ) -> Iterator[Write]:
        """Try columns that one version grants, and leave the others to defaults."""
        for column, value in partly:
            told = f"with {column.name}"
            yield self.insert({**values, column.name: value}, told)
        if self.relation.name == OBJECTS:
            return
        bound = bound_columns(self.owned)
        fewest = {
            name: value
            for name, value in values.items()
            if name in bound or self.relation.column(name).required
        }
        if fewest != values:
            yield self.insert(fewest, "with defaults")

    def upserts(self) -> Iterator[Write]:
        """Insert the row over itself."""
        key = self.relation.primary_key
        values = {
            column.name: self.row.text(column.name)
            for column in self.relation.columns
            if _settable(self.pair, self.persona, self.relation, column)
            and self.row.values.get(column.name) is not None
        }
        if not key or not set(key) <= values.keys():
            return
        target = f" on conflict ({', '.join(map(quote_identifier, key))}) do "
        actions = ["nothing"]
        changed = [c for c in self._changeable() if c.name in values]
        if changed:
            actions.append(f"update set {changed[0].sql} = excluded.{changed[0].sql}")
        step = self.trial.insert_step(self.relation, values)
        for action in actions:
            yield Write(
                persona=self.persona,
                row=self.row,
                step=step,
                command=f"INSERT ON CONFLICT DO {action.split(' ', 1)[0].upper()}",
                ending=f"{target}{action}",
            )

    def _changeable(self) -> Iterator[Column]:
        """Yield columns that both versions let the role update, plain ones first."""
        bound = bound_columns(self.owned) | set(self.relation.primary_key)
        for column in sorted(self.relation.columns, key=lambda c: c.name in bound):
            granted = all(
                side.catalog.relations[self.relation.name].may(
                    self.persona.role, "UPDATE", column.name
                )
                for side in (self.pair.base, self.pair.head)
            )
            if granted and not column.generated and not column.identity:
                yield column

    def copy(self) -> Values:
        """Copy the row under new keys, within what both versions let the role set."""
        bound = bound_columns(self.owned)
        keys = self.relation.unique_keys
        unique = {c for key in keys for c in key.columns} - bound
        values: Values = {}
        for column in self.relation.columns:
            if not _settable(self.pair, self.persona, self.relation, column):
                continue
            if column.name in unique:
                drawn = column.default and column.name in self.relation.primary_key
                if not drawn:
                    values[column.name] = self.pair.values.fresh(self.relation, column)
            elif self.row.values.get(column.name) is not None:
                values[column.name] = self.row.text(column.name)
        if self.relation.name == OBJECTS:
            values |= self._object()
            values.pop("metadata", None)
        return values

    def uploads(self) -> Iterator[Write]:
        """Name new files in every place that a policy could take for the caller's."""
        mine = self.persona.sub
        others = [
            user.id
            for user in self.pair.base.population.world.cast.users
            if user.id != mine and user.rows
        ]
        other = others[-1] if others else "other"
        folders = ["", f"{other}/", "shared/"]
        if mine:
            folders += [f"{mine}/", f"{other}/{mine}/", f"{mine}/{other}/"]
            folders += [f"shared/{mine}/", f"a/b/{mine}/"]
        for bucket in self.pair.union.buckets:
            for folder in folders:
                values = {
                    **self._object(),
                    "bucket_id": bucket.id,
                    "name": f"{folder}new{self.pair.values.drawn}.png",
                }
                yield self.insert(values, f"as {folder or 'the root'} of {bucket.id}")

    def _object(self) -> Values:
        """Name a new file beside the stored one, as the Storage API does."""
        folder, _, _ = (self.row.text("name") or "").rpartition("/")
        file = f"new{self.pair.values.drawn}.png"
        return {
            "bucket_id": self.row.text("bucket_id"),
            "name": f"{folder}/{file}" if folder else file,
            "owner": self.persona.sub or None,
            "owner_id": self.persona.sub or None,
        }


def _settable(pair: Pair, persona: Persona, relation: Relation, column: Column) -> bool:
    base, head = _held(pair, persona, relation, column)
    return not column.generated and not column.identity and base and head


def _aside(
    relation: Relation, owned: TableOwnership, values: Values
) -> tuple[str, ...]:
    """Return statements that remove rows with the same unavoidable key."""
    bound = bound_columns(owned)
    deletes = []
    for key in relation.unique_keys:
        fixed = key.columns and not key.expression and set(key.columns) <= bound
        if not fixed or any(values.get(column) is None for column in key.columns):
            continue
        where = " and ".join(
            f"{quote_identifier(c)} = {literal(values[c])}" for c in key.columns
        )
        deletes.append(f"delete from {relation.name.sql} where {where}")
    return (ASIDE_BEGINS, *deletes, ASIDE_ENDS) if deletes else ()
