"""Rows that a persona might try to store: its own, another's, half and half.

Candidates copy stored rows, so they satisfy every check; keys that must be unique are
drawn afresh, or the row they would collide with is put aside for the probe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import dirname

from harness.db.catalog import Relation, quote_identifier
from harness.policies.comparisons import Const
from harness.policies.ownership import Parent, Part, TableOwnership
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS
from harness.policies.storage_paths import OBJECTS, bucket_folders
from harness.policies.trial import Trial
from harness.policies.values import literal

__all__ = [
    "Candidate",
    "foreign_candidates",
    "fresh_copy",
    "own_candidates",
    "row_owners",
    "shared_candidates",
]

MAX_TEMPLATES = 4
# Whom a row is for, as others decide: who books a doctor forges nothing.
ASSIGNED_NAME = re.compile(
    r"assign|doctor|teacher|driver|agent|mentor|coach|review(er|ed)|approve|manager|"
    r"courier|technician|therapist"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Values to insert, and the rows that make them meaningful (``about``).

    ``kind``: ``own`` is the persona's business, ``planted`` is entirely another's,
    ``forged`` names another as its owner, ``intruding`` hangs on another's parent.
    ``aside`` removes what the row would collide with.
    """

    kind: str
    values: Mapping[str, str | None]
    about: tuple[StoredRow, ...]
    aside: tuple[str, ...] = ()
    parent: Parent | None = None


def own_candidates(
    trial: Trial, persona: Persona, relation: Relation
) -> Iterator[Candidate]:
    """Yield rows like those that the persona has (or somebody has, for newcomers)."""
    mine = [
        row
        for row in trial.population.of(relation.name)
        if persona.user is not None and persona.user.id in row.users
    ]
    for row in _spread(mine):
        values = fresh_copy(trial, persona, relation, row)
        if values is not None:
            aside = _aside(relation, values, trial.ownership.of(relation.name))
            yield Candidate(kind="own", values=values, about=(row,), aside=aside)


def shared_candidates(
    trial: Trial, persona: Persona, relation: Relation
) -> Iterator[Candidate]:
    """Yield rows like those that belong to nobody."""
    for row in _spread(list(trial.population.owned_by(relation.name, ""))):
        values = fresh_copy(trial, persona, relation, row)
        if values is not None:
            yield Candidate(kind="shared", values=values, about=(row,))


def foreign_candidates(
    trial: Trial, persona: Persona, relation: Relation
) -> Iterator[Candidate]:
    """Yield rows that the persona has no business to store."""
    owned = trial.ownership.of(relation.name)
    for row in _spread(trial.foreign_rows(persona, relation.name)):
        planted = fresh_copy(trial, persona, relation, row)
        if planted is None:
            continue
        if relation.name == OBJECTS:
            yield from _planted_object(trial, persona, row, planted)
            continue
        aside = _aside(relation, planted, owned)
        yield Candidate(kind="planted", values=planted, about=(row,), aside=aside)
        if persona.user is None or not (owned.owners or owned.membership):
            continue
        taken = dict(planted)
        for user in owned.users:
            if user.part is not Part.REFERENCE and user.column in taken:
                taken[user.column] = persona.user.id
        for parent in owned.parents:
            yield Candidate(
                kind="intruding",
                values=taken,
                about=(row,),
                aside=_aside(relation, taken, owned),
                parent=parent,
            )
    yield from _forged(trial, persona, relation, owned)


def _forged(
    trial: Trial, persona: Persona, relation: Relation, owned: TableOwnership
) -> Iterator[Candidate]:
    victims = trial.foreign_rows(persona, relation.name)
    victim = next((u for r in victims for u in sorted(r.users)), None)
    if victim is None or relation.name == OBJECTS:
        return
    for own in own_candidates(trial, persona, relation):
        for column in owned.owners:
            asked = trial.mined.asks_for_owner(relation.name, column)
            asked = asked and not ASSIGNED_NAME.search(column)
            # Who names another beside themselves writes to them, not as them.
            alone = all(
                own.values.get(other) != persona.sub
                for other in owned.owners
                if other != column
            )
            if asked and alone and own.values.get(column) is not None:
                values = {**own.values, column: victim}
                aside = _aside(relation, values, owned)
                yield Candidate(
                    kind="forged", values=values, about=own.about, aside=aside
                )


