"""The climber system: its reference is sound, its draft shows its known faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.policies.checking import CheckSql

CLIMBER = Path(__file__).resolve().parents[3] / "sql" / "climber"

# Requirement id: the check that must find the fault, and at which object.
DRAFT_FAULTS = {
    "D-CL-01": ("legitimate_actions_succeed", "storage.objects"),
    "D-CL-02": ("functions_work", "subscribe_to_user_channel"),
    "D-CL-03": ("functions_change_nothing_of_others", "upload_user_avatar"),
    "D-CL-04": ("functions_change_nothing_of_others", "delete_user_avatar"),
    "D-CL-05": ("functions_resist_shadowing", "upload_user_avatar"),
    "D-CL-06": ("functions_reveal_nothing_hidden", "get_file_metadata"),
    "D-CL-08": ("functions_create_what_their_owner_sees", "upload_user_avatar"),
    "D-CL-19": ("rows_are_not_planted", "storage.objects"),
    "D-CL-20": ("moves_stay_within_insert_rights", "storage.objects"),
    "D-CL-26": ("tables_without_rls_are_closed", "realtime_channels"),
    "D-CL-27": ("functions_change_nothing_of_others", "subscribe_to_user_channel"),
    "D-CL-32": ("published_rows_reach_only_readers", "wearable_data"),
}


def test_reference_has_no_finding_and_nothing_undecided(check_folder: CheckSql) -> None:
    check_folder(CLIMBER).assert_sound()


def test_draft_shows_every_known_fault_with_a_small_witness(
    check_folder: CheckSql,
) -> None:
    checked = check_folder(CLIMBER / "draft")
    missing = [
        fault
        for fault, (check, where) in DRAFT_FAULTS.items()
        if not checked.found(check, where)
    ]
    assert not missing
    for finding in checked.findings:
        witness = finding.witness
        assert witness is not None
        assert "rollback;" in witness.sql
        assert witness.rows <= 3, finding.message
        assert witness.identities <= 2, finding.message
        assert witness.statements <= 2, finding.message


@pytest.mark.parametrize("seed", [1, 2])
def test_same_seed_gives_the_same_findings(check_folder: CheckSql, seed: int) -> None:
    told = [
        [
            (finding.check, finding.where, finding.witness and finding.witness.sql)
            for finding in check_folder(CLIMBER / "draft", seed=seed).findings
        ]
        for _ in range(2)
    ]
    assert told[0] == told[1]
