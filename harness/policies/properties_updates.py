"""Rows are not handed over, taken, or moved to where they could not be inserted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.db.catalog import Relation
from harness.policies.candidates import (
    row_owners,
)
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.decisions import row_filter, statement_settings
from harness.policies.ownership import Parent
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.properties_rows import rank
from harness.policies.sights import (
    concerns_others,
    is_hidden,
    is_open_to_visitors,
    own_place,
)
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "moves_stay_within_insert_rights",
    "rows_are_not_handed_over",
]

MAX_OWN_ROWS = 3


@dataclass(frozen=True, slots=True)
class Move:
    """A change of ``row`` that ``action`` describes; ``blind`` without a WHERE."""

    row: StoredRow
    changes: Mapping[str, str | None]
    action: str
    blind: bool = False

    def step(self, trial: Trial, relation: Relation) -> Step:
        """Return the UPDATE."""
        return trial.update_step(
            relation, self.changes, None if self.blind else self.row
        )


async def rows_are_not_handed_over(trial: Trial) -> Judgement:
    """Nobody gives a row away, takes another's, or moves one to a hidden parent."""
    judgement = Judgement()
    for relation in trial.tables():
        for persona in trial.outsiders:
            if persona.user is None or not relation.may(persona.role, "UPDATE"):
                continue
            moves = [
                *_takings(trial, persona, relation),
                *_gifts(trial, persona, relation),
            ]
            for move in await _successful(trial, persona, relation, moves):
                if not await _is_harmless(trial, persona, relation, move):
                    judgement.violations.append(
                        _handed_over(trial, persona, relation, move)
                    )
                    break
    return judgement


async def _is_harmless(
    trial: Trial, persona: Persona, relation: Relation, move: Move
) -> bool:
    row, changes = move.row, move.changes
    owned = trial.ownership.of(relation.name)
    if any(column in owned.owners for column in changes):
        scoped = persona.user is not None and persona.user.scoped
        return row.clan == persona.clan and (
            scoped or _manages(trial, persona, relation, row, changes)
        )
    hidden = [p for p in owned.parents if set(p.columns) <= set(changes)]
    if _visits(trial, persona, relation, move, hidden):
        return True
    if row.clan != persona.clan or not (hidden or set(changes) & {*owned.tenants}):
        return False
    moved = {c.name: row.text(c.name) for c in relation.columns if not c.generated}
    values = {name: value for name, value in moved.items() if value is not None}
    return not await concerns_others(
        trial, persona, relation, {**values, **changes}, hidden, replaced=row
    )


def _visits(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    move: Move,
    hidden: list[Parent],
) -> bool:
    """Say whether an own row moves, in its owner's sight, under what is open to all.

    A review of a listing may be moved to another listing, though that one is a draft.
    """
    owners = trial.ownership.of(relation.name).owners
    mine = any(move.row.text(column) == persona.sub for column in owners)
    return (
        mine
        and not move.blind
        and bool(hidden)
        and all(is_open_to_visitors(trial, parent) for parent in hidden)
    )


def _manages(
    trial: Trial,
    mover: Persona,
    relation: Relation,
    row: StoredRow,
    changes: Mapping[str, str | None],
) -> bool:
    """Say whether the right to change the row comes from elsewhere than owning it.

    It does if somebody who does not own it may change it too, if the mover may change
    another's row beside it, or if somebody else owns a row like this one, sees it, and
    may not change it.
    """
    plain = [p for p in trial.personas if p.kind == "plain" and p.sub]
    shared = any(
        row.text(column) != persona.sub and trial.decisions.may(persona, "UPDATE", row)
        for persona in plain
        for column in changes
    ) or any(
        trial.decisions.may(mover, "UPDATE", beside)
        for beside in trial.population.owned_by(relation.name, mover.clan)
        if all(beside.text(column) != mover.sub for column in changes)
        and _same_place(trial, relation, row, beside)
    )
    # Who may change nothing but their own has the right from owning it, though some
    # owners (banned ones, say) have lost it.
    manages = any(
        trial.decisions.may(mover, "UPDATE", beside)
        for beside in trial.population.of(relation.name)
        if all(beside.text(column) != mover.sub for column in changes)
    )
    return shared or any(
        manages
        and other.text(column) == persona.sub
        and trial.decisions.may(persona, "SELECT", other)
        and not trial.decisions.may(persona, "UPDATE", other)
        for other in trial.population.of(relation.name)
        if _alike(trial, relation, row, other)
        for persona in plain
        for column in changes
    )


def _same_place(
    trial: Trial, relation: Relation, row: StoredRow, other: StoredRow
) -> bool:
    """Say whether two rows hang on the same parents and tenants, if on any."""
    owned = trial.ownership.of(relation.name)
    places = {c for parent in owned.parents for c in parent.columns} | {*owned.tenants}
    return bool(places) and all(
        row.values.get(name) == other.values.get(name) for name in places
    )


