"""Runs policy checks on schemas written in a test, and on the systems in ``sql/``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import read_schema
from harness.events import Event
from harness.policies.diff import diff_schemas
from harness.policies.diff_allow import AllowedChange
from harness.policies.rules import RuleSet
from tests.integration.policies.benchmark import schema_sql
from tests.integration.policies.checking import Checked, CheckSql, run_check
from tests.integration.policies.comparing import TEAMS, Compare, Compared

StyleDatabase = Callable[[str], DatabaseAddress]


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
def style_database(
    clone_of: Callable[..., DatabaseAddress], tmp_path: Path
) -> StyleDatabase:
    """Make a database with the sound schema of a style of the benchmark."""

    def make(style: str) -> DatabaseAddress:
        folder = tmp_path / style
        folder.mkdir()
        (folder / "20260101000000_schema.sql").write_text(schema_sql(style))
        return clone_of(read_schema(folder))

    return make


@pytest.fixture
def check_folder(clone_of: Callable[..., DatabaseAddress]) -> CheckSql:
    """Check the schema in a folder of the repository."""

    def check(folder: Path, *, rules: RuleSet | None = None, seed: int = 1) -> Checked:
        return run_check(clone_of(read_schema(folder)), rules=rules, seed=seed)

    return check


@pytest.fixture
def compare(clone_of: Callable[..., DatabaseAddress], tmp_path: Path) -> Compare:
    """Compare the teams schema with itself and ``sql`` after it."""

    def compare(
        sql: str,
        *,
        base: str = TEAMS,
        seed: int = 1,
        allowed: tuple[AllowedChange, ...] = (),
        everything: bool = False,
        statement_timeout_ms: int = 5_000,
    ) -> Compared:
        databases = []
        for name, text in (("base", base), ("head", base + sql)):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "20260101000000_schema.sql").write_text(text)
            databases.append(clone_of(read_schema(folder)))
        events: list[Event] = []
        summary = asyncio.run(
            diff_schemas(
                *databases,
                seed=seed,
                allowed=allowed,
                everything=everything,
                statement_timeout_ms=statement_timeout_ms,
                emit=events.append,
            )
        )
        return Compared(summary, events)

    return compare
