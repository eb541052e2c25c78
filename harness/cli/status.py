"""``harness status``: the stacks that run on this machine."""

from __future__ import annotations

import json

import click

from harness.cli.exit_codes import ExitCode
from harness.cli.output import OutputFormat, show_stack, stack_variables
from harness.config import Config
from harness.stack.registry import StackRegistry

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness status
  harness status --json
  eval "$(harness status -o env)"
"""


@click.command(epilog=EPILOG)
@click.option(
    "-o", "--output", type=click.Choice(["pretty", "env", "json"]), default="pretty"
)
@click.option("--json", "output", flag_value="json", help="Same as -o json.")
@click.pass_obj
def command(config: Config, output: OutputFormat) -> int:
    """Show the running stacks; exit code 1 when none runs."""
    running = StackRegistry(config.state_dir).running()
    if output == "json":
        stacks = [
            {"name": d.name, "postgres": d.postgres_version, **stack_variables(d)}
            for d in running
        ]
        click.echo(json.dumps(stacks, indent=2))
    elif not running:
        click.echo("no stack is running", err=True)
    else:
        for descriptor in running:
            if output == "pretty":
                title = f"{descriptor.name} (PostgreSQL {descriptor.postgres_version})"
                click.echo(click.style(title, bold=True))
            show_stack(descriptor, output)
    return ExitCode.PASSED if running else ExitCode.FINDINGS
