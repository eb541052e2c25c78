"""Properties of what belongs to nobody in particular, and of ways around a table.

Rows that everybody shares are changed by those who keep them; partitions and views give
away no more than the table they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.db.catalog import Relation, View
from harness.policies.candidates import shared_candidates
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.decisions import row_filter
from harness.policies.effects import Secrets, leaves
from harness.policies.explaining import PUBLIC_WORDS, Explainer
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, insert_statement
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.properties_rows import VERBS, change_case, rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.witness import describe

__all__ = [
    "partitions_are_guarded_like_their_table",
    "shared_rows_are_kept_by_their_keepers",
    "views_reveal_nothing_hidden",
]

MAX_VIEW_ROWS = 200
PLAIN_CALLERS = ("anon", "carol", "bob")


async def shared_rows_are_kept_by_their_keepers(trial: Trial) -> Judgement:
    """Nobody changes or deletes shared rows who could not have made one."""
    judgement = Judgement()
    explainer = Explainer.of(trial)
    for relation in trial.tables():
        shared = trial.population.owned_by(relation.name, "")
        if relation.name == OBJECTS or not shared:
            continue
        for name in ("anon", "carol"):
            persona = trial.population.world.cast.persona(name)
            violation = await _shared_change(
                trial, explainer, persona, relation, shared
            )
            if violation is not None:
                judgement.violations.append(violation)
                break
    return judgement


async def _shared_change(
    trial: Trial,
    explainer: Explainer,
    persona: Persona,
    relation: Relation,
    shared: Iterable[StoredRow],
) -> Violation | None:
    inserts = await _may_insert_shared(trial, persona, relation)
    if inserts and _is_looked_up(trial, relation):
        return _added(trial, persona, relation)
    for command in ("DELETE", "UPDATE"):
        row = next(
            (r for r in shared if trial.decisions.may(persona, command, r)), None
        )
        if row is None:
            continue
        branches = await explainer.true_branches(persona, relation, row, command)
        promised = any(not branch.by_design for branch in branches)
        if persona.kind == "anon" or not inserts or promised:
            return _shared_violation(trial, persona, relation, command, row)
    return None


def _is_looked_up(trial: Trial, relation: Relation) -> bool:
    """Say whether policies decide by rows that are nobody's: by a table of rights."""
    owned = trial.ownership.of(relation.name)
    rights = relation.name in trial.mined.helper_tables
    return rights and not (owned.users or owned.tenants or owned.parents)


def _added(trial: Trial, persona: Persona, relation: Relation) -> Violation | None:
    candidate = next(shared_candidates(trial, persona, relation), None)
    if candidate is None:
        return None
    return Violation(
        check="shared_rows_are_kept_by_their_keepers",
        where=str(relation.name),
        fault="INSERT",
        message=(
            f"{describe(persona)} can add rows to {relation.name}, by which policies"
            " decide"
        ),
        case=Case(
            persona=persona,
            steps=(trial.insert_step(relation, candidate.values),),
            expectation=Expectation(kind="succeeds", says="must be refused"),
            repairs=candidate.aside,
        ),
        severity="critical",
        hint=f"let only those who keep {relation.name} add rows to it",
        rank=rank(persona),
    )


async def _may_insert_shared(
    trial: Trial, persona: Persona, relation: Relation
) -> bool:
    if not relation.may(persona.role, "INSERT"):
        return False
    attempts = [
        Attempt(
            persona=persona,
            commands=(trial.insert_step(relation, candidate.values).sql,),
            setup=candidate.aside,
        )
        for candidate in shared_candidates(trial, persona, relation)
    ]
    return any(a.admitted for a in await trial.prober.attempt_all(attempts))


def _shared_violation(
    trial: Trial, persona: Persona, relation: Relation, command: str, row: StoredRow
) -> Violation:
    return Violation(
        check="shared_rows_are_kept_by_their_keepers",
        where=str(relation.name),
        fault=command,
        message=(
            f"{describe(persona)} can {VERBS[command]} rows of {relation.name}, which"
            " all users share"
        ),
        case=change_case(trial, persona, relation, command, row),
        severity="critical",
        hint=f"let only those who keep {relation.name} {VERBS[command]} its rows",
        rank=rank(persona),
    )


async def partitions_are_guarded_like_their_table(trial: Trial) -> Judgement:
    """No partition shows or gives up rows that its table protects."""
    judgement = Judgement()
    for relation in trial.catalog.relations.values():
        parent = relation.partition_of
        if parent is None or relation.name.schema == "realtime":
            continue
        if not trial.catalog.relations[parent].rls:
            continue
        for name in PLAIN_CALLERS:
            persona = trial.population.world.cast.persona(name)
            if not relation.may(persona.role, "SELECT"):
                continue
            violation = await _partition(trial, persona, relation)
            if violation is not None:
                judgement.violations.append(violation)
                break
    return judgement


