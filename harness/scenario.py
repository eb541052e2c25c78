"""A scenario: schema, suite, rules, load and settings in one frozen value.

``scenarios/<system>/__init__.py`` declares one as ``SCENARIO``.  Parts that
a system does not need are ``None`` or empty.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import did_you_mean
from harness.errors import UsageError
from harness.resources import sql_root
from harness.servers.project import ProjectSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Scenario", "find_scenario", "find_scenarios", "scenario_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One reference system and how it is examined.

    ``schema`` names folders below ``sql/``, applied in order after the platform;
    ``draft`` replaces them where the flawed first version is asked for.  ``suite`` is
    the folder of pytest files, ``rules`` a file of declared rules, ``load`` the name of
    a load profile.
    """

    name: str
    title: str
    schema: tuple[str, ...]
    draft: tuple[str, ...] = ()
    suite: Path | None = None
    rules: Path | None = None
    load: str | None = None
    settings: ProjectSettings = field(default_factory=ProjectSettings)

    def schema_folders(self) -> tuple[Path, ...]:
        """Return the folders of migrations to apply, in order."""
        return tuple(sql_root() / part for part in self.schema)

    def as_draft(self) -> Scenario:
        """Return the same scenario on the draft schema; raises without one."""
        if not self.draft:
            raise UsageError(f"{self.name} has no draft schema")
        return dataclasses.replace(self, schema=self.draft)


def scenario_names() -> list[str]:
    """Return the names of the systems that ship with the harness."""
    package = importlib.import_module("scenarios")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg)


def find_scenario(name: str) -> Scenario:
    """Return the scenario ``name``; raises :class:`UsageError` with a suggestion."""
    names = scenario_names()
    if name not in names:
        hint = did_you_mean(name, names) or f"systems: {', '.join(names)}"
        raise UsageError(f"unknown system {name!r}", hint=hint)
    scenario: Scenario = importlib.import_module(f"scenarios.{name}").SCENARIO
    return scenario


def find_scenarios(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios ``names``, where ``all`` stands for every one."""
    wanted = scenario_names() if "all" in names else names
    return [find_scenario(name) for name in dict.fromkeys(wanted)]
