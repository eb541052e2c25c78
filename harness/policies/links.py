"""Rows by which a persona would link itself to what is another's, and their states.

A link names the persona and hangs on another's row: a membership, a request, an
invitation.  Its *states* are columns that conditions ask for and that the schema fills
in by itself (``status``, ``role``, ``accepted_at``): left alone they say what anybody
gets, written by the persona they say what it gives itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.db.catalog import Column, Relation
from harness.policies.candidates import Candidate, fresh_copy
from harness.policies.cases import Step
from harness.policies.comparisons import Col
from harness.policies.inserting import needed_rows
from harness.policies.ownership import Part, TableOwnership
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, insert_statement
from harness.policies.sights import is_hidden
from harness.policies.trial import Trial
from harness.policies.values import TEXT_TYPES, literal

__all__ = ["Link", "links_of"]

MAX_LINKS = 6
MAX_STATES = 6
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
LONG_AGO = "2020-01-01 00:00:00+00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A row to insert as ``persona``; ``hidden`` if it hangs on what is not seen.

    ``accomplice`` says that it links another user than the one who inserts it.
    """

    persona: Persona
    relation: Relation
    values: Mapping[str, str | None]
    states: tuple[tuple[str, str], ...]
    hidden: bool
    accomplice: bool = False

    @property
    def by(self) -> Persona | None:
        """Who inserts the row, if not the one whom it links."""
        return self.persona if self.accomplice else None

    def insert(self, state: tuple[str, str] | None = None) -> Step:
        """Return the INSERT, with a state of the persona's choice or without."""
        values = {**self.values, **dict([state] if state else [])}
        return Step(
            sql=insert_statement(self.relation.name, values),
            action="insert",
            target=self.relation.name,
            values=values,
            by=self.by,
        )

    def flip(self, state: tuple[str, str]) -> Step:
        """Return the UPDATE that gives the stored row a state."""
        key = self.relation.primary_key
        known = [name for name, value in self.values.items() if value is not None]
        names = key if key and set(key) <= set(known) else known
        filters = {name: self.values[name] for name in names}
        where = " and ".join(
            f"{self.relation.column(name).sql} = {literal(value)}"
            for name, value in filters.items()
        )
        column, value = state
        change = f"{self.relation.column(column).sql} = {literal(value)}"
        return Step(
            sql=f"update {self.relation.name.sql} set {change} where {where}",
            action="update",
            target=self.relation.name,
            values={column: value},
            filters=filters,
            by=self.by,
        )

    def meets(self, other: Link) -> bool:
        """Say whether both hang on the same row, or name the same others."""
        held = {v for k, v in self.values.items() if self.relation.foreign_key_of(k)}
        return bool((held - {self.persona.sub}) & {*other.values.values()})

    @property
    def row(self) -> StoredRow:
        """The row as if it were stored, for calls that are about it."""
        return StoredRow(self.relation.name, "", self.values, None)

    def rows(self, trial: Trial) -> tuple[StoredRow, ...]:
        """Return the stored rows that it refers to."""
        candidate = Candidate(kind="intruding", values=self.values, about=())
        return needed_rows(trial, self.relation, candidate)


def links_of(
    trial: Trial, persona: Persona, relation: Relation, reader: Persona
) -> Iterator[Link]:
    """Yield links of ``reader``, by ``persona``, to different rows of others."""
    if not relation.may(persona.role, "INSERT") or not persona.sub:
        return
    owned = trial.ownership.of(relation.name)
    states = _states(trial, persona, relation, owned)
    places: set[tuple[str | None, ...]] = set()
    for row in trial.foreign_rows(persona, relation.name):
        copy = fresh_copy(trial, persona, relation, row)
        if copy is None:
            return
        for values in _naming(trial, persona, owned, copy, reader):
            place = tuple(values.get(name) for name in _places(owned))
            if place in places or len(places) >= MAX_LINKS:
                continue
            places.add(place)
            foreign = _is_foreign(trial, persona, owned, values)
            if foreign and _names(reader, values):
                yield Link(
                    persona=persona,
                    relation=relation,
                    values=_filled_in(trial, relation, values, states),
                    states=states,
                    hidden=any(
                        is_hidden(trial, persona, parent, values)
                        for parent in owned.parents
                    ),
                    accomplice=reader != persona,
                )


