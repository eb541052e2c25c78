"""Runs policy checks on schemas written in a test, and on the systems in ``sql/``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import read_schema
from harness.policies.rules import RuleSet
from tests.integration.policies.checking import Checked, CheckSql, run_check


@pytest.fixture
def check_sql(clone_of: Callable[..., DatabaseAddress], tmp_path: Path) -> CheckSql:
    """Check a schema given as SQL text."""

    def check(sql: str, **options: Any) -> Checked:
        folder = tmp_path / "schema"
        folder.mkdir(exist_ok=True)
        (folder / "20260101000000_schema.sql").write_text(sql)
        return run_check(clone_of(read_schema(folder)), **options)

    return check


@pytest.fixture
def check_folder(clone_of: Callable[..., DatabaseAddress]) -> CheckSql:
    """Check the schema in a folder of the repository."""

    def check(folder: Path, *, rules: RuleSet | None = None, seed: int = 1) -> Checked:
        return run_check(clone_of(read_schema(folder)), rules=rules, seed=seed)

    return check
