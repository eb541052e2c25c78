"""Which schema a suite runs on: its scenario's, or the one that the run asks for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.resources import sql_root

if TYPE_CHECKING:
    from harness.scenario import Scenario

__all__ = ["schema_folders"]


def schema_folders(scenario: Scenario) -> tuple[Path, ...]:
    """Return the folders of ``scenario``, unless ``HARNESS_SCHEMA`` names others.

    The variable holds folders separated by commas, absolute or below ``sql/``.
    """
    asked = os.environ.get("HARNESS_SCHEMA", "")
    if not asked:
        return scenario.schema_folders()
    return tuple(sql_root() / part for part in asked.split(","))
