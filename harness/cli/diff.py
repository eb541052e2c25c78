"""``harness diff``: what one version of a schema allows that another does not."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from harness.cli.reporting import ReportedRun, run_reported
from harness.cli.revisions import version_under_test
from harness.cli.running import run_async
from harness.clock import fresh_seed
from harness.config import Config
from harness.events import Event, Finding
from harness.policies.diff import diff_schemas
from harness.policies.diff_allow import AllowedChange, read_allowed, write_allowed
from harness.runner.schemas import SchemaUnderTest

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness diff sql/climber/draft sql/climber      two folders
  harness diff main:sql/climber sql/climber       a git ref with a path
  harness diff main:. .                           a project of the Supabase CLI
  harness diff main:. . --allow accepted.toml     with reviewed changes
"""


@dataclass(frozen=True, slots=True)
class _Options:
    accepted: tuple[AllowedChange, ...]
    write_to: Path | None
    everything: bool
    head: tuple[str, ...]


@click.command(epilog=EPILOG)
@click.argument("base")
@click.argument("head")
@click.option("--seed", type=click.IntRange(0), help="Repeat a comparison exactly.")
@click.option(
    "--allow",
    "allow",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Reviewed file of accepted changes.",
)
@click.option(
    "--write-allow",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the changes found to a file, to be reviewed.",
)
@click.option(
    "--everything",
    is_flag=True,
    help="Execute what no difference can reach as well.",
)
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Name every check as it ends.")
@click.pass_obj
def command(
    config: Config,
    base: str,
    head: str,
    seed: int | None,
    allow: Path | None,
    write_allow: Path | None,
    everything: bool,
    reports: Path | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Compare by execution what two versions of a schema allow.

    BASE and HEAD are folders of migrations, projects of the Supabase CLI, database
    URLs, or REF:PATH of the git repository here.  Widened permissions fail.
    """
    changed = config.replace(reports_dir=reports)
    accepted = read_allowed(allow) if allow else ()
    # What is checked out of git is gone when a case is to be run again.
    lasting = (head,) if Path(head).is_dir() else ()
    options = _Options(accepted, write_allow, everything, lasting)
    with ExitStack() as checkouts:
        versions = [
            checkouts.enter_context(version_under_test(name)) for name in (base, head)
        ]

        async def compare(run: ReportedRun) -> None:
            await _compare(run, versions, changed, options)

        return run_async(
            run_reported(
                changed,
                f"diff {base} {head}",
                seed=fresh_seed() if seed is None else seed,
                body=compare,
                as_json=as_json,
                verbose=verbose,
            )
        )


async def _compare(
    run: ReportedRun,
    versions: list[SchemaUnderTest],
    config: Config,
    options: _Options,
) -> None:
    base, head = versions

    def emit(event: Event) -> None:
        if isinstance(event, Finding):
            event = dataclasses.replace(event, schema=options.head)
        run.session.emit(event)

    with run.session.phase("diff", f"{base.name} -> {head.name}") as summarise:
        databases = [await version.make(run.stack) for version in versions]
        summary = await diff_schemas(
            *databases,
            allowed=options.accepted,
            everything=options.everything,
            seed=run.session.seed,
            statement_timeout_ms=config.statement_timeout_ms,
            emit=emit,
        )
        summarise(str(summary))
    if options.write_to is not None:
        missing = write_allowed(options.write_to, summary.groups, options.accepted)
        click.echo(f"{options.write_to}: {missing} changes need a reason", err=True)
