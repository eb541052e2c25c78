"""Nobody moves a row to where they could not have stored it.

A row that a member may change stays where the member has rights: in another tenant, or
under a parent that others keep, even one that everybody sees, it is out of their hands
and in somebody else's.  The INSERT policies say where rows may be stored; where the
mover stores none at all, the rows say that are there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.db.catalog import Relation
from harness.policies.candidates import fresh_copy
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.comparisons import Col
from harness.policies.decisions import row_filter, statement_settings
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.properties_rows import rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = ["rows_move_where_they_may_be_stored"]

Changes = Mapping[str, str | None]
MAX_ROWS = 2


async def rows_move_where_they_may_be_stored(trial: Trial) -> Judgement:
    """Nobody moves a row to a place of others where they could store none."""
    judgement = Judgement()
    for relation in trial.tables():
        if relation.name == OBJECTS:
            continue
        for persona in trial.outsiders:
            if persona.kind != "plain" or not persona.clan:
                continue
            if (str(relation.name), "UPDATE", persona.name) in trial.told:
                break
            violation = await _moved(trial, persona, relation)
            if violation is not None:
                judgement.violations.append(violation)
                break
    return judgement


async def _moved(
    trial: Trial, persona: Persona, relation: Relation
) -> Violation | None:
    for row in _keeping(trial, persona, relation):
        for changes in _places(trial, persona, relation, row):
            step = await _working(trial, persona, relation, row, changes)
            if step and await _oversteps(trial, persona, relation, row, changes):
                return _violation(trial, persona, relation, row, changes, step)
    return None


async def _working(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow, changes: Changes
) -> Step | None:
    """Return an UPDATE that moves the row: by its key, or of all that there are.

    Without WHERE, no SELECT policy is asked if the row is still seen where it goes.
    """
    rest = f"delete from {relation.name.sql} where not ({row_filter(relation, row)})"
    held = _references(trial, relation, row, changes)
    steps = [trial.update_step(relation, changes, by) for by in (row, None)]
    alone = [] if relation.name in trial.mined.helper_tables else [rest]
    removed = [held, [*held, *alone]]
    answers = await trial.prober.attempt_all(
        [
            Attempt(
                persona=persona,
                commands=(step.sql,),
                setup=(WITHOUT_TRIGGERS, *gone, WITH_TRIGGERS) if gone else (),
                observe=f"select to_jsonb({_is_there(relation, row, changes)})",
                settings=statement_settings(relation.name, "UPDATE"),
            )
            for step, gone in zip(steps, removed, strict=True)
        ]
    )
    for step, answer in zip(steps, answers, strict=True):
        if answer.ok and answer.counts[-1] and answer.seen is True:
            return step
    return None


def _keeping(trial: Trial, persona: Persona, relation: Relation) -> list[StoredRow]:
    """Return rows that the persona changes as one of those who keep their place."""
    owners = trial.ownership.of(relation.name).owners
    rows = [
        row
        for row in trial.population.owned_by(relation.name, persona.clan)
        if trial.decisions.may(persona, "UPDATE", row)
    ]
    rows.sort(key=lambda row: any(row.text(c) == persona.sub for c in owners))
    return rows[:MAX_ROWS]


def _places(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow
) -> Iterator[Changes]:
    """Yield the places of others: each parent and tenant alone, then all of them."""
    owned = trial.ownership.of(relation.name)
    foreign = trial.foreign_rows(persona, relation.name)
    if not foreign:
        return
    keyed = [
        columns
        for columns in (
            *(
                parent.columns
                for parent in owned.parents
                if parent.target != relation.name
                and trial.foreign_rows(persona, parent.target)
            ),
            *((column,) for column in owned.tenants),
        )
        # What no policy asks for is a choice, not a place.
        if any(Col(relation.name, c) in trial.mined.policy_columns for c in columns)
    ]
    everything = tuple(dict.fromkeys(column for columns in keyed for column in columns))
    for columns in dict.fromkeys((*keyed, everything)):
        for other in foreign[:MAX_ROWS]:
            changes = {
                c: other.text(c) for c in columns if other.text(c) != row.text(c)
            }
            writable = all(
                relation.may(persona.role, "UPDATE", c)
                and not relation.column(c).generated
                for c in changes
            )
            if changes and writable and None not in changes.values():
                yield changes
                break


def _references(
    trial: Trial, relation: Relation, row: StoredRow, changes: Changes
) -> list[str]:
    """Return how to remove the rows that hold the row to its place by a key."""
    return [
        f"delete from {other.name.sql} where "
        + " and ".join(
            f"{other.column(column).sql}::text = {literal(row.text(target))}"
            for column, target in zip(key.columns, key.target_columns, strict=True)
        )
        for other in trial.catalog.tables
        for key in other.foreign_keys
        if key.target == relation.name and set(key.target_columns) & set(changes)
    ]


def _is_there(relation: Relation, row: StoredRow, changes: Changes) -> str:
    """Return a condition: the row is there with its changes."""
    key = {name: row.text(name) for name in relation.primary_key}
    where = " and ".join(
        f"{relation.column(name).sql} = {literal(value)}"
        for name, value in {**key, **changes}.items()
    )
    return f"exists (select from {relation.name.sql} where {where})"


async def _oversteps(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    row: StoredRow,
    changes: Changes,
) -> bool:
    """Say whether the persona has rights where the row was and none where it goes."""
    owners = trial.ownership.of(relation.name).owners
    values = fresh_copy(trial, persona, relation, row)
    if values is not None and relation.may(persona.role, "INSERT"):
        rows = [values, {**values, **changes}]
        here, there = await trial.prober.attempt_rows(persona, relation.name, rows)
        if here.ok and (there.denied or owners):
            return there.denied
    if any(row.text(column) == persona.sub for column in owners):
        return False
    beside = [
        other
        for other in trial.foreign_rows(persona, relation.name)
        if all(other.text(c) == value for c, value in changes.items())
    ]
    return not any(trial.decisions.may(persona, "UPDATE", r) for r in beside)


def _violation(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    row: StoredRow,
    changes: Changes,
    step: Step,
) -> Violation:
    targets = tuple(
        other
        for key in relation.foreign_keys
        for other in trial.population.of(key.target)
        if set(key.columns) & set(changes)
        and all(
            changes.get(column, row.text(column)) == other.text(target)
            for column, target in zip(key.columns, key.target_columns, strict=True)
        )
    )
    return Violation(
        check="rows_move_where_they_may_be_stored",
        where=str(relation.name),
        fault=f"UPDATE {','.join(changes)}",
        message=(
            f"{describe(persona)} can move rows of {relation.name} to where they may"
            f" store none ({', '.join(changes)})"
        ),
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(kind="affects", says="must affect 0 rows"),
            rows=(row, *targets),
        ),
        severity="high",
        hint=f"repeat the condition of the INSERT policy in WITH CHECK of the UPDATE"
        f" policy of {relation.name}",
        rank=rank(persona),
    )
