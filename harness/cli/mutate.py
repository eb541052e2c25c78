"""``harness mutate``: how many seeded faults a check, or a suite, notices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from harness.cli.reporting import ReportedRun, run_reported
from harness.cli.running import run_async
from harness.clock import fresh_seed, seeded
from harness.config import Config
from harness.db.address import DatabaseAddress
from harness.errors import UsageError
from harness.events import Finding
from harness.policies.check import Budget
from harness.policies.coverage import (
    coverage_gaps,
    coverage_in_words,
    measure_coverage,
)
from harness.policies.mutants import all_mutants, sampled
from harness.policies.mutation_equivalence import open_observatory
from harness.policies.mutation_in_place import InPlace
from harness.policies.mutation_judging import CheckJudge
from harness.policies.mutation_run import PHASE, Judge, MutationScore, judge_mutants
from harness.policies.rules import RuleSet, read_rules
from harness.runner.mutant_suite import SuiteJudge
from harness.runner.schemas import SchemaUnderTest, schema_under_test

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness mutate sql/climber --limit 20 --seed 1
  harness mutate ./my-app --suite 'pytest -q tests/policies'
  harness mutate ./my-app --suite 'supabase test db --db-url "$DATABASE_URL"'
  harness mutate ./my-app --fail-under 80

A suite runs in a shell with DATABASE_URL, SUPABASE_DB_URL, SUPABASE_URL, its keys and
the PG* variables of a project made from each mutant; it notices a mutant by its exit
code.
"""


@click.command(epilog=EPILOG)
@click.argument("schema")
@click.option("--suite", help="Judge by this shell command instead of our check.")
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Declared rules; default: rules.toml beside the schema.",
)
@click.option("--seed", type=click.IntRange(0), help="Repeat a run exactly.")
@click.option("--limit", type=click.IntRange(1), help="Judge a sample of so many.")
@click.option("--budget", type=float, default=60.0, help="Seconds a mutant may take.")
@click.option("--fail-under", type=click.FloatRange(0, 100), help="Least score, in %.")
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Name every mutant as it ends.")
@click.pass_obj
def command(
    config: Config,
    schema: str,
    suite: str | None,
    rules: Path | None,
    seed: int | None,
    limit: int | None,
    budget: float,
    fail_under: float | None,
    reports: Path | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Score a policy suite by the faults it notices.

    Small faults are put into a copy of SCHEMA one at a time: conditions negated or
    dropped, grants widened, triggers removed.  Without --suite our own check is judged.
    """
    changed = config.replace(reports_dir=reports)
    wanted = schema_under_test(schema)
    if wanted is None:
        raise UsageError(f"no schema {schema!r}: neither a folder nor a database URL")
    declared = rules or wanted.rules
    plan = MutationPlan(
        schema=wanted,
        suite=suite,
        rules=read_rules(declared) if declared else None,
        limit=limit,
        budget_s=budget,
        fail_under=fail_under,
        config=changed,
    )
    return run_async(
        run_reported(
            changed,
            f"mutate {wanted.name}",
            seed=fresh_seed() if seed is None else seed,
            body=plan.run,
            as_json=as_json,
            verbose=verbose,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationPlan:
    """What one command asks for."""

    schema: SchemaUnderTest
    suite: str | None
    rules: RuleSet | None
    limit: int | None
    budget_s: float
    fail_under: float | None
    config: Config

    async def run(self, run: ReportedRun) -> None:
        """Make the mutants, judge them, and tell the score."""
        session = run.session
        with session.phase(PHASE, f"{self.schema.name}: mutants") as summarise:
            database = await self.schema.make(run.stack)
            judge = await self._judge(run, database)
            async with open_observatory(
                database,
                self.rules,
                session.seed,
                statement_timeout_ms=self.config.statement_timeout_ms,
            ) as observatory:
                measured = await measure_coverage(observatory.trial)
                for gap in coverage_gaps(measured):
                    session.emit(gap)
                if isinstance(judge, CheckJudge):
                    judge.in_place = InPlace(observatory, self.rules)
                    await judge.in_place.prepare()
                made = all_mutants(observatory.trial.catalog)
                chosen = sampled(made, self.limit, seeded(session.seed))
                score = await judge_mutants(
                    chosen,
                    judge,
                    observatory,
                    budget_s=self.budget_s,
                    emit=session.emit,
                )
            summarise(
                f"{self.schema.name}: {len(chosen)} of {len(made)}: {score};"
                f" {coverage_in_words(measured)}"
            )
            self._hold(run, score)

    async def _judge(self, run: ReportedRun, database: DatabaseAddress) -> Judge:
        if self.suite is not None:
            suite = SuiteJudge(run.stack, self.schema, self.suite, run.folder)
            await suite.prepare()
            return suite
        check = CheckJudge(
            database,
            self.rules,
            run.session.seed,
            Budget(
                per_check_s=self.config.policy_budget_s,
                statement_timeout_ms=self.config.statement_timeout_ms,
            ),
        )
        await check.prepare()
        return check

    def _hold(self, run: ReportedRun, score: MutationScore) -> None:
        if self.fail_under is not None and score.percent < self.fail_under:
            run.session.emit(
                Finding(
                    phase=PHASE,
                    check="mutation_score_is_reached",
                    message=f"the score is {score.percent:.1f}%,"
                    f" less than {self.fail_under:g}%",
                    where=self.schema.name,
                    severity="medium",
                )
            )
