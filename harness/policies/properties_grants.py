"""Properties of grants and publications that need no declaration."""

from __future__ import annotations

from collections.abc import Iterator

from harness.db.catalog import Relation
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.decisions import harmless_change
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.properties_rows import rank
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "replica_identities_serve_publications",
    "tables_are_not_truncated",
    "updates_reach_rows_that_are_seen",
]

# Supabase's default grants give them together; TRUNCATE without them was given alone.
COMPANIONS = frozenset(("REFERENCES", "TRIGGER"))


async def tables_are_not_truncated(trial: Trial) -> Judgement:
    """Nobody empties a table whose other privileges were chosen with care.

    Supabase's default grants include TRUNCATE on every table, out of reach of its API,
    and stay behind where single privileges are revoked; only TRUNCATE that somebody
    granted counts.
    """
    judgement = Judgement()
    for relation in trial.tables():
        if not trial.population.of(relation.name):
            continue
        for persona in _truncating(trial, relation):
            sql = f"truncate {relation.name.sql} cascade"
            plain = f"truncate {relation.name.sql}"
            answers = await trial.prober.attempt_each(persona, [plain, sql])
            done = [s for s, a in zip((plain, sql), answers, strict=True) if a.ok]
            if done:
                judgement.violations.append(
                    _truncation(trial, persona, relation, done[0])
                )
                break
    return judgement


def _truncating(trial: Trial, relation: Relation) -> Iterator[Persona]:
    for name in ("anon", "bob"):
        persona = trial.population.world.cast.persona(name)
        held = relation.privileges.get(persona.role)
        left = held is not None and held.table >= COMPANIONS
        chosen = not left or _taken_elsewhere(trial, relation, persona.role)
        if chosen and relation.may(persona.role, "TRUNCATE"):
            yield persona


def _taken_elsewhere(trial: Trial, relation: Relation, role: str) -> bool:
    """Say whether every other table lost TRUNCATE, some of them TRUNCATE alone."""
    others = [
        held.table
        for other in trial.tables()
        if other.name != relation.name and other.name.schema == relation.name.schema
        if (held := other.privileges.get(role)) is not None
    ]
    left = any(granted >= COMPANIONS for granted in others)
    return left and all("TRUNCATE" not in granted for granted in others)


def _truncation(
    trial: Trial, persona: Persona, relation: Relation, sql: str
) -> Violation:
    rows = trial.population.of(relation.name)
    return Violation(
        check="tables_are_not_truncated",
        where=str(relation.name),
        fault="TRUNCATE",
        message=f"{describe(persona)} can empty {relation.name}; policies do not apply",
        case=Case(
            persona=persona,
            steps=(Step(sql=sql),),
            expectation=Expectation(
                kind="observed",
                query=f"not exists (select from {relation.name.sql})",
                says="must be refused",
            ),
            rows=tuple(rows[:1]),
        ),
        severity="critical",
        hint=f"revoke truncate on {relation.name} from {persona.role}",
        rank=rank(persona),
    )


async def updates_reach_rows_that_are_seen(trial: Trial) -> Judgement:
    """Whoever may update or delete rows of a table sees some of those rows.

    An UPDATE or DELETE with a filter, and every upsert, reads the row first: without a
    SELECT policy it affects nothing, and says nothing.
    """
    judgement = Judgement()
    decisions = trial.decisions
    for relation in trial.tables():
        for command in ("UPDATE", "DELETE"):
            able = [
                (persona, row)
                for persona in trial.personas
                if persona.kind not in ("service", "anon")
                for row in decisions.rows(
                    persona, command, trial.population, relation.name
                )
            ]
            if not able or any(decisions.may(p, "SELECT", row) for p, row in able):
                continue
            persona, row = min(able, key=lambda pair: rank(pair[0]))
            judgement.violations.append(_blind(trial, relation, command, persona, row))
    return judgement


def _blind(
    trial: Trial, relation: Relation, command: str, persona: Persona, row: StoredRow
) -> Violation:
    if command == "DELETE":
        step = trial.row_step("delete", relation, row)
    else:
        change = harmless_change(relation, trial.ownership, persona)
        column, _, value = change.partition(" = ")
        step = trial.update_step(relation, {column.strip('"'): value.strip("'")}, row)
    return Violation(
        check="updates_reach_rows_that_are_seen",
        where=str(relation.name),
        fault=command,
        message=(
            f"a policy lets {describe(persona)} {command} rows of {relation.name}, but"
            " no SELECT policy shows them: with a filter, nothing is ever affected"
        ),
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(kind="spares", says="must affect the row"),
            rows=(row,),
        ),
        severity="medium",
        hint=f"add a SELECT policy to {relation.name}",
        rank=rank(persona),
    )


async def replica_identities_serve_publications(trial: Trial) -> Judgement:
    """Tables that were prepared for Realtime are not all left unpublished."""
    judgement = Judgement()
    service = trial.population.world.cast.persona("service_role")
    prepared = [r for r in trial.tables(guarded=False) if r.replica_identity == "f"]
    if any(trial.catalog.published(relation.name) for relation in prepared):
        return judgement
    for relation in prepared:
        sql = (
            "select * from pg_publication_tables where pubname = 'supabase_realtime'"
            f" and schemaname = {literal(relation.name.schema)}"
            f" and tablename = {literal(relation.name.name)}"
        )
        judgement.violations.append(
            Violation(
                check="replica_identities_serve_publications",
                where=str(relation.name),
                fault="not published",
                message=(
                    f"{relation.name} has REPLICA IDENTITY FULL but is not in"
                    " publication supabase_realtime: no subscriber gets any change"
                ),
                case=Case(
                    persona=service,
                    steps=(Step(sql=sql),),
                    expectation=Expectation(kind="spares", says="must return a row"),
                ),
                severity="medium",
                hint=f"alter publication supabase_realtime add table {relation.name}",
            )
        )
    return judgement
