"""The field benchmark can be read, and what is asked of its cases is clear."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.policies.syntax import parse_statements
from tests.integration.policies.benchmark import faults, refactors, schema_sql
from tests.integration.policies.field_benchmark import FIELD

STYLES = sorted(path.stem for path in (FIELD / "schemas").glob("*.sql"))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_and_its_cases_are_sql(style: str) -> None:
    assert len(parse_statements(schema_sql(style, FIELD))) > 10
    cases = [v for v in [*faults(FIELD), *refactors(FIELD)] if v.style == style]
    assert [case.name for case in cases if not parse_statements(case.sql)] == []


def test_every_fault_names_what_a_finding_is_about() -> None:
    assert [fault.id for fault in faults(FIELD) if not fault.on] == []


def test_every_case_has_a_name_of_its_own() -> None:
    names = Counter(v.id for v in [*faults(FIELD), *refactors(FIELD)])
    assert [name for name, count in names.items() if count > 1] == []
