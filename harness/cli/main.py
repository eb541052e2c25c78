"""The ``harness`` command: finds the sub-command, turns errors into lines and codes."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from harness import __version__
from harness.cli.exit_codes import ExitCode
from harness.config import Config, did_you_mean, load_config
from harness.errors import HarnessError, StackError

__all__ = ["main"]

# Sub-commands are imported when called, so that --help stays quick.
COMMANDS = {
    "up": "Start a stack and print its URLs and keys.",
    "status": "Show the running stacks.",
    "down": "Stop running stacks.",
    "run": "Run systems: schema, policies, flows, load, verdict.",
    "check": "Prove by execution who can do what in a schema.",
    "replay": "Run the case of an earlier finding once more.",
    "diff": "Compare what two schema versions allow.",
    "mutate": "Score a policy suite by the faults it notices.",
    "load": "Put a running or fresh stack under realtime load.",
    "report": "Open or list reports of earlier runs.",
    "doctor": "Tell what is installed, what is missing, how to get it.",
    "bench": "Measure this machine: CPU per operation and ratios.",
}
EXAMPLES = """
Examples:
  harness up                        start a stack, Ctrl-C stops it
  eval "$(harness up --detach -o env)"
  harness run climber               examine one reference system
  harness check supabase/           who can do what in a Supabase project
"""
LOG_TAIL_LINES = 15


class _LazyGroup(click.Group):
    """Imports a command's module when it is called, and suggests close names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return the command, or ``None``."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"harness.cli.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or fail naming the closest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], list(COMMANDS))
            message = f"unknown command {args[0]!r}"
            raise click.UsageError(f"{message}; {hint}" if hint else message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples as they are."""
        formatter.write(EXAMPLES)


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
@click.option("--postgres", metavar="DIR", help="PostgreSQL bin folder.")
@click.option(
    "-C", "--directory", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.pass_context
def cli(ctx: click.Context, postgres: str | None, directory: Path | None) -> None:
    """Start a Supabase-equivalent stack and prove what a schema allows."""
    if directory is not None:
        os.chdir(directory)
    config: Config = load_config(Path.cwd(), os.environ)
    ctx.obj = config.replace(postgres=postgres)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(_run(argv))


def _run(argv: Sequence[str] | None) -> int:
    try:
        code = cli.main(args=argv, prog_name="harness", standalone_mode=False)
        return int(code or ExitCode.PASSED)
    except click.UsageError as exc:
        _print_usage_error(exc)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.INTERRUPTED
    except HarnessError as exc:
        _print_error(exc)
        return exc.exit_code
    except Exception as exc:
        # A fault of the harness that nobody foresaw must not pass for a finding,
        # which is what Python's own exit code 1 would say.
        traceback.print_exc()
        click.echo(f"error: internal fault: {type(exc).__name__}: {exc}", err=True)
        return ExitCode.HARNESS_ERROR


def _print_usage_error(exc: click.UsageError) -> None:
    click.echo(f"error: {exc.format_message()}", err=True)
    if exc.ctx is not None:
        click.echo(f"hint: see '{exc.ctx.command_path} --help'", err=True)


def _print_error(exc: HarnessError) -> None:
    click.echo(f"error: {exc}", err=True)
    if exc.hint:
        click.echo(f"hint: {exc.hint}", err=True)
    if isinstance(exc, StackError) and exc.log_tail:
        click.echo(f"note: last lines of the log of {exc.service}:", err=True)
        for line in exc.log_tail.splitlines()[-LOG_TAIL_LINES:]:
            click.echo(f"  {line}", err=True)
