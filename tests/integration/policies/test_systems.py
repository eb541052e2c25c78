"""The five systems: references are sound, drafts show their known faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.policies.rules import read_rules
from tests.integration.policies.checking import CheckSql

SQL = Path(__file__).resolve().parents[3] / "sql"
SYSTEMS = ("climber", "audiobook", "storymimi", "keepintouch", "wedsync")

# Fault of a draft: the check that must find it, and what it must tell of.
FOUND_WITHOUT_RULES = {
    "climber": {
        "D-CL-01": ("legitimate_actions_succeed", "no upload to bucket user-avatars"),
        "D-CL-02": ("functions_work", "subscribe_to_user_channel"),
        "D-CL-03": ("functions_change_nothing_of_others", "upload_user_avatar"),
        "D-CL-04": ("functions_change_nothing_of_others", "delete_user_avatar"),
        "D-CL-05": ("functions_resist_shadowing", "upload_user_avatar"),
        "D-CL-06": ("functions_reveal_nothing_hidden", "get_file_metadata"),
        "D-CL-08": ("functions_create_what_their_owner_sees", "upload_user_avatar"),
        "D-CL-09": ("functions_store_no_row_without_bytes", "upload_user_avatar"),
        "D-CL-10": ("functions_keep_bucket_limits", "upload_user_avatar"),
        "D-CL-15": ("functions_work", "delete_user_avatar"),
        "D-CL-19": ("rows_are_not_planted", "bucket training-videos"),
        "D-CL-20": ("moves_stay_within_insert_rights", "to bucket training-videos"),
        "D-CL-26": ("tables_without_rls_are_closed", "realtime_channels"),
        "D-CL-27": ("functions_change_nothing_of_others", "subscribe_to_user_channel"),
        "D-CL-29": ("functions_claim_only_what_they_did", "broadcast_training_update"),
        "D-CL-32": ("published_rows_reach_only_readers", "wearable_data"),
    },
    "audiobook": {
        "D-AU-04": ("tables_without_rls_are_closed", "section_audio"),
        "D-AU-07": ("tables_without_rls_are_closed", "user_credits"),
    },
    "storymimi": {
        "D-SM-02": ("stored_files_can_be_read_back", "bucket story-images"),
    },
    "keepintouch": {
        "D-KT-01": ("buckets_are_closed_until_a_policy_names_them", "bucket_id"),
        "D-KT-02": ("stored_files_can_be_read_back", "bucket user-documents"),
    },
    "wedsync": {
        "D-WS-12": ("replica_identities_serve_publications", "form_responses"),
        "D-WS-13": ("tables_without_rls_are_closed", "suppliers"),
        "D-WS-16": (
            "functions_change_nothing_of_others",
            "cleanup_inactive_subscriptions",
        ),
    },
}
# What is wrong only for who knows the purpose: found by the reference's declared rules.
FOUND_WITH_RULES = {
    "audiobook": {
        "D-AU-07": ("declared_rules_hold", "update rows of public.user_cred")
    },
    "wedsync": {
        "D-WS-15": ("declared_rules_hold", "delete rows of public.realtime_subscript")
    },
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_reference_has_no_finding_and_nothing_undecided(
    check_folder: CheckSql, system: str
) -> None:
    rules = read_rules(SQL / system / "rules.toml")
    check_folder(SQL / system, rules=rules).assert_sound()


@pytest.mark.parametrize("system", SYSTEMS)
def test_draft_shows_every_known_fault_with_a_small_witness(
    check_folder: CheckSql, system: str
) -> None:
    checked = check_folder(SQL / system / "draft")
    known = FOUND_WITHOUT_RULES[system]
    missing = [
        fault
        for fault, (check, words) in known.items()
        if not any(words in f.message for f in checked.found(check))
    ]
    assert not missing
    for finding in checked.findings:
        witness = finding.witness
        assert witness is not None
        assert "rollback;" in witness.sql
        assert witness.rows <= 3, finding.message
        assert witness.identities <= 2, finding.message
        assert witness.statements <= 2, finding.message


@pytest.mark.parametrize("system", FOUND_WITH_RULES)
def test_draft_breaks_the_declared_rules(check_folder: CheckSql, system: str) -> None:
    rules = read_rules(SQL / system / "rules.toml")
    checked = check_folder(SQL / system / "draft", rules=rules)
    for check, words in FOUND_WITH_RULES[system].values():
        assert any(words in finding.message for finding in checked.found(check))


@pytest.mark.parametrize("seed", [1, 2])
def test_same_seed_gives_the_same_findings(check_folder: CheckSql, seed: int) -> None:
    told = [
        [
            (finding.check, finding.where, finding.witness and finding.witness.sql)
            for finding in check_folder(SQL / "climber" / "draft", seed=seed).findings
        ]
        for _ in range(2)
    ]
    assert told[0] == told[1]
