"""Tries to insert candidate rows as a persona."""

from __future__ import annotations

from harness.db.catalog import Relation
from harness.policies.candidates import (
    Candidate,
)
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer, Attempt
from harness.policies.trial import Trial

__all__ = ["insert_all", "inserting", "needed_rows"]


def inserting(relation: Relation, persona: Persona) -> bool:
    """Say whether the persona's role may INSERT into the table at all."""
    return relation.may(persona.role, "INSERT")


async def insert_all(
    trial: Trial, persona: Persona, relation: Relation, candidates: list[Candidate]
) -> list[Answer]:
    """Try to insert every candidate, each undone before the next."""
    if not any(candidate.aside for candidate in candidates):
        rows = [candidate.values for candidate in candidates]
        return await trial.prober.attempt_rows(persona, relation.name, rows)
    return await trial.prober.attempt_all(
        [
            Attempt(
                persona=persona,
                commands=(trial.insert_step(relation, c.values).sql,),
                setup=c.aside,
            )
            for c in candidates
        ]
    )


def needed_rows(
    trial: Trial, relation: Relation, candidate: Candidate
) -> tuple[StoredRow, ...]:
    """Return the stored rows that a candidate's foreign keys refer to."""
    return tuple(
        row
        for key in relation.foreign_keys
        for row in trial.population.of(key.target)
        if [candidate.values.get(column) for column in key.columns]
        == [row.text(column) for column in key.target_columns]
    )
