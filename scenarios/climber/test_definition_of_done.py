"""The definition of done, item by item: each maps to scenarios that exist."""

from __future__ import annotations

from pathlib import Path

import allure
import pytest

from harness.resources import sql_root
from harness.stack.project import Project
from scenarios.climber.cast import BUCKETS, Cast
from scenarios.climber.media import Bucket
from scenarios.fixtures import AsPersona, Sql
from scenarios.requirements import load_requirements, shown_by

pytestmark = allure.feature("climber: definition of done")

HERE = Path(__file__).parent
ITEMS = {
    "implementation meets the acceptance criteria": ["CL-16", "CL-17", "CL-18"],
    "storage buckets are created and configured": ["CL-01", "CL-02", "CL-03", "CL-04"],
    "security policies are implemented": ["CL-06", "CL-11", "CL-14", "CL-15"],
    "realtime channels are configured": ["CL-20", "CL-21", "CL-22"],
    "file management functions work": ["CL-16", "CL-17", "CL-18", "CL-19"],
    "integration tests pass": ["CL-36"],
}
MANUAL_STEPS = {
    "buckets are created": "test_applying_again_restores_a_bucket_that_drifted",
    "files follow the policies": "test_every_bucket_stores_renames_copies_and_deletes",
    "subscriptions are live": "test_a_new_row_reaches_its_owner_and_nobody_else",
    "storage is secure": "test_nobody_moves_a_file_into_another_bucket",
    "functions manage files": "test_an_uploaded_avatar_is_served_at_the_url_that_was"
    "_returned",
}


@pytest.mark.requirement("CL-43")
@pytest.mark.parametrize("item", ITEMS)
def test_each_item_is_shown_by_a_scenario(item: str) -> None:
    shown = shown_by(HERE)
    assert [i for i in ITEMS[item] if not shown.get(i)] == []


@pytest.mark.requirement("CL-43", "CL-35")
def test_the_documentation_says_what_each_file_of_the_schema_is_for() -> None:
    files = sorted((sql_root() / "climber").glob("*.sql"))
    assert files
    assert [f.name for f in files if not f.read_text().startswith("-- ")] == []


@pytest.mark.requirement("CL-37")
@pytest.mark.parametrize("step", MANUAL_STEPS)
def test_each_manual_step_is_a_scenario(step: str) -> None:
    tests = {name for names in shown_by(HERE).values() for name in names}
    assert MANUAL_STEPS[step] in tests


@pytest.mark.requirement("CL-43", "CL-35")
def test_every_requirement_of_the_climber_is_shown() -> None:
    shown = shown_by(HERE)
    wanted = [r.id for r in load_requirements().values() if r.system == "climber"]
    assert [i for i in wanted if not shown.get(i)] == []


@pytest.mark.requirement("CL-49")
async def test_other_suites_get_people_roles_and_buckets(
    people: Cast, project: Project, as_persona: AsPersona, sql: Sql
) -> None:
    roles = await sql.fetch("select user_id::text, role from public.user_roles")
    assert {tuple(row) for row in roles} == {
        (people.premium.id, "premium_user"),
        (people.rival.id, "premium_user"),
        (people.admin.id, "admin"),
    }
    assert set(BUCKETS) == set(Bucket)
    for who in (people.ana, people.guest):
        client = await as_persona(who)
        mine = await client.table("user_profiles").select("id").execute()
        assert mine.data == [{"id": who.id}]
