"""What is made up for a function that cannot run."""

from __future__ import annotations

from harness.policies.probing import Answer
from harness.policies.repairs import PROTECTED, Repairs


def test_missing_function_gets_a_stand_in() -> None:
    answer = Answer(
        sqlstate="42883", message="function storage.url(unknown, text) does not exist"
    )
    repairs = Repairs().extended(answer, None)
    assert repairs is not None
    assert repairs.statements[0].startswith("create function storage.url(text, text)")


def test_stand_in_is_made_once() -> None:
    answer = Answer(sqlstate="42883", message="function f(integer) does not exist")
    repairs = Repairs().extended(answer, None)
    assert repairs is not None
    assert repairs.extended(answer, None) is None


def test_protected_deletion_is_allowed_as_the_storage_api_does() -> None:
    answer = Answer(sqlstate="42501", message=f"{PROTECTED}. Use the Storage API.")
    repairs = Repairs().extended(answer, None)
    assert repairs is not None
    assert repairs.settings == {"storage.allow_delete_query": "true"}


def test_refusal_is_not_repaired() -> None:
    answer = Answer(sqlstate="42501", message="permission denied for table notes")
    assert Repairs().extended(answer, None) is None