def _alike(trial: Trial, relation: Relation, row: StoredRow, other: StoredRow) -> bool:
    """Say whether two rows agree in what policies look at, owners and keys aside."""
    owned = trial.ownership.of(relation.name)
    keys = {c for parent in owned.parents for c in parent.columns}
    keys |= {*owned.user_names, *owned.tenants, *relation.primary_key}
    return all(
        row.values.get(col.column) == other.values.get(col.column)
        for col in trial.mined.policy_columns
        if col.table == relation.name and col.column not in keys
    )


def _own_rows(trial: Trial, persona: Persona, relation: Relation) -> list[StoredRow]:
    rows = [
        row
        for row in trial.population.of(relation.name)
        if row.clan
        and row.clan == persona.clan
        and trial.decisions.may(persona, "UPDATE", row)
    ]
    mine = [row for row in rows if persona.user and persona.user.id in row.users]
    return (mine or rows)[:MAX_OWN_ROWS]


def _gifts(trial: Trial, persona: Persona, relation: Relation) -> Iterator[Move]:
    """Yield changes of own rows that give them to somebody else."""
    owned = trial.ownership.of(relation.name)
    foreign = trial.foreign_rows(persona, relation.name)
    for row in _own_rows(trial, persona, relation):
        # The Storage API says itself who owns an object.
        for column in () if relation.name == OBJECTS else owned.owners:
            victims = [next((v for r in foreign if (v := r.text(column))), None)]
            # Somebody without any row, for columns that are unique.
            victims.append(trial.population.world.cast.persona("carol").sub)
            mine = row.text(column) == persona.sub
            if not mine or not _changeable(relation, persona, column):
                continue
            for victim in (v for v in victims if v != persona.sub):
                action = f"hand rows of {relation.name} to another"
                yield Move(row, {column: victim}, action)
        for other in foreign[:1]:
            changes = {c: other.text(c) for c in owned.tenants}
            if changes and all(_changeable(relation, persona, c) for c in changes):
                action = f"move rows of {relation.name} to another tenant"
                yield Move(row, changes, action)
        for parent in owned.parents:
            for other in foreign:
                changes = {c: other.text(c) for c in parent.columns}
                movable = all(_changeable(relation, persona, c) for c in changes)
                if movable and is_hidden(trial, persona, parent, changes):
                    action = f"move rows of {relation.name} under a hidden parent"
                    yield Move(row, changes, action)
                    break
        if relation.name == OBJECTS:
            yield from _moved_objects(trial, persona, row, foreign)


def _moved_objects(
    trial: Trial, persona: Persona, row: StoredRow, foreign: list[StoredRow]
) -> Iterator[Move]:
    """Yield renames of an own object into the folder of another user."""
    for other in foreign:
        folder, _, _ = (other.text("name") or "").rpartition("/")
        same = other.text("bucket_id") == row.text("bucket_id")
        if same and folder:
            extension = (row.text("name") or "").rpartition(".")[2]
            name = f"{folder}/moved.{extension}"
            yield Move(
                row,
                {"name": name},
                "move files of storage.objects into another user's folder",
            )
            return


def _takings(trial: Trial, persona: Persona, relation: Relation) -> Iterator[Move]:
    owned = trial.ownership.of(relation.name)
    for row in trial.foreign_rows(persona, relation.name)[:MAX_OWN_ROWS]:
        for column in () if relation.name == OBJECTS else owned.owners:
            if _changeable(relation, persona, column):
                yield Move(row, {column: persona.sub}, f"take rows of {relation.name}")
        if relation.name == OBJECTS:
            yield from _taken_objects(trial, persona, row)
            continue
        changes = own_place(trial, persona, relation)
        movable = all(_changeable(relation, persona, c) for c in changes)
        if changes and movable:
            yield Move(row, changes, f"take rows of {relation.name}")


def _taken_objects(trial: Trial, persona: Persona, row: StoredRow) -> Iterator[Move]:
    """Yield a rename of another's object into a folder of one's own."""
    for own in trial.population.owned_by(OBJECTS, persona.clan or "?"):
        folder, _, _ = (own.text("name") or "").rpartition("/")
        if folder and own.text("bucket_id") == row.text("bucket_id"):
            extension = (row.text("name") or "").rpartition(".")[2]
            name = f"{folder}/taken.{extension}"
            yield Move(
                row,
                {"name": name},
                "move another's files of storage.objects to their own",
            )
            return


def _changeable(relation: Relation, persona: Persona, column: str) -> bool:
    return (
        relation.may(persona.role, "UPDATE", column)
        and column not in relation.primary_key
        and not relation.column(column).generated
    )


