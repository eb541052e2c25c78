"""Declared rules: what is wider or narrower than declared is found."""

from __future__ import annotations

from harness.db.catalog import Name
from harness.policies.rules import ALWAYS, Allow, RuleSet
from tests.integration.policies.checking import CheckSql

NOTES = Name("public", "notes")
SCHEMA = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id),
  body text, shared boolean not null default false
);
alter table public.notes enable row level security;
create policy own on public.notes to authenticated using (user_id = auth.uid());
create policy shared on public.notes for select to authenticated using (shared);
"""
ALL = ("select", "insert", "update", "delete")
OWN = Allow(who="signed_in", may=ALL, on=NOTES, rows="user_id = me")
SHARED = Allow(who="signed_in_or_token", may=("select",), on=NOTES, rows="shared")


def rules(*allows: Allow) -> RuleSet:
    who = {**ALWAYS, "signed_in_or_token": "claims ->> 'role' = 'authenticated'"}
    return RuleSet(who=who, allows=allows)


def test_rules_that_say_what_policies_do_hold(check_sql: CheckSql) -> None:
    check_sql(SCHEMA, rules=rules(OWN, SHARED)).assert_sound()


def test_permission_that_no_rule_gives_is_found(check_sql: CheckSql) -> None:
    checked = check_sql(SCHEMA, rules=rules(OWN))
    (finding,) = checked.found("declared_rules_hold", "public.notes")
    assert "no rule allows it" in finding.message


def test_permission_that_is_missing_is_found(check_sql: CheckSql) -> None:
    everything = Allow(who="signed_in", may=("delete",), on=NOTES, rows="shared")
    checked = check_sql(SCHEMA, rules=rules(OWN, SHARED, everything))
    (finding,) = checked.found("declared_rules_hold", "public.notes")
    assert "cannot delete" in finding.message


def test_rule_about_a_table_that_is_not_there_is_undecided(check_sql: CheckSql) -> None:
    lost = Allow(who="anyone", may=("select",), on=Name("public", "lost"))
    checked = check_sql(SCHEMA, rules=rules(OWN, SHARED, lost))
    assert [u.where for u in checked.undecided] == ["public.lost"]
