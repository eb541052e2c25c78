"""Where the files that ship with the harness are: SQL, compose files, scenarios.

In a clone they lie beside the package; in an installed wheel inside it.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError

__all__ = ["PACKAGE", "compose_root", "sql_root"]

PACKAGE = Path(__file__).resolve().parent


def sql_root() -> Path:
    """Return the folder that holds ``platform`` and one folder per system."""
    return _find("sql")


def compose_root() -> Path:
    """Return the folder of image definitions and compose files."""
    return _find("compose")


def _find(name: str) -> Path:
    for candidate in (PACKAGE.parent / name, PACKAGE / "_files" / name):
        if candidate.is_dir():
            return candidate
    raise HarnessError(
        f"the folder {name!r} of the harness is missing",
        hint="install the package again or run from a clone",
    )