def _planted_object(
    trial: Trial,
    persona: Persona,
    row: StoredRow,
    planted: Mapping[str, str | None],
) -> Iterator[Candidate]:
    bucket = row.text("bucket_id") or ""
    folders = bucket_folders(bucket, trial.mined.folders)
    if not folders:
        return
    theirs = planted["name"] or ""
    # A folder that policies compare with words says what is in it, not whose it is.
    whose = [
        index
        for index, uses in folders.items()
        if not all(isinstance(use.term, Const) for use in uses)
    ]
    for name in [theirs, *_mixed(trial, persona, bucket, theirs, whose)]:
        values = {**planted, "name": name, **row_owners(persona)}
        yield Candidate(kind="planted", values=values, about=())


def _mixed(
    trial: Trial, persona: Persona, bucket: str, theirs: str, indexes: list[int]
) -> Iterator[str]:
    """Yield own paths with one folder of another's: policies may look elsewhere."""
    own = next(
        (
            row.text("name") or ""
            for row in trial.population.owned_by(OBJECTS, persona.clan or "?")
            if row.text("bucket_id") == bucket
        ),
        "",
    )
    mine, foreign = own.split("/"), theirs.split("/")
    if len(mine) != len(foreign) or len(indexes) < 2:
        return
    for index in indexes:
        if index < len(mine) and mine[index - 1] != foreign[index - 1]:
            parts = [*mine[:-1], foreign[-1]]
            parts[index - 1] = foreign[index - 1]
            yield "/".join(parts)


def row_owners(persona: Persona) -> dict[str, str | None]:
    """Return the owner columns that the Storage API would fill in for a persona."""
    sub = persona.sub or None
    return {"owner": sub, "owner_id": sub}


def _spread(rows: list[StoredRow]) -> list[StoredRow]:
    """Take a few rows from all over the list."""
    step = max(1, len(rows) // MAX_TEMPLATES)
    return rows[::step][:MAX_TEMPLATES]


def fresh_copy(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow
) -> dict[str, str | None] | None:
    """Copy a row under new keys, within what the role may insert; None if it cannot."""
    owned = trial.ownership.of(relation.name)
    bound = _bound(owned)
    unique = {c for key in relation.unique_keys for c in key.columns} - bound
    policy_text = " ".join(p.using + p.check for p in relation.policies)
    values: dict[str, str | None] = {}
    for column in relation.columns:
        name = column.name
        granted = relation.may(persona.role, "INSERT", name)
        if column.generated or column.identity or not granted:
            if column.required and not granted:
                return None
            continue
        optional = column.default and name not in bound and name not in policy_text
        if optional and name not in unique:
            continue
        if name in unique and not (column.default and name in relation.primary_key):
            values[name] = trial.values.fresh(relation, column)
        elif name not in unique and row.values.get(name) is not None:
            values[name] = row.text(name)
    if relation.name == OBJECTS:
        values |= _object_keys(trial, persona, row)
    return values


def _object_keys(
    trial: Trial, persona: Persona, row: StoredRow
) -> dict[str, str | None]:
    trial.values.drawn += 1
    name = row.text("name") or ""
    folder = dirname(name)
    extension = name.rpartition(".")[2]
    file = f"new{trial.values.drawn}.{extension}"
    return {
        "bucket_id": row.text("bucket_id"),
        "name": f"{folder}/{file}" if folder else file,
        **row_owners(persona),
    }


def _bound(owned: TableOwnership) -> set[str]:
    columns = {c for parent in owned.parents for c in parent.columns}
    return columns | set(owned.user_names) | set(owned.tenants)


def _aside(
    relation: Relation, values: Mapping[str, str | None], owned: TableOwnership
) -> tuple[str, ...]:
    """Return statements that remove rows with the same unavoidable key."""
    bound = _bound(owned)
    deletes = []
    for key in relation.unique_keys:
        if key.expression or not key.columns or not set(key.columns) <= bound:
            continue
        if any(values.get(column) is None for column in key.columns):
            continue
        where = " and ".join(
            f"{quote_identifier(c)} = {literal(values[c])}" for c in key.columns
        )
        deletes.append(f"delete from {relation.name.sql} where {where}")
    return (WITHOUT_TRIGGERS, *deletes, WITH_TRIGGERS) if deletes else ()
