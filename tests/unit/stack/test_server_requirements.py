"""The server's image installs what its code imports, late imports included."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ROOT / "compose" / "server" / "requirements.txt"


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(module: str) -> Path | None:
    """Return the file of a module of ours."""
    place = ROOT.joinpath(*module.split("."))
    found = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in found if path.is_file()), None)


def server_files() -> set[Path]:
    """Return the files of the server, and of all that they import of ours."""
    waiting = list((ROOT / "harness" / "servers").rglob("*.py"))
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        ours = (name for name in imported(path) if name.startswith("harness."))
        waiting += [found for name in ours if (found := file_of(name)) is not None]
    return seen


def test_every_package_that_the_server_imports_is_required() -> None:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    required = {re.split(r"[\[<>=]", line)[0].lower() for line in lines}
    # Parts of aiohttp.
    required |= {"multidict", "yarl"}
    distributions = importlib.metadata.packages_distributions()
    files = server_files()
    assert len(files) > 100
    missing = {
        (name, path.name)
        for path in files
        for name in {dotted.partition(".")[0] for dotted in imported(path)}
        if name not in sys.stdlib_module_names and name != "harness"
        if not required & {d.lower() for d in distributions.get(name, ())}
    }
    assert missing == set()
