"""``harness report``: open, print or list the reports of earlier runs."""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path

import click

from harness.cli.exit_codes import ExitCode
from harness.config import Config
from harness.report.store import StoredRun, find_run, list_runs

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness report                 opens the latest report, or prints its path
  harness report --list
  harness report --path          for scripts
"""


@click.command(epilog=EPILOG)
@click.argument("run", required=False)
@click.option("--list", "listing", is_flag=True, help="List the runs, newest first.")
@click.option("--path", "path_only", is_flag=True, help="Print the path, open nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--reports", type=click.Path(path_type=Path), help="Folder of reports.")
@click.pass_obj
def command(
    config: Config,
    run: str | None,
    listing: bool,
    path_only: bool,
    as_json: bool,
    reports: Path | None,
) -> int:
    """Open the report of RUN (default: the latest), or print where it is."""
    root = reports or config.reports_dir
    if listing:
        return _list(list_runs(root), as_json)
    found = find_run(root, run)
    page = found.page.resolve()
    if as_json:
        click.echo(json.dumps({**_record(found), "page": str(page)}, indent=2))
    else:
        click.echo(page)
        if sys.stdout.isatty() and not path_only:
            webbrowser.open(page.as_uri())
    return ExitCode.PASSED


def _list(runs: list[StoredRun], as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps([_record(r) for r in runs], indent=2))
    for run in [] if as_json else runs:
        verdict = run.finished.verdict if run.finished else "cut short"
        click.echo(f"{run.name}  {verdict}")
    return ExitCode.PASSED


def _record(run: StoredRun) -> dict[str, str | int]:
    return {
        "run": run.name,
        "what": run.started.what,
        "seed": run.started.seed,
        "verdict": run.finished.verdict if run.finished else "cut short",
    }
