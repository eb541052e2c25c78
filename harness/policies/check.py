"""Checks a schema: builds a world on scratch copies, judges it, reports what is wrong.

:func:`check_schema` is the entry point.  The database it is given already holds the
schema; it is copied and never written to.  Results go out as events: one CheckStarted
and CheckFinished a property, a Finding with a witness for each fault, an Undecided for
each thing that could not be decided, and the decisions as DecisionCells.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import asyncpg

from harness.clock import Clock, SystemClock, seeded
from harness.db.address import DatabaseAddress
from harness.db.catalog import Name
from harness.db.catalog_reading import read_catalog
from harness.events import (
    CheckFinished,
    CheckStarted,
    DecisionCell,
    Event,
    Finding,
    Undecided,
    Verdict,
)
from harness.policies import properties_functions as functions
from harness.policies import properties_results as results
from harness.policies import properties_rows as rows
from harness.policies import properties_updates as updates
from harness.policies.cases import Violation
from harness.policies.costs import cost_notes
from harness.policies.coverage import every_policy_is_reached
from harness.policies.decisions import COMMANDS, decide
from harness.policies.mining import mine
from harness.policies.ownership import infer_ownership
from harness.policies.personas import AMBER, BIRCH, build_cast
from harness.policies.population import (
    Population,
    StoredRow,
    read_seeds,
    store_world,
    tables_without_rows,
)
from harness.policies.probing import Prober
from harness.policies.properties_authors import rows_name_who_wrote_them
from harness.policies.properties_balances import own_balances_are_not_written
from harness.policies.properties_grants import (
    replica_identities_serve_publications,
    tables_are_not_truncated,
    updates_reach_rows_that_are_seen,
)
from harness.policies.properties_inserts import rows_are_not_planted
from harness.policies.properties_mates import mates_keep_to_their_own
from harness.policies.properties_moves import rows_move_where_they_may_be_stored
from harness.policies.properties_powers import own_powers_are_not_raised
from harness.policies.properties_privileges import (
    functions_promote_nobody,
    privileges_are_given_by_others,
)
from harness.policies.properties_realtime import topics_reach_only_their_own
from harness.policies.properties_sequences import sequences_open_nothing_of_others
from harness.policies.properties_shared import (
    partitions_are_guarded_like_their_table,
    shared_rows_are_kept_by_their_keepers,
    views_reveal_nothing_hidden,
)
from harness.policies.properties_smoke import legitimate_actions_succeed
from harness.policies.properties_storage import (
    buckets_are_closed_until_a_policy_names_them,
    private_sharing_is_not_public,
    stored_files_can_be_read_back,
)
from harness.policies.rules import RuleSet, declared_rules_hold
from harness.policies.scratch import ScratchFactory, cloned, scratch_prober
from harness.policies.shadowing import functions_resist_shadowing
from harness.policies.shrinking import Shrinker
from harness.policies.trial import Judgement, Trial
from harness.policies.values import Values
from harness.policies.variants import Variants, solve_variants
from harness.policies.witness import write_witness
from harness.policies.worlds import plan_world

__all__ = ["Budget", "CheckSummary", "check_schema"]

PHASE = "policies"
COMFORTABLE_TABLES = 25
Emit = Callable[[Event], None]
Property = Callable[[Trial], Awaitable[Judgement]]

PROPERTIES: tuple[Property, ...] = (
    rows.tables_without_rls_are_closed,
    rows.published_rows_reach_only_readers,
    rows.policies_answer_without_error,
    rows.others_rows_are_not_changed,
    rows.others_rows_are_not_read,
    rows.anonymous_may_no_more_than_signed_in,
    tables_are_not_truncated,
    shared_rows_are_kept_by_their_keepers,
    partitions_are_guarded_like_their_table,
    views_reveal_nothing_hidden,
    own_powers_are_not_raised,
    own_balances_are_not_written,
    privileges_are_given_by_others,
    rows_are_not_planted,
    rows_name_who_wrote_them,
    updates.rows_are_not_handed_over,
    rows_move_where_they_may_be_stored,
    mates_keep_to_their_own,
    updates.moves_stay_within_insert_rights,
    buckets_are_closed_until_a_policy_names_them,
    private_sharing_is_not_public,
    stored_files_can_be_read_back,
    updates_reach_rows_that_are_seen,
    replica_identities_serve_publications,
    legitimate_actions_succeed,
    functions.functions_work,
    functions.functions_change_nothing_of_others,
    functions.functions_reveal_nothing_hidden,
    functions_promote_nobody,
    results.functions_create_what_their_owner_sees,
    results.functions_store_no_row_without_bytes,
    results.functions_keep_bucket_limits,
    results.functions_claim_only_what_they_did,
    functions_resist_shadowing,
    sequences_open_nothing_of_others,
    topics_reach_only_their_own,
    every_policy_is_reached,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long a check may take before it is undecided; a statement before it fails.

    ``per_check_s`` holds for up to ``COMFORTABLE_TABLES``; larger schemas get more.
    """

    per_check_s: float = 20.0
    statement_timeout_ms: int = 5_000

    def check_s(self, tables: int) -> float:
        """Return the seconds that a check of so many tables may take."""
        return self.per_check_s * max(1.0, tables / COMFORTABLE_TABLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSummary:
    """What a check of a schema came to; notes count as no finding."""

    seed: int
    checks: int
    findings: int
    undecided: int
    decisions: int
    took_s: float
    ownership: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """``fail`` with findings, else ``unknown`` with anything undecided."""
        if self.findings:
            return "fail"
        return "unknown" if self.undecided else "pass"


async def check_schema(
    database: DatabaseAddress,
    *,
    rules: RuleSet | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    emit: Callable[[Event], None] = lambda event: None,
    scratch: ScratchFactory = cloned,
    clock: Clock | None = None,
    locate: Callable[[str], str] = str,
) -> CheckSummary:
    """Judge the schema that ``database`` holds; the same seed gives the same result.

    ``locate`` turns the name of an object into where it is defined.  ``scratch`` makes
    a private copy of a database; by default a clone on its server, for which nobody may
    be connected to ``database``.
    """
    budget = budget or Budget()
    async with AsyncExitStack() as stack:
        copies = [await stack.enter_async_context(scratch(database)) for _ in range(2)]
        probers = [
            await stack.enter_async_context(
                scratch_prober(copy, statement_timeout_ms=budget.statement_timeout_ms)
            )
            for copy in copies
        ]
        run = _Run(emit, budget, clock or SystemClock(), seed, locate)
        trial = await run.prepare(probers[0], rules)
        run.shrinker = Shrinker(
            probers[1], trial.catalog, trial.ownership, trial.population
        )
        await run.judge(trial, rules)
        return run.summary(trial)


class _Run:
    """One check of one schema: counts and emits."""

    def __init__(
        self,
        emit: Emit,
        budget: Budget,
        clock: Clock,
        seed: int,
        locate: Callable[[str], str],
    ) -> None:
        self.locate = locate
        self.emit = emit
        self.budget = budget
        self.clock = clock
        self.seed = seed
        self.started_s = clock.monotonic_s()
        self.checks = 0
        self.findings = 0
        self.undecided = 0
        self.shrinker: Shrinker | None = None
        self.violated: set[tuple[str, str, str]] = set()
        self.unsolved: dict[str, str] = {}
        # Decisions that an event has told; the first check tells the matrix's too.
        self.told = 0

    def at(self) -> float:
        """Return the seconds since the check began."""
        return self.clock.monotonic_s() - self.started_s

    async def prepare(self, prober: Prober, rules: RuleSet | None) -> Trial:
        """Read the schema, build its world and take every decision."""
        connection = prober.connection
        catalog = await read_catalog(connection)
        mined = mine(catalog)
        corrections = rules.ownership if rules is not None else {}
        ownership = infer_ownership(catalog, mined, corrections)
        cast = build_cast(catalog, mined, ownership)
        values = Values(mined, seeded(self.seed))
        variants = await solve_variants(connection, catalog, mined, ownership, values)
        seeds = await read_seeds(connection, catalog)
        world = plan_world(catalog, mined, ownership, cast, variants, values, seeds)
        population = await store_world(connection, catalog, ownership, world, seeds)
        self.unsolved = _unreached(
            population, variants, tables_without_rows(population, catalog)
        )
        personas = population.world.cast.personas
        decisions = await decide(prober, catalog, ownership, population, personas)
        return Trial(
            catalog,
            mined,
            ownership,
            population,
            decisions,
            prober,
            values,
            told=self.violated,
        )

    async def judge(self, trial: Trial, rules: RuleSet | None) -> None:
        """Run all properties and, if any are declared, the rules."""
        await self._check("worlds_reach_every_table", self._worlds, trial)
        for judged in PROPERTIES:
            await self._check(judged.__name__, judged, trial)
        if rules is not None:

            async def declared(trial: Trial) -> Judgement:
                return await declared_rules_hold(trial, rules)

            await self._check("declared_rules_hold", declared, trial)
        for cell in decision_cells(trial):
            key = (cell.relation, cell.command, cell.persona)
            wrong = cell.allowed and cell.scope != "own" and key in self.violated
            self.emit(replace(cell, judged="violation") if wrong else cell)
        for note in await cost_notes(trial):
            self.emit(replace(note, at=self.at(), where=self.locate(note.where)))

    async def _worlds(self, trial: Trial) -> Judgement:
        return Judgement(undecided=dict(self.unsolved))

    async def _check(self, name: str, judged: Property, trial: Trial) -> None:
        began_s = self.at()
        self.emit(CheckStarted(at=began_s, phase=PHASE, check=name))
        found = 0
        limit_s = self.budget.check_s(len(trial.catalog.tables))
        try:
            async with asyncio.timeout(limit_s):
                judgement = await judged(trial)
                found = await self._report(judgement.violations, trial)
        except TimeoutError:
            judgement = Judgement(undecided={"": f"took more than {limit_s:g} s"})
        except asyncpg.QueryCanceledError:
            judgement = Judgement(
                undecided={"": "a statement ran into the statement timeout"}
            )
        for where, reason in judgement.undecided.items():
            self.undecided += 1
            self.emit(
                Undecided(
                    at=self.at(),
                    phase=PHASE,
                    check=name,
                    where=self.locate(where),
                    reason=reason,
                )
            )
        self.checks += 1
        told, self.told = self.told, trial.prober.decisions
        self.emit(
            CheckFinished(
                at=self.at(),
                phase=PHASE,
                check=name,
                outcome="failed" if found or judgement.undecided else "passed",
                took_s=self.at() - began_s,
                decisions=self.told - told,
            )
        )

    async def _report(self, violations: Iterable[Violation], trial: Trial) -> int:
        found = 0
        for group in grouped(violations):
            clearest = group[0]
            self.violated |= {_cell_of(violation) for violation in group}
            assert self.shrinker is not None
            shrunk = await self.shrinker.shrink(clearest.case)
            others = len({v.case.persona.name for v in group}) - 1
            note = clearest.note
            if others:
                note = (
                    f"{note}; {others} more identities can"
                    if note
                    else (f"{others} more identities can")
                )
            note = "; ".join(part for part in (note, shrunk.why_large) if part)
            self.emit(
                Finding(
                    at=self.at(),
                    phase=PHASE,
                    check=clearest.check,
                    message=clearest.message,
                    where=self.locate(clearest.where),
                    severity=clearest.severity,
                    note=note,
                    hint=clearest.hint,
                    witness=write_witness(shrunk, trial.catalog),
                )
            )
            found += clearest.severity != "note"
        self.findings += found
        return found

    def summary(self, trial: Trial) -> CheckSummary:
        """Return the counts."""
        return CheckSummary(
            seed=self.seed,
            checks=self.checks,
            findings=self.findings,
            undecided=self.undecided,
            decisions=trial.prober.decisions,
            took_s=self.at(),
            ownership=tuple(trial.ownership.describe()),
        )


def _cell_of(violation: Violation) -> tuple[str, str, str]:
    """Return the relation, command and persona of a violation's last step."""
    step = violation.case.steps[-1]
    return str(step.target), step.action.upper(), violation.case.persona.name


def grouped(violations: Iterable[Violation]) -> list[list[Violation]]:
    """Return violations by fault, the clearest of each first."""
    groups: dict[tuple[str, str, str], list[Violation]] = defaultdict(list)
    for violation in violations:
        groups[violation.check, violation.where, violation.fault].append(violation)
    return [sorted(group, key=lambda v: v.rank) for group in groups.values()]


def _unreached(
    population: Population,
    variants: Variants,
    empty: Sequence[Name],
) -> dict[str, str]:
    """Return, by table, why a world could not be what it should."""
    reasons: dict[str, str] = {
        str(table): f"no values satisfy {check}"
        for table, check in variants.unsolved.items()
    }
    for refusal in population.refusals:
        kept = [population.owned_by(refusal.row.table, c) for c in (AMBER, BIRCH, "")]
        if not any(kept):
            reasons[str(refusal.row.table)] = population.why_empty(refusal.row.table)
    for table in sorted(population.world.expected):
        for clan in (AMBER, BIRCH):
            if not population.owned_by(table, clan):
                reasons.setdefault(str(table), f"no row belongs to clan {clan}")
    for table in empty:
        reasons.setdefault(str(table), population.why_empty(table))
    return reasons


def decision_cells(trial: Trial) -> Iterable[DecisionCell]:
    """Yield how many own and foreign rows each persona may do each command to."""
    for relation in trial.catalog.tables:
        stored = trial.population.of(relation.name)
        for persona in trial.personas:
            for scope, members in _scopes(persona.clan, stored).items():
                for command in COMMANDS:
                    allowed = sum(
                        trial.decisions.may(persona, command, row) for row in members
                    )
                    yield DecisionCell(
                        relation=str(relation.name),
                        command=command,
                        persona=persona.name,
                        scope=scope,
                        allowed=allowed,
                        denied=len(members) - allowed,
                    )


def _scopes(
    clan: str, stored: Sequence[StoredRow]
) -> Mapping[str, Sequence[StoredRow]]:
    scopes: dict[str, list[StoredRow]] = defaultdict(list)
    for row in stored:
        if not row.clan:
            scopes["any"].append(row)
        else:
            scopes["own" if row.clan == clan else "other"].append(row)
    return scopes
