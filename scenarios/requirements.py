"""The 182 requirements by id, as ``requirements.toml`` lists them."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Requirement", "load_requirements", "shown_by"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement: ``system`` is a scenario's name, or ``harness``."""

    id: str
    system: str
    title: str


def load_requirements() -> dict[str, Requirement]:
    """Return all requirements by id, in the order of the file."""
    path = Path(__file__).with_suffix(".toml")
    by_system = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        requirement: Requirement(requirement, system, title)
        for system, titles in by_system.items()
        for requirement, title in titles.items()
    }


def shown_by(folder: Path) -> dict[str, list[str]]:
    """Return the names of the tests below ``folder`` for each requirement id."""
    shown: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for requirement in _marked(node):
                    shown.setdefault(requirement, []).append(node.name)
    return shown


def _marked(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the arguments of the ``requirement`` marks of a test."""
    return [
        argument.value
        for mark in test.decorator_list
        if isinstance(mark, ast.Call)
        and isinstance(mark.func, ast.Attribute)
        and mark.func.attr == "requirement"
        for argument in mark.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
