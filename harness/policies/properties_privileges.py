"""Nobody writes into their own row what others decide: a rank, a plan, a balance.

A column with such a name counts in the one row that a user has of a table, whether or
not a policy reads it: what shows it, bills by it or trusts it stands outside the
schema.  A table of roles counts whole: nobody adds their own row to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.db.catalog import Column, Relation
from harness.policies.calls import callable_functions
from harness.policies.candidates import fresh_copy
from harness.policies.cases import Case, Expectation, Violation
from harness.policies.comparisons import Col, read_body
from harness.policies.decisions import row_filter
from harness.policies.effects import Change
from harness.policies.ownership import Part
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, as_text
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.properties_functions import Called, calls_of
from harness.policies.properties_rows import rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import INTEGER_TYPES, NUMBER_TYPES, literal
from harness.policies.witness import describe

__all__ = ["functions_promote_nobody", "privileges_are_given_by_others"]

TRUTH_NAME = re.compile(
    r"^(is_|site_)?(admin|administrator|staff|superuser|super_?admin|moderator|verified|"
    r"premium|pro|vip|trusted)$"
)
RANK_NAME = re.compile(r"^((user|app|site|account|system)_)?(role|rank|access_level)$")
RANK_VALUE = re.compile(
    r"^(super_?)?(admin|administrator|user)$|^(moderator|staff|root|owner|superuser)$"
)
PLAN_NAME = re.compile(
    r"^(plan|tier|(subscription|account|membership)_(plan|tier|level))$"
)
WORTH_NAME = re.compile(
    r"^((wallet|credit|account|loyalty|reward|bonus)_)?(balance|credits?|points|coins|quota|karma|xp)"
    r"(_(cents|minor|units|limit|left|balance))?$"
)
MEMBER_RANK = re.compile(r"^(\w+_)?(role|rank|level|kind|position)$")
TOP_VALUE = re.compile(
    r"^((super_?)?(admin|administrator)|owner|lead|leader|manager|moderator|staff)$"
)
RANK_COLUMN = re.compile(r"(^|_)(role|rank|level)$")
ROLE_TABLE = re.compile(
    r"^((user|app|site|account|profile|system)_)?(roles?|role_(assignment|grant)s?|"
    r"admins?|administrators?|moderators?|staff|superusers?)$"
)
MORE = 1000


async def privileges_are_given_by_others(trial: Trial) -> Judgement:
    """Nobody promotes, verifies, upgrades or enriches themselves."""
    judgement = Judgement()
    for relation in trial.tables():
        if relation.name == OBJECTS:
            continue
        for persona in trial.personas:
            if persona.kind != "plain" or persona.user is None:
                continue
            told = {(str(relation.name), c, persona.name) for c in ("UPDATE", "INSERT")}
            if told & trial.told:
                break
            found = await _self_set(trial, persona, relation)
            found = found or await _self_ranked(trial, persona, relation)
            found = found or await _self_added(trial, persona, relation)
            if found is not None:
                judgement.violations.append(found)
                break
    return judgement


async def _self_set(
    trial: Trial, persona: Persona, relation: Relation
) -> Violation | None:
    row = _own_row(trial, persona, relation)
    if row is None:
        return None
    changes = [
        (column, value)
        for column in relation.columns
        if relation.may(persona.role, "UPDATE", column.name)
        for value in _privileges(trial, relation, column, row)
    ]
    steps = [
        trial.update_step(relation, {column.name: value}, row)
        for column, value in changes
    ]
    key = {name: row.text(name) for name in relation.primary_key}
    wanted = [_is_stored(relation, {**key, **step.values}) for step in steps]
    answers = await trial.prober.attempt_all(
        [
            Attempt(
                persona=persona,
                commands=(step.sql,),
                observe=f"select to_jsonb({condition})",
            )
            for step, condition in zip(steps, wanted, strict=True)
        ]
    )
    for (column, _), step, answer in zip(changes, steps, answers, strict=True):
        if answer.ok and answer.seen is True:
            return Violation(
                check="privileges_are_given_by_others",
                where=str(relation.name),
                fault=f"UPDATE {column.name}",
                message=(
                    f"{describe(persona)} can set {relation.name}.{column.name} of"
                    " their own row"
                ),
                case=Case(
                    persona=persona,
                    steps=(step,),
                    expectation=Expectation(kind="affects", says="must affect 0 rows"),
                    rows=(row,),
                ),
                severity="critical",
                hint=f"grant UPDATE of the columns of {relation.name} that users may"
                " change, and of no other",
                rank=rank(persona),
            )
    return None


async def _self_ranked(
    trial: Trial, persona: Persona, relation: Relation
) -> Violation | None:
    """Return what shows that a member of any rank takes the highest."""
    owned = trial.ownership.of(relation.name)
    member = next((u.column for u in owned.users if u.part is not Part.REFERENCE), "")
    if not (owned.membership or len(relation.primary_key) > 1) or not member:
        return None
    row = next(
        (
            r
            for r in trial.population.of(relation.name)
            if r.text(member) == persona.sub
        ),
        None,
    )
    for column in relation.columns if row is not None else ():
        known = trial.mined.constants.get(Col(relation.name, column.name), ())
        values = dict.fromkeys((*column.labels, *known))
        high = [v for v in values if TOP_VALUE.match(v)]
        low = [v for v in values if not TOP_VALUE.match(v)]
        granted = relation.may(persona.role, "UPDATE", column.name)
        if not (MEMBER_RANK.match(column.name) and high and low and granted):
            continue
        assert row is not None
        step = trial.update_step(relation, {column.name: high[0]}, row)
        where = row_filter(relation, row)
        answers = await trial.prober.attempt_all(
            [
                Attempt(
                    persona=persona,
                    commands=(step.sql,),
                    setup=(
                        WITHOUT_TRIGGERS,
                        f"update {relation.name.sql}"
                        f" set {column.sql} = {literal(value)} where {where}",
                        WITH_TRIGGERS,
                    ),
                )
                for value in low
            ]
        )
        if all(a.ok and a.counts[-1] for a in answers):
            return Violation(
                check="privileges_are_given_by_others",
                where=str(relation.name),
                fault=f"UPDATE {column.name}",
                message=(
                    f"{describe(persona)} can set {relation.name}.{column.name} of"
                    " their own row"
                ),
                case=Case(
                    persona=persona,
                    steps=(step,),
                    expectation=Expectation(kind="affects", says="must affect 0 rows"),
                    rows=(row,),
                ),
                severity="critical",
                hint=f"let others than the member change {column.name}",
                rank=rank(persona),
            )
    return None


def _is_stored(relation: Relation, values: dict[str, str | None]) -> str:
    where = " and ".join(
        f"{relation.column(name).sql}::text = {literal(value)}"
        f"::{relation.column(name).type}::text"
        for name, value in values.items()
    )
    return f"exists (select from {relation.name.sql} where {where})"


def _own_row(trial: Trial, persona: Persona, relation: Relation) -> StoredRow | None:
    """Return the one row that a table has of the persona, as of every user."""
    owned = trial.ownership.of(relation.name)
    unique = {key.columns for key in relation.unique_keys if not key.expression}
    for column in owned.user_names:
        for row in trial.population.of(relation.name):
            if (column,) in unique and row.text(column) == persona.sub:
                return row
    return None


def _privileges(
    trial: Trial, relation: Relation, column: Column, row: StoredRow
) -> Iterator[str]:
    """Yield what the column would say of somebody with more than the row's owner."""
    now = row.text(column.name)
    number = column.base_type in (*INTEGER_TYPES, *NUMBER_TYPES)
    if column.base_type == "boolean" and TRUTH_NAME.match(column.name):
        yield from () if now == "true" else ("true",)
    elif number and WORTH_NAME.match(column.name):
        yield str(int(float(now or 0)) + MORE)
    elif RANK_NAME.match(column.name) or PLAN_NAME.match(column.name):
        known = trial.mined.constants.get(Col(relation.name, column.name), ())
        plan = PLAN_NAME.match(column.name)
        for value in dict.fromkeys((*column.labels, *known)):
            if value != now and (plan or RANK_VALUE.match(value)):
                yield value


