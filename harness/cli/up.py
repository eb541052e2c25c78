"""``harness up``: start a stack, tell its URLs and keys, stop it on Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import click

from harness.cli.exit_codes import ExitCode
from harness.cli.output import OutputFormat, show_stack
from harness.cli.running import run_async
from harness.config import Config
from harness.db.supabase_project import SupabaseProject, find_project, read_project
from harness.errors import StackError
from harness.stack.descriptor import StackDescriptor
from harness.stack.embedded import EmbeddedStack
from harness.stack.registry import StackRegistry
from harness.stack.supabase import (
    project_keys,
    service_settings,
    upload_bucket_objects,
)

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness up                          an empty project on ports 54321 and 54322
  harness up --project ./my-app       with the schema of a Supabase CLI project
  harness up --project sql/climber    with a folder of migrations
  harness up --port 9000              a second stack beside the first
  eval "$(harness up --detach -o env)"
  harness down                        stops what --detach left running
"""


@click.command(epilog=EPILOG)
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a Supabase CLI project, or of migrations.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="API port, exactly.")
@click.option("--name", help="Name of the stack, for 'harness down NAME'.")
@click.option(
    "-o", "--output", type=click.Choice(["pretty", "env", "json"]), default="pretty"
)
@click.option("--json", "output", flag_value="json", help="Same as -o json.")
@click.option("--detach", is_flag=True, help="Leave it running and return.")
@click.pass_obj
def command(
    config: Config,
    project: Path | None,
    port: int | None,
    name: str | None,
    output: OutputFormat,
    detach: bool,
) -> int:
    """Start a stack and print its URLs and keys; Ctrl-C stops it."""
    if detach:
        _read_project(project)  # for its notes, which nobody would see of the child
        show_stack(_detach(config, project, port, name), output)
        return ExitCode.PASSED
    return run_async(_serve(config, project, port, name, output))


async def _serve(
    config: Config,
    project: Path | None,
    port: int | None,
    name: str | None,
    output: OutputFormat,
) -> int:
    source = _read_project(project)
    ports: Literal["exact", "preferred"] = "exact" if port else "preferred"
    stack = EmbeddedStack(
        _with_ports(config, source, port),
        name=name,
        ports=ports,
        postgres_settings=source.config.db.settings if source else None,
    )
    async with AsyncExitStack() as cleanup:
        await cleanup.enter_async_context(stack)
        if source is None:
            await stack.serve_default((project,) if project else ())
        else:
            await _serve_project(stack, source)
        stack.publish()
        # Before a word is printed: whoever reads it may stop us at once.
        told = _stop_signals()
        show_stack(stack.descriptor, output)
        if output == "pretty":
            hint = f"ready in {stack.started_in_s:.2f} s; Ctrl-C stops it"
            click.echo(click.style(hint, dim=True), err=True)
        sys.stdout.flush()
        await _until_ended(stack, told)
    return ExitCode.PASSED


def _stop_signals() -> asyncio.Event:
    """Return the event that Ctrl-C or a termination sets.

    A second Ctrl-C ends this process at once; the keeper then does the clean-up.
    """
    told = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            os._exit(ExitCode.INTERRUPTED)
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return told


async def _until_ended(stack: EmbeddedStack, told: asyncio.Event) -> None:
    """Wait for Ctrl-C or ``harness down``; raises when a process ends by itself."""
    keeper = stack.keeper
    died = {
        asyncio.create_task(keeper.until_gone(name)): name
        for name in ("server", "postgres")
    }
    asked = [asyncio.create_task(event.wait()) for event in (told, keeper.stopped)]
    waiting = {*asked, *died}
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting - done:
        task.cancel()
    for task in done & died.keys():
        name = died[task]
        raise StackError(
            f"{name} ended by itself with status {keeper.gone[name]}",
            service=name,
            log_tail=keeper.log_tail(name),
        )


def _read_project(folder: Path | None) -> SupabaseProject | None:
    if folder is None or find_project(folder) is None:
        return None
    project = read_project(folder, os.environ)
    for warning in project.warnings:
        click.echo(f"note: {warning}", err=True)
    return project


def _with_ports(
    config: Config, project: SupabaseProject | None, port: int | None
) -> Config:
    if port is not None:
        return config.replace(api_port=port, db_port=port + 1)
    if project is None:
        return config
    asked = project.config
    return config.replace(api_port=asked.api.port, db_port=asked.db.port)


async def _serve_project(stack: EmbeddedStack, source: SupabaseProject) -> None:
    served = await stack.serve_default(
        source.schemas(),
        settings=service_settings(source.config),
        keys=project_keys(source.config),
    )
    await upload_bucket_objects(served, source)
    await served.close()


def _detach(
    config: Config, project: Path | None, port: int | None, name: str | None
) -> StackDescriptor:
    """Start ``harness up`` in a session of its own and wait until it is registered."""
    name = name or f"up-{os.getpid()}"
    argv = [sys.executable, "-m", "harness.cli", "up", "--name", name, "-o", "json"]
    argv += ["--project", str(project)] if project else []
    argv += ["--port", str(port)] if port else []
    environment = dict(os.environ)
    if config.postgres:
        environment["HARNESS_POSTGRES"] = config.postgres
    child = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    # The first line comes when the stack is registered, or the end of the output.
    if not child.stdout.readline():
        message = child.stderr.read().strip().removeprefix("error: ")
        raise StackError(message or "the stack did not start")
    return next(d for d in StackRegistry(config.state_dir).running() if d.name == name)
