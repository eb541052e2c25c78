"""``harness load``: realtime load that checks every delivery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli.reporting import ReportedRun, run_reported
from harness.cli.running import run_async
from harness.clock import fresh_seed
from harness.config import Config
from harness.faults import parse_timed_fault
from harness.load.profiles import PROFILES
from harness.load.runner import find_profile, run_profile
from harness.runner.system import load_target
from harness.servers.project import ProjectSettings

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness load smoke
  harness load climber-200 --seed 7
  harness load fanout-1000 --workers 2
  harness load climber-200 --fault pause:server@5s+2s
  harness load rooms --fault reset:clients@3s --fault latency:clients:50ms~20ms@5s+2s
  harness load changes-200 --stack http://127.0.0.1:54321
  harness load --list
"""


def _list(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        for profile in PROFILES.values():
            click.echo(f"{profile.name:<14} {profile.title}")
        ctx.exit()


@click.command(epilog=EPILOG)
@click.argument("profile")
@click.option("--stack", metavar="KIND|URL", help="embedded, containers, or a URL.")
@click.option("--workers", type=click.IntRange(1), default=1, help="Generators.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT@AT[+FOR]",
    help="What goes wrong on purpose, and when (docs/load.md).",
)
@click.option("--seed", type=click.IntRange(0), help="Repeat the arrivals exactly.")
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list,
    help="List the profiles.",
)  # fmt: skip
@click.pass_obj
def command(
    config: Config,
    profile: str,
    stack: str | None,
    workers: int,
    faults: Sequence[str],
    seed: int | None,
    reports: Path | None,
    as_json: bool,
) -> int:
    """Put a project under the load PROFILE and check every delivery."""
    chosen = find_profile(profile)
    timed = [parse_timed_fault(fault) for fault in faults]

    async def drive(run: ReportedRun) -> None:
        with run.session.phase("load", chosen.title):
            settings = ProjectSettings(realtime=chosen.realtime_settings())
            project = await run.stack.create_project(settings=settings)
            await run_profile(
                chosen,
                load_target(run.stack, project),
                seed=run.session.seed,
                emit=run.session.emit,
                workers=workers,
                faults=timed,
            )
            await project.drop()

    return run_async(
        run_reported(
            config.replace(stack=stack, reports_dir=reports),
            f"load {chosen.name}",
            seed=fresh_seed() if seed is None else seed,
            body=drive,
            as_json=as_json,
        )
    )
