"""Rule sets of others, by their real commands: rule ids and places, no verdict."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import read_schema
from harness.errors import HarnessError, UsageError
from harness.events import Finding
from harness.policies.hints import find_tools, hints_on
from harness.policies.locations import Locations

OPEN = """
create table public.notes (
  id serial primary key,
  user_id uuid not null references auth.users (id)
);
"""
Ask = Callable[[str], list[Finding]]


@pytest.fixture
def ask(clone_of: Callable[..., DatabaseAddress], tmp_path: Path) -> Ask:
    """Ask one tool about a table without row level security."""

    def asked(tool: str) -> list[Finding]:
        tools = find_tools(os.environ["PATH"])
        if tool not in tools:
            pytest.skip(f"{tool} is not installed: uv tool install {tool}")
        file = tmp_path / "20260101000000_schema.sql"
        file.write_text(OPEN)
        database = clone_of(read_schema(tmp_path))
        locate = Locations.of([tmp_path]).place
        chosen = {tool: tools[tool]}
        return asyncio.run(hints_on(database, [file], locate=locate, tools=chosen))

    return asked


@pytest.mark.parametrize(
    ("tool", "check", "line"),
    [("squawk", "squawk_prefer-identity", 3), ("pgrls", "pgrls_SEC001", 2)],
)
def test_tool_tells_its_rule_and_the_place_as_a_note(
    ask: Ask, tool: str, check: str, line: int
) -> None:
    found = ask(tool)
    assert {finding.severity for finding in found} == {"note"}
    (finding,) = [finding for finding in found if finding.check == check]
    assert finding.where.endswith(f"20260101000000_schema.sql:{line}")
    assert finding.message


def test_without_any_tool_the_way_to_get_one_is_told() -> None:
    with pytest.raises(UsageError) as told:
        asyncio.run(hints_on(DatabaseAddress("", 0, "", ""), [], tools={}))
    assert "pgrls" in (told.value.hint or "")


def test_tool_that_fails_is_no_clean_answer(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="failed"):
        asyncio.run(
            hints_on(
                DatabaseAddress("/nowhere", 1, "none", ""),
                [],
                tools={"pgrls": find_tools(os.environ["PATH"]).get("pgrls", "/bin/ls")},
            )
        )
