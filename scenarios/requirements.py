"""The 182 requirements by id, as ``requirements.toml`` lists them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Requirement", "load_requirements"]


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
