"""Nobody stores a row that is another's, or hangs it on what they cannot see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.db.catalog import Relation
from harness.policies.candidates import (
    Candidate,
    foreign_candidates,
)
from harness.policies.cases import Case, Expectation, Severity, Violation
from harness.policies.inserting import insert_all, inserting, needed_rows
from harness.policies.ownership import Parent
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Attempt
from harness.policies.properties_rows import rank
from harness.policies.sights import (
    concerns_others,
    is_hidden,
    is_open_to_visitors,
    opens_parents,
)
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "rows_are_not_planted",
]

# How many rows of a kind are looked at from all sides before they count as harmless.
MAX_LOOKS = 2


async def rows_are_not_planted(trial: Trial) -> Judgement:
    """Nobody stores a row that is another's, or that hangs on another's hidden row."""
    judgement = Judgement()
    for relation in trial.tables():
        for persona in trial.outsiders:
            if not inserting(relation, persona):
                continue
            candidates = sorted(
                foreign_candidates(trial, persona, relation),
                key=lambda c: not _hidden(trial, persona, relation, c),
            )
            answers = await insert_all(trial, persona, relation, candidates)
            looked: Counter[tuple[str, object]] = Counter()
            for candidate, answer in zip(candidates, answers, strict=True):
                kind = (candidate.kind, candidate.parent)
                if not answer.ok or looked[kind] >= MAX_LOOKS:
                    continue
                looked[kind] += 1
                if await _is_planted(trial, persona, relation, candidate):
                    judgement.violations.append(
                        _planting(trial, persona, relation, candidate)
                    )
                    break
    return judgement


async def _is_planted(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> bool:
    owned = trial.ownership.of(relation.name)
    if relation.name == OBJECTS:
        return not await _is_read_back(trial, persona, relation, candidate)
    if candidate.kind == "forged":
        # Whoever has a power by a claim may act for others where it holds.
        return persona.kind != "special" and not _manages(
            trial, persona, relation, candidate
        )
    asked = any(trial.mined.asks_for_owner(relation.name, c) for c in owned.owners)
    if candidate.kind == "planted" and asked:
        return True
    if candidate.kind == "planted" and owned.membership:
        return True
    hidden = _hidden(trial, persona, relation, candidate)
    if not hidden and not owned.tenants:
        return False
    if await _visits(trial, persona, relation, candidate, hidden):
        return False
    return await concerns_others(trial, persona, relation, candidate.values, hidden)


async def _is_read_back(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> bool:
    """Say whether a file in a folder with the persona's own id is theirs to read."""
    name = candidate.values.get("name") or ""
    if not persona.sub or persona.sub not in name.split("/")[:-1]:
        return False
    look = Attempt(
        persona=persona,
        commands=(trial.insert_step(relation, candidate.values).sql,),
        fetch="select to_jsonb(count(*)) from storage.objects"
        f" where name = {literal(name)}",
    )
    answer = await trial.prober.attempt(look)
    return answer.ok and bool(answer.fetched)


def _manages(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> bool:
    """Say whether the persona may change rows of others beside the new one."""
    owned = trial.ownership.of(relation.name)
    return any(
        persona.sub not in {row.text(column) for column in owned.owners}
        and trial.decisions.may(persona, "UPDATE", row)
        and _is_beside(row, candidate, owned.parents)
        for row in trial.population.owned_by(relation.name, persona.clan or "?")
    )


def _is_beside(row: StoredRow, candidate: Candidate, parents: Sequence[Parent]) -> bool:
    """Say whether both rows hang on one parent, where rows of the table have any."""
    return not parents or any(
        all(row.text(c) == candidate.values.get(c) for c in parent.columns)
        for parent in parents
    )


def _hidden(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> list[Parent]:
    """Return the parents of a candidate that the persona cannot see."""
    owned = trial.ownership.of(relation.name)
    parents = [candidate.parent] if candidate.parent else list(owned.parents)
    return [p for p in parents if is_hidden(trial, persona, p, candidate.values)]


async def _visits(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    candidate: Candidate,
    hidden: list[Parent],
) -> bool:
    """Say whether a row of the persona's own hangs on what is open to everybody.

    An order at a shop or a review of a listing may be stored, though that shop is
    closed and that listing a draft, as long as whoever stores it sees it.
    """
    owned = trial.ownership.of(relation.name)
    names = owned.user_names if owned.membership else owned.owners
    if not hidden or not any(candidate.values.get(c) == persona.sub for c in names):
        return False
    if not all(is_open_to_visitors(trial, parent) for parent in hidden):
        return False
    # A request to join may be stored; a membership, which opens what is hidden, not.
    if owned.membership and await opens_parents(
        trial, persona, relation, candidate.values, hidden
    ):
        return False
    step = trial.insert_step(relation, candidate.values)
    readable = [
        c for c in relation.columns if relation.may(persona.role, "SELECT", c.name)
    ]
    if not readable:
        return False
    # Only with a column does RETURNING ask the SELECT policies.
    seen = Attempt(
        persona=persona,
        commands=(f"{step.sql} returning {readable[0].sql}",),
        setup=candidate.aside,
    )
    return (await trial.prober.attempt(seen)).ok


def _planting(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> Violation:
    whose = (
        "a row in another's name"
        if candidate.kind in ("planted", "forged")
        else "a row under a parent that is not theirs and that they cannot see"
    )
    severity: Severity = "high"
    subject = str(relation.name)
    fault = f"INSERT {candidate.kind} {persona.kind == 'anon'}"
    if relation.name == OBJECTS:
        bucket = candidate.values.get("bucket_id")
        whose = f"a file in another user's folder of bucket {bucket}"
        fault = f"INSERT {bucket}"
    return Violation(
        check="rows_are_not_planted",
        where=subject,
        fault=fault,
        message=f"{describe(persona)} can store {whose} ({subject})",
        case=Case(
            persona=persona,
            steps=(trial.insert_step(relation, candidate.values),),
            expectation=Expectation(kind="succeeds", says="must be refused"),
            rows=needed_rows(trial, relation, candidate),
        ),
        severity=severity,
        hint=f"compare the owner with auth.uid() in the INSERT policy of {subject}",
        rank=rank(persona),
    )
