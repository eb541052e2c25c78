"""Properties of functions that API roles can call.

They work at all; called with another's arguments they change nothing of others and show
nothing that the caller could not read; files that they create belong where their owner
can see them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from harness.db.catalog import Column, Function, Relation
from harness.policies.calls import Call, callable_functions, plan_calls
from harness.policies.cases import Case, Expectation, Violation
from harness.policies.decisions import row_filter
from harness.policies.effects import CLOCK_COLUMNS, Change, Secrets, changes_of, leaves
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, as_text
from harness.policies.private_tables import is_secret
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Answer, Attempt
from harness.policies.properties_rows import rank
from harness.policies.properties_smoke import is_programming_error
from harness.policies.repairs import PROTECTED, Repairs, attempt_repaired
from harness.policies.sights import is_hidden
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "Called",
    "call_functions",
    "calls_of",
    "functions_change_nothing_of_others",
    "functions_reveal_nothing_hidden",
    "functions_work",
]

CALLERS = ("anon", "alice", "bob", "carol")
MAX_LEAVES = 200
OVERFLOW = "22003"
EMAIL_NAME = re.compile(r"e_?mail$", re.IGNORECASE)
NUMBER = re.compile(r"-?\d+(\.\d+)?")
# A number that stands in no other row.
MARK = "8675309"
MARKED_TYPES = ("integer", "bigint", "numeric", "double precision", "real", "money")


@dataclass(frozen=True, slots=True)
class Called:
    """A call that was made, as itself and with what it lacks made up."""

    persona: Persona
    call: Call
    plain: Answer
    answer: Answer
    repairs: Repairs

    def changes(self, trial: Trial) -> Iterator[Change]:
        """Yield what the (repaired) call changed."""
        return changes_of(trial, self.answer.seen or {})

    def case(self, expectation: Expectation, rows: tuple[StoredRow, ...] = ()) -> Case:
        """Return the case of this call."""
        return Case(
            persona=self.persona,
            steps=(self.call.step,),
            expectation=expectation,
            rows=(*self.call.about, *rows),
            repairs=self.repairs.statements,
            settings=self.repairs.settings,
        )

    def note(self) -> str:
        """Say what had to be made up for the call to get this far."""
        made = [s.partition("\n")[0] for s in self.repairs.statements]
        made += [f"{k} = {v}" for k, v in self.repairs.settings.items()]
        return f"with a stand-in: {'; '.join(made)}" if made else ""


async def call_functions(trial: Trial) -> list[Called]:
    """Call every function as every caller; the calls are made once a trial."""
    if trial.called is None:
        trial.called = [called async for called in _calls(trial)]
    return list(trial.called)


async def _calls(trial: Trial) -> AsyncIterator[Called]:
    for persona in trial.personas:
        special = persona.kind == "special" and not persona.manages
        if persona.name not in CALLERS and not special:
            continue
        for function in callable_functions(trial.catalog, persona.role):
            async for called in calls_of(trial, persona, function):
                yield called


async def calls_of(
    trial: Trial, persona: Persona, function: Function
) -> AsyncIterator[Called]:
    """Call one function as one caller, with every choice of arguments."""
    for call in plan_calls(trial, persona, function):
        attempt = Attempt(
            persona=persona,
            fetch=f"select coalesce(jsonb_agg(to_jsonb(x)), '[]')"
            f" from ({call.step.sql}) x",
            observe="select harness_probe.changed()",
        )
        plain, answer, repairs = await attempt_repaired(trial.prober, attempt, function)
        yield Called(persona, call, plain, answer, repairs)


async def functions_work(trial: Trial) -> Judgement:
    """Every function that API roles may call succeeds for somebody."""
    judgement = Judgement()
    by_function: dict[str, list[Called]] = {}
    for called in await call_functions(trial):
        by_function.setdefault(called.call.function.signature, []).append(called)
    for signature, calls in by_function.items():
        if any(called.plain.ok for called in calls):
            continue
        # Numbers as large as a world's overflow where no real ones do.
        fair = [c for c in calls if c.plain.sqlstate != OVERFLOW]
        broken = [c for c in fair if is_programming_error(c.plain) or _blocked(c)]
        broken.sort(key=lambda c: (c.call.scope != "own", rank(c.persona)))
        timed_out = [c for c in calls if c.plain.timed_out]
        if broken:
            judgement.violations.append(_broken(signature, broken[0]))
        elif timed_out:
            judgement.undecided[signature] = "ran into the statement timeout"
    return judgement


def _blocked(called: Called) -> bool:
    return PROTECTED in called.plain.message


def _broken(signature: str, called: Called) -> Violation:
    answer = called.plain
    return Violation(
        check="functions_work",
        where=signature,
        fault=answer.sqlstate,
        message=(
            f"every call of {signature} fails: {answer.message} [{answer.sqlstate}]"
        ),
        case=Case(
            persona=called.persona,
            steps=(called.call.step,),
            expectation=Expectation(
                kind="raises", text=answer.sqlstate, says="raises at every call"
            ),
            rows=called.call.about,
        ),
        severity="high",
        rank=rank(called.persona),
    )


async def functions_change_nothing_of_others(trial: Trial) -> Judgement:
    """Functions change no row of anybody but their caller."""
    judgement = Judgement()
    for called in await call_functions(trial):
        if not called.answer.ok or _bears_the_right(trial, called):
            continue
        change = next(
            (c for c in called.changes(trial) if _hurts(trial, called, c)), None
        )
        if change is not None:
            judgement.violations.append(_meddling(trial, called, change))
    return judgement


def _hurts(trial: Trial, called: Called, change: Change) -> bool:
    """Say whether a change concerns another clan only."""
    if change.is_counting:
        return False
    if change.stored is not None:
        clan = change.stored.clan
        if _claims(trial, called, change, change.stored):
            return False
        return bool(clan) and clan != called.persona.clan
    clans = _parent_clans(trial, change)
    if called.call.scope == "own":
        return bool(clans) and _joins_unseen(trial, called, change, clans)
    if clans and called.persona.clan not in clans:
        return True
    text = " ".join(leaves(dict(change.after or {})))
    named = {u.clan for u in trial.population.world.cast.users if u.id in text}
    return bool(named) and called.persona.clan not in named


def _joins_unseen(
    trial: Trial, called: Called, change: Change, clans: set[str]
) -> bool:
    """Say whether the caller, with nothing in hand, joins what they cannot see."""
    owned = trial.ownership.of(change.table)
    after = change.after or {}
    if called.persona.clan in clans or not owned.membership:
        return False
    mine = any(as_text(after.get(c)) == called.persona.sub for c in owned.user_names)
    values = {name: as_text(value) for name, value in after.items()}
    return mine and any(
        is_hidden(trial, called.persona, parent, values) for parent in owned.parents
    )


def _claims(trial: Trial, called: Called, change: Change, row: StoredRow) -> bool:
    """Say whether the caller takes on what is free and what they see: a ride, a job."""
    users = trial.ownership.of(change.table).user_names
    relation = trial.catalog.relations[change.table]
    return (
        change.kind == "update"
        and trial.decisions.may(called.persona, "SELECT", row)
        and any(
            not relation.column(column).not_null
            and as_text((change.after or {}).get(column)) == called.persona.sub
            for column in users
        )
    )


def _parent_clans(trial: Trial, change: Change) -> set[str]:
    """Return whose are the rows that a new row hangs on."""
    after = change.after or {}
    found = set()
    for parent in trial.ownership.of(change.table).parents:
        wanted = [as_text(after.get(column)) for column in parent.columns]
        found |= {
            row.clan
            for row in trial.population.of(parent.target)
            if row.clan and wanted == [row.text(c) for c in parent.target_columns]
        }
    return found


def _meddling(trial: Trial, called: Called, change: Change) -> Violation:
    function = called.call.function
    verb = {"insert": "stores", "update": "changes", "delete": "deletes"}[change.kind]
    what = f"rows of {change.table}"
    if change.kind == "update":
        what += f" ({', '.join(change.columns)})"
    named = trial.population.world.cast.clan(called.call.victim)
    victim = named[0].name if named else "others"
    asked = f"calls {function.name} for {victim}" if named else f"calls {function.name}"
    return Violation(
        check="functions_change_nothing_of_others",
        where=function.signature,
        fault="changes rows of others",
        message=(
            f"{describe(called.persona)} {asked} and it {verb} {what}"
            + ("" if named else " of others")
        ),
        case=called.case(
            Expectation(
                kind="observed",
                query=_observation(trial, change),
                says=f"must change nothing of {victim}",
            ),
            (change.stored,) if change.stored is not None else (),
        ),
        severity="critical",
        note=called.note(),
        hint=_guard_hint(function),
        rank=rank(called.persona),
    )


def _guard_hint(function: Function) -> str:
    if function.security_definer:
        return "compare the argument with auth.uid(), or make it SECURITY INVOKER"
    return "the tables it writes let the caller do so"


def _observation(trial: Trial, change: Change) -> str:
    """Return a condition that is true once the change has happened."""
    relation = trial.catalog.relations[change.table]
    row = change.after if change.after is not None else change.before
    names = relation.primary_key
    if change.kind == "update":
        names = (*names, *(c for c in change.columns if _stable(change, c)))
    elif change.kind == "insert":
        names = tuple(
            c.name
            for c in relation.columns
            if not c.default and not c.generated and (row or {}).get(c.name) is not None
        )
    conditions = []
    for name in names:
        column = relation.column(name)
        text = as_text((row or {}).get(name))
        if name not in relation.primary_key and _is_clock(relation, change, name):
            before = literal(as_text((change.before or {}).get(name)))
            told = f"{column.sql} is distinct from {before}::{column.type}"
            conditions.append(told)
            continue
        conditions.append(
            f"{column.sql} is null"
            if text is None
            else f"{column.sql}::text = {literal(text)}::{column.type}::text"
        )
    exists = f"exists (select from {change.table.sql} where {' and '.join(conditions)})"
    return f"not {exists}" if change.kind == "delete" else exists


def _is_clock(relation: Relation, change: Change, column: str) -> bool:
    """Say whether an update wrote the time, which is another at each run."""
    timed = relation.column(column).base_type.startswith("timestamp")
    return change.kind == "update" and timed and column in change.columns


def _stable(change: Change, column: str) -> bool:
    return not CLOCK_COLUMNS.search(column) and column in (change.after or {})


def _presents_a_secret(trial: Trial, call: Call) -> bool:
    """Say whether an argument is a secret of somebody's, whose possession is the right.

    Whoever holds the token of a link may read what it links to.
    """
    told = set(call.arguments.values())
    return any(
        is_secret(column) and row.text(column.name) in told
        for row in call.about
        if row.clan == call.victim
        for column in trial.catalog.relations[row.table].columns
    )


def _bears_the_right(trial: Trial, called: Called) -> bool:
    """Say whether the caller presents a secret that is addressed to nobody else."""
    return _presents_a_secret(trial, called.call) and not any(
        EMAIL_NAME.search(column.name)
        and row.text(column.name) not in (None, called.persona.claims.get("email"))
        for row in called.call.about
        for column in trial.catalog.relations[row.table].columns
    )


async def functions_reveal_nothing_hidden(trial: Trial) -> Judgement:
    """Functions return nothing that their caller could not read without them."""
    judgement = Judgement()
    secrets = Secrets(trial)
    shown: set[tuple[str, str]] = set()
    for called in await call_functions(trial):
        if not called.answer.ok or _presents_a_secret(trial, called.call):
            continue
        told = {str(value) for value in called.call.arguments.values()}
        found = list(leaves(called.answer.fetched))[:MAX_LEAVES]
        origins = (
            (text, secrets.hidden_origin(called.persona, text))
            for text in found
            if not any(text in argument for argument in told)
        )
        revealed = next(((t, o) for t, o in origins if o is not None), None)
        key = (called.call.function.signature, called.persona.name)
        if revealed is None and key not in shown:
            revealed = await _marked(trial, called, found)
        if revealed is not None:
            shown.add(key)
            judgement.violations.append(_revealing(called, *revealed))
    return judgement


async def _marked(
    trial: Trial, called: Called, found: list[str]
) -> tuple[str, StoredRow] | None:
    """Return a hidden row whose number the call shows, once the number is rare.

    A balance of 0 is anybody's; that 8675309 comes back says where it is from.
    """
    if called.call.scope != "foreign" or not any(NUMBER.fullmatch(t) for t in found):
        return None
    for row in called.call.about:
        foreign = bool(row.clan) and row.clan != called.persona.clan
        if not foreign or trial.decisions.may(called.persona, "SELECT", row):
            continue
        relation = trial.catalog.relations[row.table]
        for column in relation.columns:
            if column.base_type not in MARKED_TYPES or not _is_free(relation, column):
                continue
            where = row_filter(relation, row)
            mark = f"update {row.table.sql} set {column.sql} = {MARK} where {where}"
            answer = await trial.prober.attempt(
                Attempt(
                    persona=called.persona,
                    fetch=f"select coalesce(jsonb_agg(to_jsonb(x)), '[]')"
                    f" from ({called.call.step.sql}) x",
                    setup=(
                        *called.repairs.statements,
                        WITHOUT_TRIGGERS,
                        mark,
                        WITH_TRIGGERS,
                    ),
                    settings=called.repairs.settings,
                )
            )
            shown = {text.partition(".")[0] for text in leaves(answer.fetched)}
            if answer.ok and MARK in shown:
                return MARK, replace(row, values={**row.values, column.name: MARK})
    return None


def _is_free(relation: Relation, column: Column) -> bool:
    """Say whether a number is no key and refers to nothing."""
    keyed = {c for key in relation.unique_keys for c in key.columns}
    keyed |= {c for key in relation.foreign_keys for c in key.columns}
    return column.name not in keyed and not column.generated


def _revealing(called: Called, text: str, origin: StoredRow) -> Violation:
    about = [row for row in called.call.about if row.at != origin.at]
    return Violation(
        check="functions_reveal_nothing_hidden",
        where=called.call.function.signature,
        fault="reveals hidden rows",
        message=(
            f"{called.call.function.name} shows {describe(called.persona)}"
            f" a value of {origin.table} that they may not read"
        ),
        case=Case(
            persona=called.persona,
            steps=(called.call.step,),
            expectation=Expectation(
                kind="returns",
                text=text,
                says=f"must not return {text}",
            ),
            rows=(*about, origin),
            repairs=called.repairs.statements,
            settings=called.repairs.settings,
        ),
        severity="high",
        note=called.note(),
        hint="make it SECURITY INVOKER, or check the caller inside",
        rank=rank(called.persona),
    )
