"""Children keep compiled modules, in the cache where sources may have none."""

from __future__ import annotations

from pathlib import Path

from harness.stack.environment import child_environment

CACHE = Path("/cache")


def test_environment_that_forbids_bytecode_gets_a_place_for_it() -> None:
    child = child_environment({"PYTHONDONTWRITEBYTECODE": "1", "A": "b"}, CACHE)
    assert child == {"A": "b", "PYTHONPYCACHEPREFIX": "/cache/pycache"}


def test_other_environments_pass_as_they_are() -> None:
    assert child_environment({"A": "b"}, CACHE, C="d") == {"A": "b", "C": "d"}
