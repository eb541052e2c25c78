"""``harness run SYSTEM --schema draft``: what the first version does not give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TIMEOUT_S = 240.0
# A private bucket that nobody may read is no place for pictures with public URLs.
FALLEN = {"SM-03", "SM-04", "SM-15"}


def test_a_draft_is_examined_to_the_end_and_its_requirements_fall(
    tmp_path: Path,
) -> None:
    words = ["run", "storymimi", "--schema", "draft", "--seed", "1", "--json"]
    phases = ["--only", "schema", "--only", "flows", "--requirements"]
    result = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words, *phases],
        env={**os.environ, "HARNESS_REPORTS_DIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 1, result.stderr
    summary = json.loads(result.stdout)
    assert summary["finished"]
    (twice,) = summary["findings"]
    assert twice["check"] == "schema_applied_twice_is_the_same"
    assert twice["where"].endswith("_stories.sql:5")
    told = {line.split()[0]: line.split()[1] for line in _table(result.stderr)}
    assert {told[requirement] for requirement in FALLEN} == {"failed"}
    assert "passed" in told.values()


def _table(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("SM-")]
