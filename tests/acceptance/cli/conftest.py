"""Runs the ``harness`` command as a user does: a process, its output, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]
Harness = Callable[..., Result]
TIMEOUT_S = 120.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user whose state and reports are in ``tmp_path``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    if postgres := os.environ.get("HARNESS_POSTGRES"):
        kept["HARNESS_POSTGRES"] = postgres
    return {
        **kept,
        "HARNESS_STATE_DIR": str(tmp_path / "state"),
        "HARNESS_REPORTS_DIR": str(tmp_path / "reports"),
        "NO_COLOR": "1",
    }


@pytest.fixture
def harness(environment: dict[str, str]) -> Harness:
    """Return a function that runs a command to its end."""

    def run(*words: str, env: Mapping[str, str] | None = None) -> Result:
        return subprocess.run(
            [sys.executable, "-m", "harness.cli", *words],
            env={**environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run
