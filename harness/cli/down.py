"""``harness down``: stop stacks that run on this machine."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import click

from harness.cli.exit_codes import ExitCode
from harness.config import Config, did_you_mean
from harness.errors import StackError, UsageError
from harness.stack.descriptor import StackDescriptor
from harness.stack.registry import StackRegistry, is_alive

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness down              stops every running stack
  harness down up-4711      stops one
"""
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1)
@click.pass_obj
def command(config: Config, names: tuple[str, ...]) -> int:
    """Stop the stacks NAMES, or all of them."""
    registry = StackRegistry(config.state_dir)
    running = {d.name: d for d in registry.running()}
    for name in names:
        if name not in running:
            raise UsageError(
                f"no stack named {name!r} is running",
                hint=did_you_mean(name, list(running)),
            )
    chosen = [running[n] for n in names] if names else list(running.values())
    for descriptor in chosen:
        _stop(descriptor)
        registry.remove(descriptor.name)
        click.echo(f"stopped {descriptor.name}")
    if not chosen:
        click.echo("no stack is running", err=True)
    return ExitCode.PASSED


def _stop(descriptor: StackDescriptor) -> None:
    keeper = descriptor.pids["keeper"]
    with suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(keeper, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while is_alive(keeper):
        if time.monotonic() > deadline_s:
            raise StackError(
                f"{descriptor.name} did not stop within {STOP_TIMEOUT_S:.0f} s",
                service="keeper",
                hint=f"kill -9 {keeper}; the next start removes what is left",
            )
        time.sleep(POLL_S)
