"""New values for the rows of a stored world, drawn at random from what decides.

A planned world gives columns their values in step with each other, so that two of them
may never meet in the one combination that tells two versions apart.  Here every row
takes, column by column and by chance, one of the values that policies, checks and
bodies mention, a number or a time on either side of what they may be compared with, or
another parent.  Whose a row is, its tenant and its key stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from harness.db.catalog import Column, Name, Relation
from harness.policies.comparisons import Col
from harness.policies.mining import Mined
from harness.policies.ownership import Ownership, Part
from harness.policies.population import StoredRow
from harness.policies.values import FUTURE, NUMBER_TYPES, PAST, TIME_TYPES, Values

__all__ = ["RowShuffler"]

MOVED = 0.6
WANTED = 0.75
REMOVED = 0.3
NUMBERS = ("1", "100", "1000000")
AROUND_NOW = (
    timedelta(minutes=-5),
    timedelta(minutes=5),
    timedelta(hours=-12),
    timedelta(hours=12),
    timedelta(days=-5),
    timedelta(days=5),
    timedelta(days=-60),
    timedelta(days=60),
)
MAX_HELD = 12
GROVE = 8  # rows below one root

Assignment = Mapping[str, str | None]


@dataclass
class RowShuffler:
    """Draws assignments for the rows of ``tables``; deterministic by ``random``.

    ``text`` is all that policies and bodies say, in small letters.
    """

    tables: Mapping[Name, Relation]
    rows: Mapping[Name, Sequence[StoredRow]]
    mined: Mined
    ownership: Ownership
    values: Values
    random: Random
    now: datetime
    text: str
    grown: dict[tuple[Name, str], list[str]] = field(default_factory=dict)

    def assignments(
        self, relation: Relation, row: StoredRow, place: int
    ) -> list[Assignment]:
        """Return what to set in a row: each column, or columns that go together."""
        moved = [
            self._together(listed)
            for listed in self._links(relation, place)
            if self.random.random() < MOVED
        ]
        return [*moved, *self._plain(relation), *self._branch(relation, row, place)]

    def removed(self, relation: Relation) -> bool:
        """Say whether a row goes; only what nothing else may refer to does."""
        referred = any(
            key.target == relation.name
            for other in self.tables.values()
            for key in other.foreign_keys
        )
        looked_up = relation.name in self.mined.helper_tables
        return looked_up and not referred and self.random.random() < REMOVED

    def _together(self, choices: Mapping[str, Sequence[str | None]]) -> Assignment:
        place = self.random.randrange(len(next(iter(choices.values()))))
        return {name: listed[place] for name, listed in choices.items()}

    # -- links ---------------------------------------------------------------------

    def _links(
        self, relation: Relation, place: int
    ) -> Iterator[Mapping[str, Sequence[str | None]]]:
        """Yield the keys of other parents; in a tree, those of rows that come first."""
        owned = self.ownership.of(relation.name)
        kept = {*relation.primary_key, *owned.tenants}
        kept |= {u.column for u in owned.users if u.part is not Part.REFERENCE}
        for key in relation.foreign_keys:
            if not key.columns or kept & set(key.columns):
                continue
            rows = self.rows.get(key.target, ())
            if key.target == relation.name:
                rows = rows[:place][-2:]
            if not rows:
                continue
            pairs = zip(key.columns, key.target_columns, strict=True)
            listed = {name: [row.text(t) for row in rows] for name, t in pairs}
            if all(not relation.column(name).not_null for name in key.columns):
                listed = {name: [*found, None] for name, found in listed.items()}
            yield listed

    def _branch(
        self, relation: Relation, row: StoredRow, place: int
    ) -> Iterator[Assignment]:
        """Hang a label of a tree below that of one of the rows just before."""
        for column in relation.columns:
            if column.base_type.rpartition(".")[2] != "ltree":
                continue
            grown = self.grown.setdefault((relation.name, column.name), [])
            above = [*grown[-2:], None] if place % GROVE else []
            stem = self.random.choice(above) if above else None
            own = (row.text(column.name) or "").rpartition(".")[2]
            path = f"{stem}.{own}" if stem else own
            grown.append(path)
            if path:
                yield {column.name: path}

    # -- plain columns -------------------------------------------------------------

    def _plain(self, relation: Relation) -> Iterator[Assignment]:
        owned = self.ownership.of(relation.name)
        kept = {c for key in relation.unique_keys for c in key.columns}
        kept |= {c for key in relation.foreign_keys for c in key.columns}
        kept |= {*owned.tenants, *owned.user_names}
        kept |= {c for parent in owned.parents for c in parent.columns}
        for column in relation.columns:
            if column.name in kept or column.generated or column.identity:
                continue
            choices = self._choices(relation, column)
            wanted = [v for v in self._wanted(relation, column) if v in choices]
            if wanted and self.random.random() < WANTED:
                yield {column.name: self.random.choice(wanted)}
            elif len(choices) > 1:
                yield {column.name: self.random.choice(choices)}

    def _wanted(self, relation: Relation, column: Column) -> list[str | None]:
        """Return the values for which conditions on this column hold.

        Most rows take those, so that one condition at a time decides.
        """
        name = rf"(\w+\.)?\"?{re.escape(column.name)}\"?"
        found: list[str | None] = []
        if column.base_type == "boolean":
            negated = re.findall(rf"\bnot\s+\(*{name}\b", self.text)
            found += ["false"] if negated else []
            plain = re.findall(rf"\b{name}\b", self.text)
            found += ["true"] if len(plain) > len(negated) else []
        if re.search(rf"\b{name}\s+is\s+null\b", self.text):
            found.append(None)
        return found or list(
            self.mined.constants.get(Col(relation.name, column.name), ())
        )

    def _choices(self, relation: Relation, column: Column) -> list[str | None]:
        col = Col(relation.name, column.name)
        mined = self.mined
        read = col in mined.policy_columns or col in mined.constants
        found: list[str | None] = list(self._typed(relation, column))
        if not found and read:
            found += mined.constants.get(col, ())
            found += [r.text(column.name) for r in self.rows[relation.name][:MAX_HELD]]
        if not column.not_null and (read or col in mined.null_tests):
            found.append(None)
        return list(dict.fromkeys(found))

    def _typed(self, relation: Relation, column: Column) -> Iterator[str]:
        """Yield what a column of this type may be compared with."""
        kind = column.base_type
        if column.labels and not column.is_array:
            yield from column.labels
        elif kind == "boolean":
            yield from ("true", "false")
        elif kind in NUMBER_TYPES:
            checks = " ".join(check.expression for check in relation.checks)
            named = re.findall(r"-?\d+(?:\.\d+)?", checks)
            found = self.values.candidates(relation, column, named)
            yield from (value for value in found if value is not None)
            yield from NUMBERS
        elif kind in TIME_TYPES:
            yield from (PAST, FUTURE)
            yield from (str(self.now + shift) for shift in AROUND_NOW)