def _places(owned: TableOwnership) -> list[str]:
    parents = [column for parent in owned.parents for column in parent.columns]
    return [*parents, *owned.tenants, *owned.user_names]


def _naming(
    trial: Trial,
    persona: Persona,
    owned: TableOwnership,
    values: Mapping[str, str | None],
    reader: Persona,
) -> Iterator[dict[str, str | None]]:
    """Yield the row with the persona as its author: for others, and for the reader."""
    assert reader.user is not None
    own = dict(values)
    for name, value in values.items():
        if value is not None and EMAIL.fullmatch(value):
            own[name] = reader.user.email
    parts = {Part.OWNER: persona.sub, Part.MEMBER: reader.sub}
    for user in owned.users:
        if user.part in parts and own.get(user.column) is not None:
            own[user.column] = parts[user.part]
    yield own
    addressed = [
        user.column
        for user in owned.users
        if user.part is Part.REFERENCE and own.get(user.column) is not None
    ]
    others = [
        user
        for user in trial.population.world.cast.users
        if user.rows and user.clan != persona.clan
    ]
    # Whoever differs from the rest, by a private profile say, comes first.
    others.sort(key=lambda user: not user.power)
    for user_id in (reader.sub, *(u.id for u in others)) if addressed else ():
        yield {**own, **dict.fromkeys(addressed, user_id)}


def _names(persona: Persona, values: Mapping[str, str | None]) -> bool:
    assert persona.user is not None
    return bool({persona.sub, persona.user.email or persona.sub} & {*values.values()})


def _is_foreign(
    trial: Trial,
    persona: Persona,
    owned: TableOwnership,
    values: Mapping[str, str | None],
) -> bool:
    """Say whether the row hangs on a row, or names a user, of another clan."""
    cast = trial.population.world.cast
    named = [cast.by_id(values.get(column) or "") for column in owned.user_names]
    if any(user is not None and user.clan != persona.clan for user in named):
        return True
    return any(
        [values.get(c) for c in parent.columns]
        == [row.text(c) for c in parent.target_columns]
        for parent in owned.parents
        for row in trial.foreign_rows(persona, parent.target)
    )


def _filled_in(
    trial: Trial,
    relation: Relation,
    values: Mapping[str, str | None],
    states: tuple[tuple[str, str], ...],
) -> dict[str, str | None]:
    """Leave the states to the schema, and give the row a key that can be named."""
    chosen = {column for column, _ in states}
    kept = {name: value for name, value in values.items() if name not in chosen}
    for name in relation.primary_key:
        column = relation.column(name)
        if column.default and not column.identity and name not in kept:
            kept[name] = trial.values.fresh(relation, column)
    return kept


def _states(
    trial: Trial, persona: Persona, relation: Relation, owned: TableOwnership
) -> tuple[tuple[str, str], ...]:
    """Return values of columns that the schema fills in and conditions ask for."""
    found: list[tuple[str, str]] = []
    taken = {*_places(owned), *relation.primary_key}
    for column in relation.columns:
        if column.name in taken or column.generated or column.identity:
            continue
        if column.not_null and not column.default:
            continue
        default = column.default.split("::")[0].strip("'")
        values = _values(trial, persona, relation, column)
        found += [(column.name, v) for v in values if v != default]
    return tuple(found[:MAX_STATES])


def _values(
    trial: Trial, persona: Persona, relation: Relation, column: Column
) -> list[str]:
    mined, col = trial.mined, Col(relation.name, column.name)
    kind = column.base_type
    if column.is_array:
        return []
    if kind == "boolean":
        asked = col in mined.policy_columns | mined.truth_tests
        return ["true", "false"] if asked else []
    if column.labels:
        return list(column.labels) if col in mined.policy_columns else []
    if col in mined.null_tests or col in mined.clock_tests:
        if kind.startswith("timestamp") or kind == "date":
            return [LONG_AGO] if col in mined.null_tests else ["2999-01-01"]
        return [persona.sub] if kind == "uuid" else []
    return list(mined.constants.get(col, ())) if kind in TEXT_TYPES else []