async def _self_added(
    trial: Trial, persona: Persona, relation: Relation
) -> Violation | None:
    owned = trial.ownership.of(relation.name)
    if not (
        ROLE_TABLE.match(relation.name.name)
        and owned.user_names
        and not owned.parents
        and relation.may(persona.role, "INSERT")
    ):
        return None
    column = owned.user_names[0]
    for row in trial.population.of(relation.name):
        values = fresh_copy(trial, persona, relation, row)
        if values is None:
            return None
        step = trial.insert_step(relation, {**values, column: persona.sub})
        gone = (
            f"delete from {relation.name.sql}"
            f" where {relation.column(column).sql} = {literal(persona.sub)}"
        )
        answer = await trial.prober.attempt(
            Attempt(
                persona=persona,
                commands=(step.sql,),
                setup=(WITHOUT_TRIGGERS, gone, WITH_TRIGGERS),
                observe="select to_jsonb("
                f"{_is_stored(relation, {column: persona.sub})})",
            )
        )
        if answer.ok and answer.seen is True:
            return Violation(
                check="privileges_are_given_by_others",
                where=str(relation.name),
                fault="INSERT",
                message=f"{describe(persona)} can add themselves to {relation.name}",
                case=Case(
                    persona=persona,
                    steps=(step,),
                    expectation=Expectation(kind="succeeds", says="must be refused"),
                ),
                severity="critical",
                hint=f"let users add nothing to {relation.name}",
                rank=rank(persona),
            )
    return None


