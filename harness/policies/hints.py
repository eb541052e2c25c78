"""Rule sets of others, run through their own commands: notes, never the verdict.

``pgrls`` reads the catalog of a database (rules on row level security, views and
functions, as Supabase's splinter has them), ``squawk`` reads migration files.  Neither
executes anything as a user, so neither proves nor clears what a check does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from harness.db.address import DatabaseAddress
from harness.db.initdb import SUPERUSER
from harness.errors import HarnessError, UsageError
from harness.events import Finding

__all__ = ["TOOLS", "find_tools", "hints_on"]

TOOLS = ("pgrls", "squawk")
TIMEOUT_S = 120
# 0: nothing to say; 1: something.
ANSWERED = (0, 1)
INSTALL = "uv tool install pgrls; uv pip install 'supabase-harness[hints]' (squawk)"


def find_tools(search_path: str) -> dict[str, str]:
    """Return the commands that are installed, beside this Python or on the path."""
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join([beside, search_path])
    found = {tool: shutil.which(tool, path=path) for tool in TOOLS}
    return {tool: command for tool, command in found.items() if command}


async def hints_on(
    database: DatabaseAddress,
    files: Sequence[Path],
    *,
    schemas: Sequence[str] = ("public",),
    locate: Callable[[str], str] = str,
    tools: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return what the installed tools say of ``database`` and its schema ``files``.

    Raises :class:`UsageError` if none is installed, and :class:`HarnessError` if one
    does not answer as it should.
    """
    tools = find_tools(os.environ.get("PATH", "")) if tools is None else tools
    if not tools:
        raise UsageError(f"none of {', '.join(TOOLS)} is installed", hint=INSTALL)
    found: list[Finding] = []
    if "pgrls" in tools:
        arguments = ["--database-url", database.dsn(SUPERUSER)]
        arguments += ["--schemas", ",".join(schemas), "--format", "json"]
        answer = await _ask(tools["pgrls"], "lint", *arguments)
        found += [_of_pgrls(item, locate) for item in answer["violations"]]
    if "squawk" in tools and files:
        answer = await _ask(tools["squawk"], "--reporter", "json", *map(str, files))
        found += [_of_squawk(item) for item in answer]
    return found


async def _ask(command: str, *arguments: str) -> Any:
    """Run a tool in an empty folder, so that no settings file of a project counts."""
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            command,
            *arguments,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                told, failure = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise HarnessError(f"{command} took more than {TIMEOUT_S} s") from None
    name = Path(command).name
    if process.returncode not in ANSWERED:
        said = failure.decode(errors="replace").strip().splitlines()
        raise HarnessError(f"{name} failed: {said[-1] if said else 'without a word'}")
    try:
        return orjson.loads(told)
    except orjson.JSONDecodeError as exc:
        raise HarnessError(f"{name} answered with something other than JSON") from exc


def _of_pgrls(item: Mapping[str, Any], locate: Callable[[str], str]) -> Finding:
    subject = str(item["location"])
    return Finding(
        phase="policies",
        check=f"pgrls_{item['rule_id']}",
        message=f"{item['title']} ({subject})",
        where=locate(subject),
        severity="note",
        note=str(item["message"]),
    )


def _of_squawk(item: Mapping[str, Any]) -> Finding:
    return Finding(
        phase="policies",
        check=f"squawk_{item['rule_name']}",
        message=str(item["message"]),
        # Lines are counted from 0.
        where=f"{item['file']}:{item['line'] + 1}",
        severity="note",
        hint=str(item["help"] or ""),
    )
