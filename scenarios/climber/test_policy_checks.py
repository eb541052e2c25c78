"""The harness finds the faults of the first version, and faults that are put back."""

from __future__ import annotations

import allure
import pytest

from harness.events import Event, Finding
from harness.policies.check import check_schema
from harness.policies.rules import read_rules
from harness.resources import sql_root
from harness.stack.base import Stack

pytestmark = allure.feature("climber: policy checks")

# Fault of the first version: the check that must find it, and at which object.
KNOWN_FAULTS = {
    "no avatar can be uploaded": "legitimate_actions_succeed: storage.objects",
    "subscribing raises": "functions_work: subscribe_to_user_channel",
    "anybody uploads": "functions_change_nothing_of_others: upload_user_avatar",
    "anybody deletes": "functions_change_nothing_of_others: delete_user_avatar",
    "a temporary table takes over": "functions_resist_shadowing: upload_user_avatar",
    "metadata leaks": "functions_reveal_nothing_hidden: get_file_metadata",
    "uploads are lost": "functions_create_what_their_owner_sees: upload_user_avatar",
    "files in foreign folders": "rows_are_not_planted: storage.objects",
    "moves past the role": "moves_stay_within_insert_rights: storage.objects",
    "open channels": "tables_without_rls_are_closed: realtime_channels",
    "published health": "published_rows_reach_only_readers: wearable_data",
}
# A change to the reference, and the object at which it must be found.
PUT_BACK = {
    """
    alter table public.wearable_data disable row level security;
    grant all on public.wearable_data to anon
    """: "wearable_data",
    """
    alter policy plans_owner_all on public.training_plans
    using (true) with check (true)
    """: "training_plans",
    "alter policy roles_owner_select on public.user_roles using (true)": "user_roles",
    """
    alter policy avatars_owner_delete on storage.objects
    using (bucket_id = 'user-avatars')
    """: "storage.objects",
}


async def findings(stack: Stack, folder: str, change: str = "") -> list[Finding]:
    """Judge a schema, with one change made to it."""
    project = await stack.create_project((sql_root() / folder,))
    rules = read_rules(sql_root() / "climber" / "rules.toml")
    found: list[Finding] = []

    def take(event: Event) -> None:
        if isinstance(event, Finding) and event.severity != "note":
            found.append(event)

    try:
        if change:
            connection = await project.connect()
            await connection.execute(change)
            await connection.close()
        await check_schema(
            project.database, rules=rules if folder == "climber" else None, emit=take
        )
    finally:
        await project.drop()
    return found


@pytest.mark.requirement("HX-03", "HX-07")
async def test_nine_of_ten_known_faults_of_the_first_version_are_found(
    stack: Stack,
) -> None:
    found = await findings(stack, "climber/draft")
    missed = []
    for fault, told in KNOWN_FAULTS.items():
        check, _, where = told.partition(": ")
        if not any(f.check == check and where in f.where for f in found):
            missed.append(fault)
    assert len(missed) <= len(KNOWN_FAULTS) / 10, missed
    assert [f.message for f in found if f.witness is None or not f.witness.sql] == []


@pytest.mark.requirement("HX-07", "HX-08")
async def test_faults_put_back_into_the_reference_are_all_found(stack: Stack) -> None:
    found = await findings(stack, "climber", ";".join(PUT_BACK))
    places = {finding.where for finding in found}
    missed = [w for w in PUT_BACK.values() if not any(w in place for place in places)]
    assert missed == []
