"""Notes on what policies cost: by PostgreSQL's own plans, and never a verdict."""

from __future__ import annotations

import pytest

from harness.events import Finding
from tests.integration.policies.checking import Checked, CheckSql

TABLE = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id), body text
);
{index}
create function public.is_author(p_user uuid) returns boolean
  language plpgsql stable security definer set search_path = ''
  as $$ begin return p_user = auth.uid(); end $$;
alter table public.notes enable row level security;
create policy own on public.notes for select to authenticated using ({using});
"""
INDEX = "create index on public.notes (user_id);"
ONCE = "user_id = (select auth.uid())"


def notes_of(checked: Checked) -> list[str]:
    return [
        event.message
        for event in checked.events
        if isinstance(event, Finding) and event.severity == "note"
    ]


@pytest.mark.parametrize(
    ("using", "index", "told"),
    [
        (ONCE, INDEX, []),
        (ONCE, "", ["by user_id, for which there is no index"]),
        (f"{ONCE} and auth.uid() is not null", INDEX, ["a setting of the request"]),
        ("public.is_author(user_id)", INDEX, ["evaluates public.is_author()"]),
        (f"{ONCE} or body = 'public'", "", []),
    ],
    ids=["once", "no index", "setting a row", "helper a row", "no index would help"],
)
def test_what_a_policy_costs_is_a_note(
    check_sql: CheckSql, using: str, index: str, told: list[str]
) -> None:
    checked = check_sql(TABLE.format(using=using, index=index))
    checked.assert_sound()
    notes = notes_of(checked)
    assert len(notes) == len(told), notes
    for note, words in zip(notes, told, strict=True):
        assert words in note