async def _successful(
    trial: Trial, persona: Persona, relation: Relation, moves: list[Move]
) -> list[Move]:
    """Return the moves that work, by key or (seen by no SELECT policy) blindly."""
    both = [replace(move, blind=blind) for move in moves for blind in (False, True)]
    apart = _apart(trial, relation)
    answers = await trial.prober.attempt_all(
        [
            Attempt(
                persona=persona,
                commands=(move.step(trial, relation).sql,),
                observe=f"select to_jsonb({_reached(relation, move)})",
                setup=apart(move.row) if move.blind else (),
                settings=statement_settings(relation.name, "UPDATE"),
            )
            for move in both
        ]
    )
    worked: dict[int, Move] = {}
    for index, (move, answer) in enumerate(zip(both, answers, strict=True)):
        if answer.ok and answer.counts[-1] > 0 and answer.seen is True:
            worked.setdefault(index // 2, move)
    return list(worked.values())


def _apart(trial: Trial, relation: Relation) -> Callable[[StoredRow], tuple[str, ...]]:
    """Return how to leave one row alone, so that a blind UPDATE meets no other.

    Rows that policies look up stay.
    """
    if relation.name in trial.mined.helper_tables:
        return lambda row: ()

    def others_gone(row: StoredRow) -> tuple[str, ...]:
        kept = row_filter(relation, row)
        gone = f"delete from {relation.name.sql} where not ({kept})"
        return (WITHOUT_TRIGGERS, gone, WITH_TRIGGERS)

    return others_gone


def _reached(relation: Relation, move: Move) -> str:
    """Return a condition: the row is there with its changes."""
    key = {name: move.row.text(name) for name in relation.primary_key}
    wanted = {**key, **move.changes}
    where = " and ".join(
        f"{relation.column(name).sql} = {literal(value)}"
        for name, value in wanted.items()
    )
    return f"exists (select from {relation.name.sql} where {where})"


def _handed_over(
    trial: Trial, persona: Persona, relation: Relation, move: Move
) -> Violation:
    return Violation(
        check="rows_are_not_handed_over",
        where=str(relation.name),
        fault=f"{move.action} {','.join(move.changes)}",
        message=f"{describe(persona)} can {move.action} ({', '.join(move.changes)})",
        case=Case(
            persona=persona,
            steps=(move.step(trial, relation),),
            expectation=Expectation(kind="affects", says="must affect 0 rows"),
            rows=(move.row, *_targets(trial, relation, move.changes)),
        ),
        severity="high",
        hint=f"add WITH CHECK to the UPDATE policy of {relation.name}",
        rank=rank(persona),
    )


def _targets(
    trial: Trial, relation: Relation, changes: Mapping[str, str | None]
) -> Iterator[StoredRow]:
    """Yield the rows that the changed foreign keys refer to."""
    for key in relation.foreign_keys:
        for row in trial.population.of(key.target):
            if all(
                changes.get(column) == row.text(target) and column in changes
                for column, target in zip(key.columns, key.target_columns, strict=True)
            ):
                yield row


async def moves_stay_within_insert_rights(trial: Trial) -> Judgement:
    """Nobody moves an object to a bucket into which they may not upload it."""
    judgement = Judgement()
    relation = trial.catalog.relations.get(OBJECTS)
    if relation is None:
        return judgement
    for persona in trial.outsiders:
        for row in _own_rows(trial, persona, relation):
            violation = await _bucket_move(trial, persona, relation, row)
            if violation is not None:
                judgement.violations.append(violation)
    return judgement


async def _bucket_move(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow
) -> Violation | None:
    for bucket in trial.catalog.buckets:
        if bucket.id == row.text("bucket_id"):
            continue
        changes = {"bucket_id": bucket.id}
        if not await _successful(trial, persona, relation, [Move(row, changes, "")]):
            continue
        direct = {
            "bucket_id": bucket.id,
            "name": row.text("name"),
            **row_owners(persona),
        }
        answer = await trial.prober.attempt(
            Attempt(
                persona=persona,
                commands=(trial.insert_step(relation, direct).sql,),
            )
        )
        if answer.denied:
            return _moved(trial, persona, relation, row, bucket.id)
    return None


def _moved(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow, bucket: str
) -> Violation:
    source = row.text("bucket_id")
    step = trial.update_step(relation, {"bucket_id": bucket}, row)
    return Violation(
        check="moves_stay_within_insert_rights",
        where="storage.objects",
        fault=f"move to {bucket}",
        message=(
            f"{describe(persona)} may not upload to bucket {bucket}, but can upload to"
            f" {source} and move the file there"
        ),
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(
                kind="affects",
                says=f"must affect 0 rows: the direct INSERT into {bucket} is refused",
            ),
            rows=(row,),
        ),
        severity="critical",
        note=(
            "policies of one command are OR-ed across buckets: the old row satisfies"
            " one, the new row another"
        ),
        hint="forbid changes of bucket_id for API roles, or repeat the INSERT"
        " condition in WITH CHECK",
        rank=rank(persona),
    )
