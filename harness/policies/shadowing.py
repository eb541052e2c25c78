"""Attacks functions that trust the caller's search_path, to see whether it works.

PostgreSQL looks for tables in ``pg_temp`` first.  A SECURITY DEFINER function without a
search_path of its own that writes ``profiles`` writes whatever the caller has put in
the way, and the trigger or view that lies there runs with the rights of the function's
owner.  The attack is carried out; nothing is judged by reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.db.catalog import Function, Name, Relation, quote_identifier
from harness.policies.calls import callable_functions, plan_calls
from harness.policies.candidates import own_candidates
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.comparisons import read_body
from harness.policies.inserting import inserting
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.properties_rows import rank
from harness.policies.repairs import attempt_repaired
from harness.policies.shrinking import case_attempt
from harness.policies.trial import Judgement, Trial
from harness.policies.witness import describe

__all__ = ["functions_resist_shadowing"]

CAUGHT = "harness.caught"
MAX_CALLS = 3
NOTE_TRIGGER = """
  create function pg_temp.caught() returns trigger language plpgsql as $catch$
  begin
    perform set_config('{caught}', current_user, false);
    return null;
  end $catch$;
  create temporary table {table} ({columns});
  create trigger caught before insert or update or delete on pg_temp.{table}
    for each statement execute function pg_temp.caught();
  grant all on pg_temp.{table} to public;"""
NOTE_VIEW = """
  create function pg_temp.caught() returns boolean language plpgsql as $catch$
  begin
    perform set_config('{caught}', current_user, false);
    return true;
  end $catch$;
  create temporary view {table} as
    select * from (select {columns}, pg_temp.caught() as caught offset 0) s;
  grant all on pg_temp.{table} to public;"""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A temporary relation that stands in front of ``relation``."""

    relation: Relation
    written: bool

    @property
    def sql(self) -> str:
        """The statement that puts it there."""
        name = self.relation.name.name
        if self.written:
            columns = ", ".join(self._columns())
            body = NOTE_TRIGGER.format(caught=CAUGHT, table=name, columns=columns)
        else:
            columns = ", ".join(
                f"null::{c.type} as {c.sql}" for c in self.relation.columns
            )
            body = NOTE_VIEW.format(caught=CAUGHT, table=name, columns=columns)
        return f"do $shadow$ begin{body}\nend $shadow$"

    def _columns(self) -> Iterator[str]:
        """Yield columns, and the keys that an ON CONFLICT may rely on."""
        for column in self.relation.columns:
            yield f"{column.sql} {column.type}"
        for key in self.relation.unique_keys:
            if not key.expression and not key.partial:
                names = ", ".join(quote_identifier(name) for name in key.columns)
                yield f"unique ({names})"


async def functions_resist_shadowing(trial: Trial) -> Judgement:
    """No function runs its caller's code with its owner's rights."""
    judgement = Judgement()
    for name in ("bob", "anon"):
        persona = trial.population.world.cast.persona(name)
        if persona.role not in trial.catalog.temporary_tables:
            continue
        for function in callable_functions(trial.catalog, persona.role):
            if not function.security_definer or "search_path" in function.settings:
                continue
            violation = await _attack(trial, persona, function)
            if violation is not None:
                judgement.violations.append(violation)
        judgement.violations += await _attack_triggers(trial, persona)
    return judgement


async def _attack_triggers(trial: Trial, persona: Persona) -> list[Violation]:
    """Shadow what triggers look up, then fire them by an ordinary INSERT."""
    found = []
    for relation in trial.tables(guarded=False):
        if not inserting(relation, persona):
            continue
        for trigger in relation.triggers:
            for function in trial.catalog.functions_named(
                trigger.function.name, trigger.function.schema
            ):
                exposed = function.security_definer and not function.settings
                if not exposed or "INSERT" not in trigger.events:
                    continue
                steps = [
                    trial.insert_step(relation, candidate.values)
                    for candidate in own_candidates(trial, persona, relation)
                ]
                violation = await _fire(trial, persona, function, steps)
                if violation is not None:
                    found.append(violation)
    return found


async def _attack(
    trial: Trial, persona: Persona, function: Function
) -> Violation | None:
    calls = plan_calls(trial, persona, function)[:MAX_CALLS]
    about = tuple(row for call in calls for row in call.about)
    steps = [call.step for call in calls]
    return await _fire(trial, persona, function, steps, about)


async def _fire(
    trial: Trial,
    persona: Persona,
    function: Function,
    steps: Sequence[Step],
    about: tuple[StoredRow, ...] = (),
) -> Violation | None:
    """Put shadows in the way of ``function`` and run what calls it."""
    for shadow in _shadows(trial, function):
        for step in steps:
            case = Case(
                persona=persona,
                steps=(Step(sql=shadow.sql), step),
                expectation=Expectation(
                    kind="observed",
                    query=f"current_setting('{CAUGHT}', true) = '{function.owner}'",
                    says=f"must not run the caller's code as {function.owner}",
                ),
                rows=about,
            )
            # A plan that an earlier call cached would still mean the real table.
            await trial.prober.connection.execute("discard plans")
            _, answer, repairs = await attempt_repaired(
                trial.prober, case_attempt(case), function
            )
            if case.expectation.holds(answer):
                repaired = replace(
                    case,
                    repairs=repairs.statements,
                    settings=repairs.settings,
                )
                return _violation(persona, function, shadow, repaired)
    return None


def _shadows(trial: Trial, function: Function) -> list[Shadow]:
    reading = read_body(function, trial.catalog)
    shadows = []
    for name in sorted(reading.unqualified):
        relation = trial.catalog.relations.get(Name("public", name))
        if relation is not None:
            shadows.append(Shadow(relation, relation.name in reading.writes))
    return shadows


def _violation(
    persona: Persona, function: Function, shadow: Shadow, case: Case
) -> Violation:
    kind = "table" if shadow.written else "view"
    return Violation(
        check="functions_resist_shadowing",
        where=function.signature,
        fault="mutable search_path",
        message=(
            f"{describe(persona)} puts a temporary {kind} {shadow.relation.name.name}"
            f" in front of the real one; {function.name} runs its code as"
            f" {function.owner}"
        ),
        case=case,
        severity="critical",
        note="SECURITY DEFINER without search_path",
        hint=f"alter function {function.signature} set search_path = ''; then qualify"
        " every name in its body",
        rank=rank(persona),
    )
