"""Properties of stored rows that need no declaration.

Users neither read nor change what is another's; anonymous visitors may do no more than
signed-in users; tables without row level security are closed; what is published reaches
only those who may read it; policies answer instead of raising.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter

from harness.db.catalog import Relation
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.decisions import harmless_change, statement_settings
from harness.policies.explaining import Branch, Explainer, promises_publicity
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.private_tables import why_private, why_secret
from harness.policies.public_marks import is_closed
from harness.policies.trial import Judgement, Trial
from harness.policies.witness import describe

__all__ = [
    "anonymous_may_no_more_than_signed_in",
    "change_case",
    "others_rows_are_not_changed",
    "others_rows_are_not_read",
    "owner_words",
    "policies_answer_without_error",
    "published_rows_reach_only_readers",
    "rank",
    "tables_without_rls_are_closed",
]

MAX_LOOKS = 12
COMMANDS = ("SELECT", "INSERT", "UPDATE", "DELETE")
VERBS = {"UPDATE": "change", "DELETE": "delete", "SELECT": "read"}


async def others_rows_are_not_changed(trial: Trial) -> Judgement:
    """Nobody updates or deletes rows of a clan that is not theirs."""
    judgement = Judgement()
    for relation in trial.tables():
        for persona in trial.outsiders:
            for command in ("UPDATE", "DELETE"):
                row = _first_foreign(trial, persona, relation, command)
                if row is not None:
                    judgement.violations.append(
                        _foreign_change(trial, persona, relation, command, row)
                    )
    return judgement


def _first_foreign(
    trial: Trial, persona: Persona, relation: Relation, command: str
) -> StoredRow | None:
    foreign = trial.foreign_rows(persona, relation.name)
    return next((r for r in foreign if trial.decisions.may(persona, command, r)), None)


def _foreign_change(
    trial: Trial, persona: Persona, relation: Relation, command: str, row: StoredRow
) -> Violation:
    return Violation(
        check="others_rows_are_not_changed",
        where=str(relation.name),
        fault=f"{command} {_kind(persona)}",
        message=(
            f"{describe(persona)} can {VERBS[command]} rows of {relation.name}"
            f" that belong to {owner_words(trial, row)}"
        ),
        case=change_case(trial, persona, relation, command, row),
        severity="critical",
        hint=f"restrict the {command} policy of {relation.name} to the row's owner",
        rank=rank(persona),
    )


def change_case(
    trial: Trial, persona: Persona, relation: Relation, command: str, row: StoredRow
) -> Case:
    """Return the case in which ``persona`` changes or deletes all rows it can."""
    if command == "DELETE":
        step = Step(
            sql=f"delete from {relation.name.sql}",
            action="delete",
            target=relation.name,
        )
    else:
        change = harmless_change(relation, trial.ownership, persona)
        column, _, value = change.partition(" = ")
        step = Step(
            sql=f"update {relation.name.sql} set {change}",
            action="update",
            target=relation.name,
            values={column.strip('"'): value.strip("'")},
        )
    return Case(
        persona=persona,
        steps=(step,),
        expectation=Expectation(kind="affects", says="must affect 0 rows"),
        rows=(row,),
        settings=statement_settings(relation.name, command),
    )


async def others_rows_are_not_read(trial: Trial) -> Judgement:
    """Nobody reads rows of a foreign clan, unless a policy means them to be public."""
    judgement = Judgement()
    explainer = Explainer.of(trial)
    for relation in trial.tables():
        for persona in trial.outsiders:
            seen = [
                row
                for row in trial.foreign_rows(persona, relation.name)
                if trial.decisions.may(persona, "SELECT", row)
            ]
            for row in _varied(seen)[:MAX_LOOKS]:
                branches = await explainer.true_branches(
                    persona, relation, row, "SELECT"
                )
                if not branches:
                    continue
                meant = [branch for branch in branches if branch.by_design]
                why = _objection(trial, persona, relation, row, meant)
                if why or not meant:
                    judgement.violations.append(
                        _foreign_read(trial, persona, relation, row, branches, why)
                    )
                    break
    return judgement


def _varied(rows: list[StoredRow]) -> list[StoredRow]:
    """Return rows in turns of their users: each may have another privacy."""
    turns: Counter[frozenset[str]] = Counter()
    ranked = []
    for row in rows:
        users = frozenset(row.users)
        ranked.append((turns[users], row))
        turns[users] += 1
    return [row for _, row in sorted(ranked, key=itemgetter(0))]


def _objection(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    row: StoredRow,
    meant: list[Branch],
) -> str:
    """Say why rows should stay private although branches let them out on purpose."""
    if not meant:
        return ""
    if is_closed(relation, row):
        return "shows what its owner keeps to themselves"
    secret = why_secret(trial, persona, relation)
    if secret or any(branch.selective for branch in meant):
        return secret
    stated = any(promises_publicity(branch.policy) for branch in meant)
    if any(branch.partly_public for branch in meant):
        return "is opened beside, by the same policy, only in a public state"
    return why_private(trial, persona, relation, row, stated=stated)


def _foreign_read(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    row: StoredRow,
    branches: list[Branch],
    why: str,
) -> Violation:
    branch = branches[0]
    broken = next((a for a in branch.atoms if not a.by_design), branch.atoms[0])
    reason = f"{relation.name} {why}" if why else broken.reason
    return Violation(
        check="others_rows_are_not_read",
        where=branch.policy.told,
        fault=f"SELECT {_kind(persona)}",
        message=(
            f"{describe(persona)} can read rows of {relation.name}"
            f" that belong to {owner_words(trial, row)}"
        ),
        case=Case(
            persona=persona,
            steps=(trial.row_step("select", relation, row),),
            expectation=Expectation(kind="affects", says="must return no row"),
            rows=(row,),
        ),
        severity="critical",
        note=f"let through by: {broken.sql} ({reason})",
        hint=f'make the policy "{branch.policy.name}" ask for the caller',
        rank=rank(persona),
    )


async def anonymous_may_no_more_than_signed_in(trial: Trial) -> Judgement:
    """Anonymous visitors may do nothing to a row that signed-in users may not."""
    judgement = Judgement()
    anon = trial.population.world.cast.persona("anon")
    plain = trial.population.world.cast.persona("carol")
    for relation in trial.tables():
        for command in ("SELECT", "UPDATE", "DELETE"):
            rows = trial.decisions.rows(anon, command, trial.population, relation.name)
            more = [r for r in rows if not trial.decisions.may(plain, command, r)]
            if not more:
                continue
            row = more[0]
            if command == "SELECT":
                case = Case(
                    persona=anon,
                    steps=(trial.row_step("select", relation, row),),
                    expectation=Expectation(kind="affects", says="must return no row"),
                    rows=(row,),
                )
            else:
                case = change_case(trial, anon, relation, command, row)
            judgement.violations.append(
                Violation(
                    check="anonymous_may_no_more_than_signed_in",
                    where=str(relation.name),
                    fault=command,
                    message=(
                        f"an anonymous visitor can {VERBS[command]} rows of"
                        f" {relation.name} that a signed-in user cannot"
                    ),
                    case=case,
                    severity="high",
                )
            )
    return judgement


async def tables_without_rls_are_closed(trial: Trial) -> Judgement:
    """Tables without row level security are not open to API roles."""
    judgement = Judgement()
    anon = trial.population.world.cast.persona("anon")
    plain = trial.population.world.cast.persona("carol")
    for relation in trial.tables(guarded=False):
        if relation.rls or not trial.catalog.reaches(
            "authenticated", [relation.name.schema]
        ):
            continue
        for persona in (anon, plain):
            shown = _open_command(trial, persona, relation)
            if shown is None:
                continue
            command, case = shown
            judgement.violations.append(
                Violation(
                    check="tables_without_rls_are_closed",
                    where=str(relation.name),
                    fault="no row level security",
                    message=(
                        f"{relation.name} has no row level security:"
                        f" {describe(persona)} can {VERBS[command]} every row"
                    ),
                    case=case,
                    severity="critical",
                    hint=(
                        f"alter table {relation.name} enable row level security,"
                        " then add policies"
                    ),
                    rank=0 if persona is anon else 1,
                )
            )
            break
    return judgement


def _open_command(
    trial: Trial, persona: Persona, relation: Relation
) -> tuple[str, Case] | None:
    owned = trial.ownership.of(relation.name)
    for command in ("DELETE", "UPDATE", "SELECT"):
        rows = trial.decisions.rows(persona, command, trial.population, relation.name)
        if not rows:
            continue
        row = next((r for r in rows if r.clan), rows[0])
        if command != "SELECT":
            return command, change_case(trial, persona, relation, command, row)
        if owned.users or owned.tenants or row.clan:
            step = trial.row_step("select", relation, row)
            expectation = Expectation(kind="affects", says="must return no row")
            return command, Case(
                persona=persona, steps=(step,), expectation=expectation, rows=(row,)
            )
    return None


async def published_rows_reach_only_readers(trial: Trial) -> Judgement:
    """Realtime publishes no table whose rows everybody would receive."""
    judgement = Judgement()
    for relation in trial.tables(guarded=False):
        if relation.rls or not trial.catalog.published(relation.name):
            continue
        for name in ("anon", "carol"):
            persona = trial.population.world.cast.persona(name)
            rows = trial.foreign_rows(persona, relation.name) or list(
                trial.population.of(relation.name)
            )
            seen = [r for r in rows if trial.decisions.may(persona, "SELECT", r)]
            if not seen:
                continue
            case = Case(
                persona=persona,
                steps=(trial.row_step("select", relation, seen[0]),),
                expectation=Expectation(
                    kind="affects",
                    says="Realtime delivers the row's changes to whoever this returns"
                    " a row to",
                ),
                rows=(seen[0],),
            )
            judgement.violations.append(
                Violation(
                    check="published_rows_reach_only_readers",
                    where=str(relation.name),
                    fault="published without row level security",
                    message=(
                        f"{relation.name} is in publication supabase_realtime without"
                        f" row level security: {describe(persona)} receives the rows"
                        f" of {owner_words(trial, seen[0])}"
                    ),
                    case=case,
                    severity="critical",
                    hint="enable row level security before publishing the table",
                )
            )
            break
    return judgement


async def policies_answer_without_error(trial: Trial) -> Judgement:
    """Policies neither raise nor recurse."""
    judgement = Judgement()
    for fault in trial.decisions.faults:
        if fault.answer.timed_out:
            judgement.undecided[str(fault.table)] = (
                f"{fault.command} ran into the statement timeout"
            )
            continue
        if fault.command == "DELETE" and fault.persona.kind == "service":
            continue
        rows = trial.population.of(fault.table)
        judgement.violations.append(
            Violation(
                check="policies_answer_without_error",
                where=str(fault.table),
                fault=f"{fault.command} {fault.answer.sqlstate}",
                message=(
                    f"{fault.command} on {fault.table} raises for"
                    f" {describe(fault.persona)}: {fault.answer.message}"
                    f" [{fault.answer.sqlstate}]"
                ),
                case=Case(
                    persona=fault.persona,
                    steps=(Step(sql=_plain(fault.statement), target=fault.table),),
                    expectation=Expectation(
                        kind="raises",
                        text=fault.answer.sqlstate,
                        says="must not raise",
                    ),
                    rows=tuple(rows[:1]),
                    settings=statement_settings(fault.table, fault.command),
                ),
                severity="high",
                rank=rank(fault.persona),
            )
        )
    return judgement


def _plain(statement: str) -> str:
    """Return the probing SELECT as anybody would write it."""
    if not statement.startswith("select coalesce"):
        return statement
    return "select * from " + statement.rpartition(" from ")[2].removesuffix(" t")


def rank(persona: Persona) -> int:
    """Order personas by how clear a witness they make, the clearest first."""
    if persona.name == "bob":
        return 0
    order = {"plain": 1, "anon": 2, "special": 3, "nameless": 4, "service": 5}
    return order[persona.kind]


def _kind(persona: Persona) -> str:
    return "anonymously" if persona.kind == "anon" else "signed in"


def owner_words(trial: Trial, row: StoredRow) -> str:
    """Return whose row it is, in words."""
    if not row.clan:
        return "nobody in particular"
    cast = trial.population.world.cast
    named = [user.name for user in cast.users if user.id in row.users]
    if named:
        return named[0]
    leads: Iterable[str] = (u.name for u in cast.clan(row.clan))
    names: Iterator[str] = iter(leads)
    return f"{next(names, row.clan)}'s side"
