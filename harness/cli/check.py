"""``harness check``: who can do what in a schema, by execution."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.reporting import ReportedRun, run_reported
from harness.cli.running import run_async
from harness.clock import fresh_seed
from harness.config import Config, did_you_mean
from harness.errors import UsageError
from harness.events import Event, Finding
from harness.policies.promoting import promote as write_tests
from harness.resources import sql_root
from harness.runner.schemas import SchemaUnderTest, schema_under_test
from harness.runner.system import check_policies

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness check sql/climber             a folder of migrations
  harness check ./my-app                a project of the Supabase CLI
  harness check sql/climber/draft       exit code 1: it has faults
  harness check postgresql://postgres:postgres@127.0.0.1:54322/postgres
  harness check sql/climber --rules sql/climber/rules.toml --seed 7
  harness check ./my-app --promote supabase/tests    findings as tests to keep
"""


@click.command(epilog=EPILOG)
@click.argument("schemas", nargs=-1, required=True)
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Declared rules; default: rules.toml beside the schema.",
)
@click.option("--seed", type=click.IntRange(0), help="Repeat a check exactly.")
@click.option("--budget", type=float, help="Seconds a property may take.")
@click.option(
    "--promote",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for findings as tests to keep: pgTAP and pytest.",
)
@click.option(
    "--hints", is_flag=True, help="Add notes of pgrls and squawk, if installed."
)
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Name every check as it ends.")
@click.pass_obj
def command(
    config: Config,
    schemas: tuple[str, ...],
    rules: Path | None,
    seed: int | None,
    budget: float | None,
    promote: Path | None,
    hints: bool,
    reports: Path | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Prove by execution who can do what in SCHEMAS.

    A schema is a folder of migrations, a project of the Supabase CLI, or a database
    URL, of which a copy of the schema is checked and the data is never touched.
    """
    changed = config.replace(reports_dir=reports, policy_budget_s=budget)
    wanted = [_find(name) for name in schemas]

    async def examine(run: ReportedRun) -> None:
        found: list[Finding] = []
        for schema in wanted:
            found += await _check(run, schema, rules or schema.rules, changed, hints)
        if promote is not None:
            written = write_tests(found, promote)
            click.echo(f"{len(written)} test files in {promote}", err=True)

    return run_async(
        run_reported(
            changed,
            "check " + "+".join(schema.name for schema in wanted),
            seed=fresh_seed() if seed is None else seed,
            body=examine,
            as_json=as_json,
            verbose=verbose,
        )
    )


async def _check(
    run: ReportedRun,
    schema: SchemaUnderTest,
    rules: Path | None,
    config: Config,
    hints: bool,
) -> list[Finding]:
    """Judge one schema; returns what was found."""
    found: list[Finding] = []

    def emit(event: Event) -> None:
        if isinstance(event, Finding):
            found.append(event)
        run.session.emit(event)

    with run.session.phase("policies", f"{schema.name}: policies") as summarise:
        database = await schema.make(run.stack)
        summary = await check_policies(
            database,
            rules=rules,
            config=config,
            seed=run.session.seed,
            emit=emit,
            sources=[s for s in await schema.sources() if isinstance(s, Path)],
            hints=hints,
        )
        summarise(f"{schema.name}: {summary}")
    return found


def _find(name: str) -> SchemaUnderTest:
    """Return the schema that ``name`` stands for; raises with a suggestion."""
    found = schema_under_test(name)
    if found is None:
        systems = [str(p.relative_to(sql_root().parent)) for p in sql_root().iterdir()]
        raise UsageError(
            f"no schema {name!r}: neither a folder nor a database URL",
            hint=did_you_mean(name, systems),
        )
    return found