async def functions_promote_nobody(trial: Trial) -> Judgement:
    """No function lets its caller raise their own rank among others."""
    judgement = Judgement()
    for function in callable_functions(trial.catalog, "authenticated"):
        written = read_body(function, trial.catalog).assignments
        if not any(RANK_COLUMN.search(c.column) for c, _ in written):
            continue
        for persona in trial.personas:
            # Who leads a team may be what they want to be in it.
            plain = persona.kind == "plain" and persona.user is not None
            if not plain or (persona.user and persona.user.lead):
                continue
            async for called in calls_of(trial, persona, function):
                for change in called.changes(trial) if called.answer.ok else ():
                    column = _raised(called, change)
                    if column:
                        found = _promotion(trial, called, change, column)
                        judgement.violations.append(found)
    return judgement


def _promotion(trial: Trial, called: Called, change: Change, column: str) -> Violation:
    assert change.stored is not None
    relation = trial.catalog.relations[change.table]
    key = {name: change.stored.text(name) for name in relation.primary_key}
    value = as_text((change.after or {}).get(column))
    name = called.call.function.name
    return Violation(
        check="functions_promote_nobody",
        where=called.call.function.signature,
        fault=f"{change.table}.{column}",
        message=(
            f"{describe(called.persona)} calls {name} and raises their own {column} in"
            f" {change.table}"
        ),
        case=called.case(
            Expectation(
                kind="observed",
                query=_is_stored(relation, {**key, column: value}),
                says="must be refused: it grants powers",
            ),
            (change.stored,),
        ),
        severity="critical",
        hint="ask for the caller's rank before changing one",
        rank=rank(called.persona),
    )


def _raised(called: Called, change: Change) -> str:
    """Return the column in which the caller's own row says more than before."""
    row = change.stored
    if row is None or change.kind != "update" or called.persona.sub not in row.users:
        return ""
    for name in change.columns:
        before = as_text((change.before or {}).get(name)) or ""
        after = as_text((change.after or {}).get(name)) or ""
        ranked = RANK_COLUMN.search(name) and RANK_VALUE.match(after)
        flagged = TRUTH_NAME.match(name) and after == "true"
        if (ranked and not RANK_VALUE.match(before)) or flagged:
            return name
    return ""
