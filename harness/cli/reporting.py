"""A command's run: its report folder, its session, its stack, its exit code."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from harness.cli.exit_codes import exit_code_of
from harness.cli.stacks import open_stack
from harness.cli.writers import default_writers
from harness.config import Config
from harness.events import StackStarted
from harness.report.store import create_run_folder
from harness.runner.session import RunSession
from harness.stack.base import Stack

__all__ = ["ReportedRun", "run_reported"]


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """What the body of a command works with while its run is on."""

    stack: Stack
    session: RunSession
    folder: Path
    descriptor: Path


async def run_reported(
    config: Config,
    what: str,
    *,
    seed: int,
    body: Callable[[ReportedRun], Awaitable[None]],
    as_json: bool = False,
    verbose: bool = False,
) -> int:
    """Start a stack, run ``body`` on it, report, and return the exit code."""
    folder = create_run_folder(
        config.reports_dir, what=what, seed=seed, now=datetime.now(UTC)
    )
    writers = default_writers(folder, os.environ, as_json=as_json, verbose=verbose)
    command = shlex.join(["harness", *sys.argv[1:]])
    session = RunSession(what, seed=seed, command=command, writers=writers)
    async with AsyncExitStack() as cleanup:
        cleanup.callback(session.close)
        try:
            stack = await cleanup.enter_async_context(open_stack(config))
        except BaseException:
            # Nothing ran: there is nothing to report but the error.
            session.close()
            shutil.rmtree(folder)
            raise
        session.emit(_started(stack))
        descriptor = folder / ".stack.json"
        cleanup.callback(descriptor.unlink, missing_ok=True)
        descriptor.touch(mode=0o600)
        descriptor.write_text(stack.descriptor.to_json(), encoding="utf-8")
        await body(ReportedRun(stack, session, folder, descriptor))
        code = exit_code_of(session.tally.verdict, ran=session.tally.ran)
        session.finish(code)
    if as_json:
        click.echo((folder / "summary.json").read_text(encoding="utf-8"))
    return code


def _started(stack: Stack) -> StackStarted:
    descriptor = stack.descriptor
    return StackStarted(
        kind=descriptor.kind,
        api_url=descriptor.api_url,
        postgres=descriptor.postgres_version,
        took_s=stack.started_in_s,
    )
