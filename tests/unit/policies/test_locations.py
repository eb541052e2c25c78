"""Findings point at the lines of the schema files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.policies.locations import Locations

SQL = """-- notes
create table if not exists notes (id int);

create policy "Own notes" on public.notes using (true);
create or replace function app.helper(a int) returns int
language sql as 'select 1';
create view public.list as select 1;
"""


@pytest.mark.parametrize(
    ("subject", "line"),
    [
        ("public.notes", 2),
        ('public.notes policy "Own notes"', 4),
        ('public.notes policy "unknown"', 2),
        ("app.helper(integer)", 5),
        ("public.list", 7),
    ],
)
def test_object_is_found_where_it_is_defined(
    tmp_path: Path, subject: str, line: int
) -> None:
    (tmp_path / "20260101000000_notes.sql").write_text(SQL)
    place = Locations.of([tmp_path]).place(subject)
    assert place.endswith(f"20260101000000_notes.sql:{line}")


def test_object_that_no_file_defines_keeps_its_name() -> None:
    assert Locations().place("storage.objects") == "storage.objects"


def test_migrations_of_a_cli_project_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "supabase" / "migrations"
    folder.mkdir(parents=True)
    (folder / "20260101000000_notes.sql").write_text(SQL)
    assert ":2" in Locations.of([tmp_path]).place("public.notes")


def test_file_that_does_not_parse_has_no_locations() -> None:
    locations = Locations()
    locations.add("create table (", "broken.sql")
    assert locations.place("public.notes") == "public.notes"