async def _partition(
    trial: Trial, persona: Persona, relation: Relation
) -> Violation | None:
    assert relation.partition_of is not None
    sql = (
        f"select coalesce(jsonb_agg(t.tableoid::oid || t.ctid::text), '[]')"
        f" from {relation.name.sql} t"
    )
    answer = await trial.prober.attempt(Attempt(persona=persona, fetch=sql))
    seen = set(answer.fetched or ())
    hidden = [
        row
        for row in trial.population.of(relation.partition_of)
        if row.at in seen and not trial.decisions.may(persona, "SELECT", row)
    ]
    if not hidden:
        return await _empty_partition(trial, persona, relation)
    key = trial.catalog.relations[relation.partition_of]
    step = Step(
        sql=f"select * from {relation.name.sql} where {row_filter(key, hidden[0])}",
        action="select",
        target=relation.name,
    )
    return Violation(
        check="partitions_are_guarded_like_their_table",
        where=str(relation.name),
        fault="no row level security",
        message=(
            f"{describe(persona)} reads rows of {relation.partition_of} from its"
            f" partition {relation.name}, which has no row level security"
        ),
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(kind="affects", says="must return no row"),
            rows=(hidden[0],),
        ),
        severity="critical",
        hint=f"alter table {relation.name} enable row level security",
        rank=rank(persona),
    )


async def _empty_partition(
    trial: Trial, persona: Persona, relation: Relation
) -> Violation | None:
    """Judge a partition that no row of the world falls into, by a row put there.

    Detached, it takes any row; its grants and policies stay what they are.
    """
    parent = trial.catalog.relations[relation.partition_of or relation.name]
    kept = trial.population.of(parent.name)
    row = next((r for r in kept if not trial.decisions.may(persona, "SELECT", r)), None)
    if row is None:
        return None
    values = {c.name: row.text(c.name) for c in parent.columns if not c.generated}
    identity = any(column.identity for column in parent.columns)
    setup = (
        f"alter table {parent.name.sql} detach partition {relation.name.sql}",
        WITHOUT_TRIGGERS,
        insert_statement(relation.name, values, identity=identity),
        WITH_TRIGGERS,
    )
    look = f"select * from {relation.name.sql} where {row_filter(parent, row)}"
    answer = await trial.prober.attempt(
        Attempt(
            persona=persona,
            fetch=f"select to_jsonb(count(*)) from ({look}) x",
            setup=setup,
        )
    )
    if not (answer.ok and answer.fetched):
        return None
    return Violation(
        check="partitions_are_guarded_like_their_table",
        where=str(relation.name),
        fault="no row level security",
        message=(
            f"{describe(persona)} reads from the partition {relation.name} rows that"
            f" {parent.name} hides"
        ),
        case=Case(
            persona=persona,
            steps=(Step(sql=look, action="select", target=relation.name),),
            expectation=Expectation(kind="affects", says="must return no row"),
            repairs=setup,
        ),
        severity="critical",
        hint=f"guard {relation.name} as {parent.name} is guarded",
        rank=rank(persona),
    )


async def views_reveal_nothing_hidden(trial: Trial) -> Judgement:
    """Judge that views show nothing which the tables below them hide."""
    judgement = Judgement()
    secrets = Secrets(trial)
    for view in trial.catalog.views.values():
        words = re.sub(r"_+", " ", view.name.name)
        if view.security_invoker or PUBLIC_WORDS.search(words):
            continue
        relation = trial.catalog.relations.get(view.name)
        for name in PLAIN_CALLERS:
            persona = trial.population.world.cast.persona(name)
            if relation is None or not relation.may(persona.role, "SELECT"):
                continue
            violation = await _view(trial, secrets, persona, view)
            if violation is not None:
                judgement.violations.append(violation)
                break
    return judgement


def _refilled(
    trial: Trial, row: StoredRow, refresh: tuple[str, ...]
) -> tuple[str, ...]:
    """Return how to store a row and have a materialised view show it."""
    columns = trial.catalog.relations[row.table].columns
    values = {c.name: row.text(c.name) for c in columns if not c.generated}
    identity = any(column.identity for column in columns)
    insert = insert_statement(row.table, values, identity=identity)
    return (WITHOUT_TRIGGERS, insert, WITH_TRIGGERS, *refresh)


async def _view(
    trial: Trial, secrets: Secrets, persona: Persona, view: View
) -> Violation | None:
    sql = f"select * from {view.name.sql}"
    kept = trial.catalog.relations[view.name].kind == "matview"
    refresh = (f"refresh materialized view {view.name.sql}",) if kept else ()
    answer = await trial.prober.attempt(
        Attempt(
            persona=persona,
            setup=refresh,
            fetch="select coalesce(jsonb_agg(to_jsonb(x)), '[]')"
            f" from ({sql} limit {MAX_VIEW_ROWS}) x",
        )
    )
    for text in leaves(answer.fetched or []):
        origin = secrets.hidden_origin(persona, text, keys=True)
        if origin is not None:
            return Violation(
                check="views_reveal_nothing_hidden",
                where=str(view.name),
                fault="runs as its owner",
                message=(
                    f"view {view.name} shows {describe(persona)} values of"
                    f" {origin.table} that they may not read"
                ),
                case=Case(
                    persona=persona,
                    steps=(Step(sql=sql, action="select", target=view.name),),
                    expectation=Expectation(
                        kind="returns", text=text, says=f"must not return {text}"
                    ),
                    rows=() if kept else (origin,),
                    repairs=_refilled(trial, origin, refresh) if kept else (),
                ),
                severity="critical",
                hint=f"revoke SELECT on {view.name} from API roles"
                if kept
                else f"alter view {view.name} set (security_invoker = true)",
                rank=rank(persona),
            )
    return None
