"""Bars that the barred lift themselves: a ban, a suspension, a block.

A bar is a row that names the persona in a table of bars, or a column of the persona's
own row.  It counts only if an INSERT is refused until the bar is gone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence

from harness.db.catalog import Relation
from harness.policies.candidates import own_candidates
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.inserting import needed_rows
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Attempt
from harness.policies.properties_rows import rank
from harness.policies.reaching import Reaching, hanging_on
from harness.policies.table_order import BARRING_NAME
from harness.policies.trial import Trial
from harness.policies.witness import describe

__all__ = ["lifted_bars"]

MAX_BARS = 2
BARRING_COLUMN = re.compile(r"(^|_)(ban|banned|suspended|muted|blocked|barred)(_|$)")


async def lifted_bars(
    trial: Trial, persona: Persona, levers: Sequence[Relation]
) -> AsyncIterator[Violation]:
    """Yield the first INSERT that is refused until the persona lifts a bar."""
    for relation in levers:
        hanging = hanging_on(trial.mined, [relation.name])
        tables = Reaching(trial, persona).tables(hanging)
        bars = [
            *_barring_rows(trial, persona, relation),
            *_barring_columns(trial, persona, relation),
        ]
        for row, step in bars if tables else ():
            for later in tables:
                violation = await _freed(trial, persona, row, step, later)
                if violation is not None:
                    yield violation
                    return


def _barring_rows(
    trial: Trial, persona: Persona, relation: Relation
) -> list[tuple[StoredRow, Step]]:
    """Return rows that others hold against the persona, which can delete them."""
    may = trial.decisions.rows(persona, "DELETE", trial.population, relation.name)
    return [
        (row, trial.row_step("delete", relation, row))
        for row in may
        if _guards(trial, persona, relation, row)
    ][:MAX_BARS]


def _barring_columns(
    trial: Trial, persona: Persona, relation: Relation
) -> list[tuple[StoredRow, Step]]:
    """Return changes of the persona's own rows that end a ban noted in them."""
    found = []
    for column in relation.columns:
        if not BARRING_COLUMN.search(column.name):
            continue
        lifted = "false" if column.base_type == "boolean" else None
        if not relation.may(persona.role, "UPDATE", column.name) or (
            column.not_null and lifted is None
        ):
            continue
        found += [
            (row, trial.update_step(relation, {column.name: lifted}, row))
            for row in trial.population.of(relation.name)
            if persona.sub in row.users and row.text(column.name) not in (lifted, None)
        ][:MAX_BARS]
    return found


def _guards(trial: Trial, persona: Persona, relation: Relation, row: StoredRow) -> bool:
    """Say whether somebody else keeps ``row`` against the persona it names."""
    if persona.sub not in row.users or not BARRING_NAME.search(relation.name.name):
        return False
    owners = [row.text(c) for c in trial.ownership.of(relation.name).owners]
    # Who blocks or mutes others may stop doing so.
    return persona.sub not in owners or not set(row.users) - {persona.sub}


async def _freed(
    trial: Trial, persona: Persona, guard: StoredRow, lift: Step, later: Relation
) -> Violation | None:
    """Return the INSERT that is refused until ``guard`` is deleted."""
    if not later.may(persona.role, "INSERT"):
        return None
    candidates = list(own_candidates(trial, persona, later))
    steps = [trial.insert_step(later, c.values) for c in candidates]
    attempts = [
        Attempt(persona=persona, commands=commands, setup=c.aside)
        for c, step in zip(candidates, steps, strict=True)
        for commands in ((step.sql,), (lift.sql, step.sql))
    ]
    answers = await trial.prober.attempt_all(attempts)
    for index, (candidate, step) in enumerate(zip(candidates, steps, strict=True)):
        alone, after = answers[2 * index : 2 * index + 2]
        if alone.denied and after.ok:
            return Violation(
                check="sequences_open_nothing_of_others",
                where=str(guard.table),
                fault=f"lifted {later.name}",
                message=(
                    f"{describe(persona)} can {lift.action} the row of {guard.table}"
                    f" that keeps them from {later.name}, and then add rows to it"
                ),
                case=Case(
                    persona=persona,
                    steps=(lift, step),
                    expectation=Expectation(kind="succeeds", says="must be refused"),
                    rows=(guard, *needed_rows(trial, later, candidate)),
                    dependent=True,
                ),
                hint=f"let nobody {lift.action} what bars them in {guard.table}",
                rank=rank(persona),
            )
    return None
