"""``harness run``: examine systems and give one verdict."""

from __future__ import annotations

import os
from pathlib import Path

import click

from harness.cli.reporting import ReportedRun, run_reported
from harness.cli.running import run_async
from harness.clock import fresh_seed
from harness.config import Config
from harness.events import RequirementShown
from harness.runner.system import PHASES, SystemRun
from harness.scenario import find_scenarios

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness run climber                     schema, policies, flows, load, verdict
  harness run climber --only policies     one phase
  harness run climber --schema draft      on the flawed first version
  harness run all --stack containers
  harness run climber --stack http://127.0.0.1:54321
"""


@click.command(epilog=EPILOG)
@click.argument("systems", nargs=-1, required=True)
@click.option(
    "--stack", metavar="KIND|URL", help="embedded (default), containers, or a URL."
)
@click.option("--schema", type=click.Choice(["reference", "draft"]))
@click.option("--only", multiple=True, type=click.Choice(PHASES), help="Phases to run.")
@click.option("--seed", type=click.IntRange(0), help="Repeat a run exactly.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="Processes that run the flows; 0 runs them in one, for debugging.",
)
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--requirements", is_flag=True, help="Print the table of requirements; 'all' does."
)
@click.option("-v", "--verbose", is_flag=True, help="Name every check as it ends.")
@click.pass_obj
def command(
    config: Config,
    systems: tuple[str, ...],
    stack: str | None,
    schema: str | None,
    only: tuple[str, ...],
    seed: int | None,
    workers: int,
    reports: Path | None,
    as_json: bool,
    requirements: bool,
    verbose: bool,
) -> int:
    """Examine SYSTEMS (names, or 'all') and give one verdict."""
    scenarios = find_scenarios(systems)
    if schema == "draft":
        scenarios = [scenario.as_draft() for scenario in scenarios]
    changed = config.replace(stack=stack, reports_dir=reports)
    chosen = only or PHASES

    async def examine(run: ReportedRun) -> None:
        for scenario in scenarios:
            system = SystemRun(
                scenario=scenario,
                stack=run.stack,
                session=run.session,
                config=changed,
                descriptor=run.descriptor,
                report_dir=run.folder,
                phases=chosen,
                workers=workers,
            )
            await system.run()
        shown = list(run.session.requirements.conclude(s.name for s in scenarios))
        for requirement in shown:
            run.session.emit(requirement)
        if requirements or "all" in systems:
            _print_requirements(shown, to_stderr=as_json)

    return run_async(
        run_reported(
            changed,
            "+".join(systems) + ("-draft" if schema == "draft" else ""),
            seed=fresh_seed() if seed is None else seed,
            body=examine,
            as_json=as_json,
            verbose=verbose,
        )
    )


def _print_requirements(shown: list[RequirementShown], *, to_stderr: bool) -> None:
    """Print a line a requirement: id, outcome, title, the scenarios that show it."""
    for row in shown:
        what = row.scenario if row.outcome == "passed" else row.reason
        click.echo(
            f"{row.requirement}  {row.outcome:<8} {row.title}: {what}", err=to_stderr
        )
    passed = sum(row.outcome == "passed" for row in shown)
    click.echo(f"requirements: {passed} of {len(shown)} shown", err=to_stderr)
