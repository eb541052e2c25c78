"""``harness bench``: own figures of this machine."""

from __future__ import annotations

import click

from harness.bench import find_suites, render_json, render_table, run_suites
from harness.bench.registry.suites import Suite, SuiteOutcome
from harness.cli.exit_codes import ExitCode
from harness.cli.running import run_async
from harness.cli.stacks import open_stack
from harness.config import Config
from harness.runner.system import load_target
from harness.servers.project import ProjectSettings

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness bench                   every suite
  harness bench realtime rest
  harness bench --list
  harness bench storage --json > storage.json
"""
# Quotas are for users; a benchmark measures the server behind them.
UNBOUND = 1_000_000_000


@click.command(epilog=EPILOG)
@click.argument("suites", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="List the suites.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--stack", metavar="KIND|URL", help="embedded, containers, or a URL.")
@click.pass_obj
def command(
    config: Config,
    suites: tuple[str, ...],
    listing: bool,
    as_json: bool,
    stack: str | None,
) -> int:
    """Measure CPU and wall time an operation, side by side with a baseline.

    Times of one machine mean little on another; the ratios are what to read.
    """
    chosen = find_suites(suites)
    if listing:
        for suite in chosen:
            click.echo(f"{suite.name:<14} {suite.title}")
        return ExitCode.PASSED
    outcomes = run_async(_measure(config.replace(stack=stack), chosen))
    click.echo(render_json(outcomes) if as_json else render_table(outcomes))
    failed = any(outcome.error is not None for outcome in outcomes)
    return ExitCode.HARNESS_ERROR if failed else ExitCode.PASSED


async def _measure(config: Config, suites: list[Suite]) -> list[SuiteOutcome]:
    settings = ProjectSettings(
        realtime={
            "max_concurrent_users": UNBOUND,
            "max_events_per_second": UNBOUND,
            "max_joins_per_second": UNBOUND,
            "max_channels_per_client": UNBOUND,
        }
    )
    async with open_stack(config) as stack:
        project = await stack.create_project(settings=settings)
        return await run_suites(
            suites, load_target(stack, project), started=_say_started
        )


def _say_started(suite: Suite) -> None:
    click.echo(f"measuring {suite.name}: {suite.title}", err=True)
