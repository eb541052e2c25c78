"""Nobody writes a balance of their own that functions move between people.

Such a column is told by what the schema does with it: a SECURITY DEFINER function sets
it in the row of a user that its caller names.  What people keep for themselves (the
balance of an account in their own books) is moved by nobody else and does not count.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.db.catalog import Column, Relation
from harness.policies.calls import callable_functions
from harness.policies.cases import Case, Expectation, Violation
from harness.policies.comparisons import Col, Param, read_body
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Attempt
from harness.policies.properties_rows import rank
from harness.policies.trial import Judgement, Trial
from harness.policies.values import INTEGER_TYPES, NUMBER_TYPES
from harness.policies.witness import describe

__all__ = ["own_balances_are_not_written"]

MORE = 1000


async def own_balances_are_not_written(trial: Trial) -> Judgement:
    """Nobody gives themselves what only functions may move between people."""
    judgement = Judgement()
    for relation, column, function in _moved(trial):
        for persona in trial.personas:
            if persona.kind != "plain" or not persona.sub:
                continue
            row = _own_row(trial, persona, relation)
            if row is None or not relation.may(persona.role, "UPDATE", column.name):
                continue
            violation = _raised(trial, persona, relation, column, row, function)
            step = violation.case.steps[0]
            attempt = Attempt(persona=persona, commands=(step.sql,))
            answer = await trial.prober.attempt(attempt)
            if answer.ok and answer.counts[-1]:
                judgement.violations.append(violation)
    return judgement


def _moved(trial: Trial) -> Iterator[tuple[Relation, Column, str]]:
    """Yield columns that a function sets in a row of whom its caller names."""
    for function in callable_functions(trial.catalog, "authenticated"):
        if not function.security_definer:
            continue
        body = read_body(function, trial.catalog)
        named = {
            left
            for comparison in body.comparisons
            for left, right in comparison.pairs()
            if isinstance(left, Col) and isinstance(right, Param)
        }
        for col in sorted({col for col, _ in body.assignments}, key=str):
            relation = trial.catalog.relations.get(col.table)
            if relation is None or not relation.has_column(col.column):
                continue
            owners = trial.ownership.of(col.table).owners
            column = relation.column(col.column)
            number = column.base_type in (*INTEGER_TYPES, *NUMBER_TYPES)
            if number and any(Col(col.table, owner) in named for owner in owners):
                yield relation, column, str(function.name)


def _own_row(trial: Trial, persona: Persona, relation: Relation) -> StoredRow | None:
    owners = trial.ownership.of(relation.name).owners
    return next(
        (
            row
            for row in trial.population.of(relation.name)
            if any(row.text(owner) == persona.sub for owner in owners)
        ),
        None,
    )


def _raised(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    column: Column,
    row: StoredRow,
    function: str,
) -> Violation:
    richer = str(int(float(row.text(column.name) or 0)) + MORE)
    subject = f"{relation.name}.{column.name}"
    return Violation(
        check="own_balances_are_not_written",
        where=str(relation.name),
        fault=column.name,
        message=(
            f"{describe(persona)} can write {subject} of their own, which {function}"
            " moves between people"
        ),
        case=Case(
            persona=persona,
            steps=(trial.update_step(relation, {column.name: richer}, row),),
            expectation=Expectation(kind="affects", says="must affect 0 rows"),
            rows=(row,),
        ),
        severity="critical",
        hint=f"grant UPDATE of {subject} to nobody; let {function} alone change it",
        rank=rank(persona),
    )
