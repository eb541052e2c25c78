"""The team-notes application on a project of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Return the schema of the application."""
    return (HERE / "schema",)
