"""``harness doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import click
from rich.console import Console
from rich.table import Table

from harness.cli.exit_codes import ExitCode
from harness.config import Config
from harness.db.discovery import MINIMUM_MAJOR, find_postgres, installations
from harness.db.rundir import run_roots
from harness.errors import HarnessError
from harness.stack.registry import StackRegistry

__all__ = ["command"]

EPILOG = """
\b
Examples:
  harness doctor
  harness doctor --json
"""
State = Literal["ok", "missing", "optional"]
STYLES = {"ok": "green", "missing": "red", "optional": "yellow"}
MIB = 1 << 20
DISK_NEEDED_MIB = 500
DOCKER_TIMEOUT_S = 5.0
PACKAGES = ("asyncpg", "aiohttp", "hypothesis", "locust", "supabase", "uvloop")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at; ``missing`` stops the harness from working."""

    name: str
    state: State
    seen: str
    remedy: str = ""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(config: Config, as_json: bool) -> int:
    """Tell what is installed, what is missing and how to get it.

    Exit code 3 when something that the embedded stack needs is missing.
    """
    found = list(_examine(config))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(d) for d in found], indent=2))
    else:
        Console().print(_table(found))
    broken = any(d.state == "missing" for d in found)
    return ExitCode.HARNESS_ERROR if broken else ExitCode.PASSED


def _examine(config: Config) -> Iterator[Diagnosis]:
    yield Diagnosis("Python", "ok", sys.version.split()[0])
    yield from _packages()
    yield _postgres(config)
    yield from _run_folders()
    yield _docker()
    yield _node()
    names = [d.name for d in StackRegistry(config.state_dir).running()]
    yield Diagnosis("running stacks", "ok", ", ".join(names) or "none")


def _packages() -> Iterator[Diagnosis]:
    for name in PACKAGES:
        try:
            yield Diagnosis(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Diagnosis(name, "missing", "not installed", f"pip install {name}")


def _postgres(config: Config) -> Diagnosis:
    search_path = os.environ.get("PATH", os.defpath)
    try:
        chosen = find_postgres(config.postgres, search_path=search_path)
    except HarnessError as exc:
        return Diagnosis("PostgreSQL", "missing", str(exc), exc.hint or "")
    others = [
        f"{i.version_text} ({i.source})"
        for i in installations(search_path)
        if i != chosen and i.major >= MINIMUM_MAJOR
    ]
    also = f"; also {', '.join(others)}" if others else ""
    return Diagnosis("PostgreSQL", "ok", f"{chosen}{also}")


def _run_folders() -> Iterator[Diagnosis]:
    for root in run_roots():
        free_mib = shutil.disk_usage(root).free // MIB
        state: State = "ok" if free_mib >= DISK_NEEDED_MIB else "missing"
        remedy = f"free {DISK_NEEDED_MIB} MiB or set TMPDIR" if state != "ok" else ""
        yield Diagnosis(f"room in {root}", state, f"{free_mib} MiB free", remedy)


def _docker() -> Diagnosis:
    if importlib.util.find_spec("testcontainers") is None:
        return Diagnosis(
            "containers",
            "optional",
            "the extra is not installed",
            "pip install 'supabase-harness[containers]'",
        )
    docker = shutil.which("docker")
    if docker is None:
        remedy = "install Docker; only --stack containers needs it"
        return Diagnosis("containers", "optional", "no docker command", remedy)
    version = _version_of([docker, "version", "--format", "{{.Server.Version}}"])
    if version is None:
        remedy = "start the Docker daemon, or join the group that may use it"
        return Diagnosis("containers", "optional", "no daemon answers", remedy)
    return Diagnosis("containers", "ok", f"Docker {version}")


def _node() -> Diagnosis:
    node = shutil.which("node")
    version = _version_of([node, "--version"]) if node else None
    if version is None:
        remedy = "install Node.js 20; only the JavaScript conformance tests need it"
        return Diagnosis("Node.js", "optional", "not installed", remedy)
    return Diagnosis("Node.js", "ok", version)


def _version_of(argv: list[str]) -> str | None:
    """Return what a version command prints, ``None`` if it fails."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=DOCKER_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _table(found: list[Diagnosis]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for diagnosis in found:
        text = diagnosis.seen
        if diagnosis.remedy:
            text += f"\nhint: {diagnosis.remedy}"
        style = STYLES[diagnosis.state]
        table.add_row(f"[{style}]{diagnosis.state}[/]", diagnosis.name, text)
    return table
