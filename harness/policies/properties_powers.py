"""Nobody gives themselves a role: not by changing their own row, nor by adding one.

Tried on every column that helpers read to decide what a user may do.  It counts only if
more of other people's rows comes within reach, or if the value is one that manages.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace

from harness.db.catalog import Name, Relation
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.ownership import Part
from harness.policies.personas import TIER_WORDS, Persona
from harness.policies.population import StoredRow, insert_statement
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.properties_rows import rank
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = ["own_powers_are_not_raised"]

RANK_NAME = re.compile(r"role|level|permission|admin|owner|rank|access|scope|privilege")
METADATA = re.compile(r"'user_metadata'(?:::text)?\)?\s*->>?\s*'(\w+)'")
MAX_TRIES = 24


async def own_powers_are_not_raised(trial: Trial) -> Judgement:
    """Nobody raises their own powers by writing what grants them."""
    judgement = Judgement()
    for persona in trial.personas:
        if persona.kind != "plain" or persona.user is None:
            continue
        baseline: Mapping[tuple[Name, bool], int] | None = None
        for case, power in list(_raises(trial, persona))[:MAX_TRIES]:
            answer = await trial.prober.attempt(
                Attempt(
                    persona=persona,
                    commands=(case.steps[0].sql,),
                    observe=f"select to_jsonb({case.expectation.query})",
                    setup=case.repairs,
                )
            )
            if not (answer.ok and answer.seen is True):
                continue
            if baseline is None:
                baseline = await _reach(trial, persona, ())
            raised = await _reach(trial, persona, (*case.repairs, case.steps[0].sql))
            near = case.steps[0].target in _memberships(trial)
            gained = [
                name
                for (name, within), count in raised.items()
                if within == near and count > baseline.get((name, within), 0)
            ]
            managing = power not in ("", "false") and not TIER_WORDS.search(power)
            if gained or managing:
                judgement.violations.append(_raised(trial, persona, case, gained))
                break
    judgement.violations += [v async for v in _by_own_metadata(trial)]
    return judgement


async def _by_own_metadata(trial: Trial) -> AsyncIterator[Violation]:
    """Yield what users gain by writing into their own ``user_metadata``."""
    values = _metadata_values(trial)
    paths = sorted(values)
    for name in ("bob", "alice", "carol") if paths else ():
        persona = trial.population.world.cast.persona(name)
        baseline = await _reach(trial, persona, ())
        for path in paths:
            for value in values[path]:
                claims = {**persona.claims, "user_metadata": _nested(path[1:], value)}
                forged = replace(persona, claims=claims)
                reached = await _reach(trial, forged, ())
                gained = [k[0] for k, n in reached.items() if n > baseline.get(k, 0)]
                if gained:
                    yield _forged(trial, forged, path, gained[0])


def _metadata_values(trial: Trial) -> dict[tuple[str, ...], list[str]]:
    """Return what users could write into the metadata that the schema reads."""
    mined = trial.mined
    texts = [policy.using + policy.check for policy in trial.catalog.policies]
    texts += [function.definition for function in trial.catalog.functions]
    read: set[tuple[str, ...]] = {
        ("user_metadata", key) for text in texts for key in METADATA.findall(text)
    }
    read |= {p for p in mined.claim_constants if p[:1] == ("user_metadata",)}
    bob = trial.population.world.cast.persona("bob")
    values: dict[tuple[str, ...], list[str]] = {}
    for path in read:
        kept = values[path] = [*mined.claim_constants.get(path, ())]
        # A tenant that is read from there is one that a claim is compared with.
        columns = {
            col
            for claimed, cols in mined.claim_columns.items()
            for col in cols
            if claimed[-1:] == path[-1:]
        }
        for col in sorted(columns, key=str):
            named = [row.text(col.column) for row in trial.foreign_rows(bob, col.table)]
            kept += [value for value in named[:1] if value is not None]
    return values


def _nested(path: tuple[str, ...], value: str) -> Mapping[str, object]:
    nested: object = {"true": True, "false": False}.get(value, value)
    for step in reversed(path):
        nested = {step: nested}
    return nested if isinstance(nested, dict) else {}


def _forged(
    trial: Trial, persona: Persona, path: tuple[str, ...], table: Name
) -> Violation:
    relation = trial.catalog.relations[table]
    return Violation(
        check="own_powers_are_not_raised",
        where=str(table),
        fault=".".join(path),
        message=(
            f"{describe(persona)} reaches more rows of {table} after writing"
            f" {'.'.join(path)}, which users write themselves"
        ),
        case=Case(
            persona=persona,
            steps=(Step(sql=f"select * from {table.sql}", target=table),),
            expectation=Expectation(kind="affects", says="must return no more rows"),
            rows=tuple(
                row
                for row in trial.population.of(relation.name)
                if persona.sub not in row.users and row.clan == persona.clan
            )[:1],
        ),
        severity="critical",
        hint="take roles from app_metadata or from a table, not from user_metadata",
        rank=rank(persona),
    )


def _memberships(trial: Trial) -> set[Name]:
    """Return the tables in which a rank is one among the members of something."""
    return {t.table for t in trial.ownership.tables.values() if t.membership}


def _raises(trial: Trial, persona: Persona) -> Iterator[tuple[Case, str]]:
    """Yield attempts to take each value of each attribute, and that value."""
    for attribute in trial.ownership.attributes:
        relation = trial.catalog.relations[attribute.table]
        own = {attribute.user_column: persona.sub}
        if attribute.is_row:
            if relation.may(persona.role, "INSERT", attribute.user_column):
                yield _insert(trial, persona, relation, own), attribute.table.name
            continue
        for value in attribute.values:
            changes = {attribute.column: value}
            power = value if RANK_NAME.search(attribute.column) else ""
            if relation.may(persona.role, "UPDATE", attribute.column):
                for row in _own(trial, persona, relation, attribute.user_column):
                    if row.text(attribute.column) != value:
                        yield _update(trial, persona, relation, row, changes), power
            if relation.may(persona.role, "INSERT", attribute.column):
                yield _insert(trial, persona, relation, {**own, **changes}), power
    for table in trial.ownership.tables.values():
        if table.membership:
            relation = trial.catalog.relations[table.table]
            yield from _membership_raises(trial, persona, relation)


def _membership_raises(
    trial: Trial, persona: Persona, relation: Relation
) -> Iterator[tuple[Case, str]]:
    owned = trial.ownership.of(relation.name)
    member = next((u.column for u in owned.users if u.part is Part.MEMBER), None)
    if member is None:
        return
    for column in relation.columns:
        if not RANK_NAME.search(column.name):
            continue
        if not relation.may(persona.role, "UPDATE", column.name):
            continue
        stored = trial.population.of(relation.name)
        values = sorted({v for r in stored if (v := r.text(column.name)) is not None})
        for row in _own(trial, persona, relation, member)[:1]:
            for value in values:
                if row.text(column.name) != value:
                    changes = {column.name: value}
                    # Only what it opens counts, whatever the value is called.
                    yield _update(trial, persona, relation, row, changes), ""


def _own(
    trial: Trial, persona: Persona, relation: Relation, column: str
) -> list[StoredRow]:
    return [
        row
        for row in trial.population.of(relation.name)
        if row.text(column) == persona.sub
    ]


def _update(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    row: StoredRow,
    changes: Mapping[str, str | None],
) -> Case:
    key = {name: row.text(name) for name in relation.primary_key}
    return Case(
        persona=persona,
        steps=(trial.update_step(relation, changes, row),),
        expectation=_observed(relation, {**key, **changes}),
        rows=(row,),
    )


def _insert(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    values: Mapping[str, str | None],
) -> Case:
    like = trial.population.of(relation.name)
    filled = dict(values)
    for column in relation.columns:
        if column.required and column.name not in filled and like:
            fresh = trial.values.fresh(relation, column)
            filled[column.name] = fresh or like[0].text(column.name)
    user_column = next(iter(values))
    gone = (
        f"delete from {relation.name.sql}"
        f" where {relation.column(user_column).sql} = {literal(persona.sub)}"
    )
    return Case(
        persona=persona,
        steps=(
            Step(
                sql=insert_statement(relation.name, filled),
                action="insert",
                target=relation.name,
                values=filled,
            ),
        ),
        expectation=_observed(relation, values),
        repairs=(WITHOUT_TRIGGERS, gone, WITH_TRIGGERS),
    )


def _observed(relation: Relation, values: Mapping[str, str | None]) -> Expectation:
    where = " and ".join(
        f"{relation.column(name).sql} = {literal(value)}"
        for name, value in values.items()
    )
    return Expectation(
        kind="observed",
        query=f"exists (select from {relation.name.sql} where {where})",
        says="must be refused: it grants powers",
    )


async def _reach(
    trial: Trial, persona: Persona, before: tuple[str, ...]
) -> Mapping[tuple[Name, bool], int]:
    """Count the rows of others that ``persona`` sees or deletes after ``before``.

    Counted apart: rows of foreign clans (False), and of others in one's own (True).
    """
    asked = [
        (relation, command)
        for relation in trial.tables()
        for command in ("SELECT", "DELETE")
        if relation.may(persona.role, command)
    ]
    answers = await trial.prober.attempt_all(
        [_look(persona, relation, command, before) for relation, command in asked]
    )
    counts: dict[tuple[Name, bool], int] = {}
    for (relation, command), answer in zip(asked, answers, strict=True):
        if not answer.ok:
            continue
        seen = set(answer.fetched if command == "SELECT" else answer.seen)
        foreign = {row.at for row in trial.foreign_rows(persona, relation.name)}
        near = {
            row.at
            for row in trial.population.of(relation.name)
            if row.clan == persona.clan and persona.sub not in row.users
        }
        for within, others in ((False, foreign), (True, near)):
            reached = others & seen if command == "SELECT" else others - seen
            key = (relation.name, within)
            counts[key] = counts.get(key, 0) + len(reached)
    return counts


def _look(
    persona: Persona, relation: Relation, command: str, before: tuple[str, ...]
) -> Attempt:
    listing = (
        "select coalesce(jsonb_agg(t.tableoid::oid || t.ctid::text), '[]')"
        f" from {relation.name.sql} t"
    )
    deletes = (f"delete from {relation.name.sql}",) if command == "DELETE" else ()
    return Attempt(
        persona=persona,
        commands=(*before[-1:], *deletes),
        fetch=listing if command == "SELECT" else "",
        observe=listing if command == "DELETE" else "",
        setup=before[:-1],
        settings={"storage.allow_delete_query": "true"},
    )


def _raised(
    trial: Trial, persona: Persona, case: Case, gained: list[Name]
) -> Violation:
    step = case.steps[0]
    assert step.target is not None
    column = list(step.values)[-1] if step.action == "update" else ""
    what = f"change {step.target}.{column}" if column else f"add a row to {step.target}"
    opened = ", ".join(str(name) for name in gained[:3])
    return Violation(
        check="own_powers_are_not_raised",
        where=str(step.target),
        fault=f"{step.action} {column}",
        message=f"{describe(persona)} can {what} for themselves and so gain powers",
        case=Case(
            persona=persona,
            steps=case.steps,
            expectation=case.expectation,
            rows=case.rows,
        ),
        severity="critical",
        note=f"opens more rows of {opened}" if opened else "the value manages others",
        hint="grant the column to nobody, or guard it in WITH CHECK or by a trigger",
        rank=rank(persona),
    )
