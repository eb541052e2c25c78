"""What a policy admits is not made impossible by broken SQL on the way."""

from __future__ import annotations

from harness.db.catalog import Relation
from harness.policies.candidates import (
    Candidate,
    own_candidates,
)
from harness.policies.cases import Case, Expectation, Violation
from harness.policies.inserting import insert_all, inserting, needed_rows
from harness.policies.personas import Persona
from harness.policies.probing import Answer
from harness.policies.properties_rows import rank
from harness.policies.trial import Judgement, Trial

__all__ = [
    "is_programming_error",
    "legitimate_actions_succeed",
]


def is_programming_error(answer: Answer) -> bool:
    """Say whether SQL itself is wrong, as opposed to a refusal on purpose."""
    state = answer.sqlstate
    if answer.raised_on_purpose or state == "42501":
        return False
    return state[:2] in ("42", "22", "0A", "54", "XX", "2F")


async def legitimate_actions_succeed(trial: Trial) -> Judgement:
    """Broken SQL on the way does not make impossible what a policy admits."""
    judgement = Judgement()
    for relation in trial.tables(guarded=False):
        failures: dict[str, tuple[Persona, Candidate, Answer]] = {}
        succeeded: set[str] = set()
        for persona in trial.personas:
            if not inserting(relation, persona):
                continue
            candidates = list(own_candidates(trial, persona, relation))
            answers = await insert_all(trial, persona, relation, candidates)
            for candidate, answer in zip(candidates, answers, strict=True):
                place = candidate.values.get("bucket_id") or ""
                if answer.admitted:
                    succeeded.add(place)
                elif is_programming_error(answer):
                    failures.setdefault(place, (persona, candidate, answer))
        for place, (persona, candidate, answer) in failures.items():
            if place not in succeeded:
                judgement.violations.append(
                    _impossible(trial, relation, place, persona, candidate, answer)
                )
    return judgement


def _impossible(
    trial: Trial,
    relation: Relation,
    place: str,
    persona: Persona,
    candidate: Candidate,
    answer: Answer,
) -> Violation:
    what = (
        f"no upload to bucket {place}" if place else f"no INSERT into {relation.name}"
    )
    line = answer.context.partition("\n")[2] or answer.context
    return Violation(
        check="legitimate_actions_succeed",
        where=str(relation.name),
        fault=f"INSERT {place} {answer.sqlstate}",
        message=f"{what} can ever succeed: {answer.message} [{answer.sqlstate}]",
        case=Case(
            persona=persona,
            steps=(trial.insert_step(relation, candidate.values),),
            expectation=Expectation(
                kind="raises", text=answer.sqlstate, says=f"raises: {answer.message}"
            ),
            rows=needed_rows(trial, relation, candidate),
        ),
        severity="critical",
        note=_trigger_line(line),
        rank=rank(persona),
    )


def _trigger_line(context: str) -> str:
    lines = [line for line in context.splitlines() if "harness_probe" not in line]
    return lines[0] if lines else ""
