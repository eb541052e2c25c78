"""Schemas that are unusual or broken: contained, reported, never a hang."""

from __future__ import annotations

import pytest

from tests.integration.policies.checking import CheckSql

NOTES = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id),
  body text
);
alter table public.notes enable row level security;
"""
OWN = "create policy own on public.notes to authenticated using (user_id = auth.uid());"


def test_empty_schema_is_sound(check_sql: CheckSql) -> None:
    check_sql("select 1;").assert_sound()


def test_policy_that_recurses_is_a_finding(check_sql: CheckSql) -> None:
    checked = check_sql(
        NOTES + "create policy loop on public.notes for select to authenticated using"
        " (exists (select 1 from public.notes n where n.user_id = auth.uid()));"
    )
    (finding,) = checked.found("policies_answer_without_error", "public.notes")
    assert "42P17" in finding.message


def test_policy_that_raises_is_a_finding(check_sql: CheckSql) -> None:
    checked = check_sql(
        NOTES + "create policy broken on public.notes for select to authenticated"
        " using (user_id = auth.uid() and body::integer > 0);"
    )
    assert checked.found("policies_answer_without_error", "public.notes")


def test_table_without_primary_key_is_judged(check_sql: CheckSql) -> None:
    checked = check_sql(
        "create table public.logs (user_id uuid references auth.users (id), line text);"
        "alter table public.logs enable row level security;"
        "create policy leak on public.logs for select to authenticated"
        " using (user_id = user_id);"
    )
    assert checked.found("others_rows_are_not_read", "public.logs")


def test_cyclic_foreign_keys_are_filled(check_sql: CheckSql) -> None:
    checked = check_sql(
        "create table public.teams (id uuid primary key, lead_id uuid not null,"
        " owner_id uuid not null references auth.users (id));"
        "create table public.people (id uuid primary key,"
        " team_id uuid not null references public.teams (id));"
        "alter table public.teams add foreign key (lead_id) references public.people"
        " (id) deferrable initially deferred;"
        "alter table public.teams enable row level security;"
        "alter table public.people enable row level security;"
        "create policy own on public.teams to authenticated"
        " using (owner_id = auth.uid());"
    )
    checked.assert_sound()


def test_checks_domains_enums_and_generated_columns_are_satisfied(
    check_sql: CheckSql,
) -> None:
    check_sql(
        r"create domain public.iban as text check (value ~ '^[A-Z]{2}[0-9]{6}$');"
        "create type public.mood as enum ('a', 'b', 'c');"
        "create table public.accounts ("
        " id bigint generated always as identity primary key,"
        " user_id uuid not null references auth.users (id),"
        " number public.iban not null unique, mood public.mood not null,"
        " opened date not null, closed date, balance numeric(8, 2) not null,"
        " doubled numeric generated always as (balance * 2) stored,"
        " tags text[] not null check (cardinality(tags) between 1 and 3),"
        " spot point, area int4range, seen inet, extra jsonb not null default '{}',"
        " check (closed is null or closed > opened), check (balance between 5 and 7));"
        "alter table public.accounts enable row level security;"
        "create policy own on public.accounts to authenticated"
        " using (user_id = auth.uid() and mood <> 'c')"
        " with check (user_id = auth.uid());"
    ).assert_sound()


def test_table_that_cannot_be_filled_is_undecided(check_sql: CheckSql) -> None:
    checked = check_sql(
        NOTES
        + OWN
        + "alter table public.notes alter body set not null, add constraint never check"
        " (md5(body) = 'no text has this digest');"
    )
    assert any("public.notes" in u.where for u in checked.undecided)
    assert checked.summary.verdict == "unknown"


def test_policy_that_admits_nobody_is_undecided(check_sql: CheckSql) -> None:
    checked = check_sql(
        NOTES + OWN + "create policy dead on public.notes for select to authenticated"
        " using (md5(body) = 'no text has this digest');"
    )
    (undecided,) = checked.undecided
    assert 'policy "dead"' in undecided.where


@pytest.mark.parametrize("sleeping", ["policy", "function"])
def test_endless_statement_is_cut_short(check_sql: CheckSql, sleeping: str) -> None:
    endless = (
        "create function public.wait() returns boolean language plpgsql as"
        " $$ begin perform pg_sleep(60); return true; end $$;"
    )
    if sleeping == "policy":
        endless += (
            "create policy slow on public.notes for select to authenticated"
            " using (public.wait());"
        )
    checked = check_sql(NOTES + OWN + endless, statement_timeout_ms=200)
    assert checked.undecided
    assert checked.summary.took_s < 60


def test_trigger_that_makes_profiles_is_followed(check_sql: CheckSql) -> None:
    check_sql(
        "create table public.profiles (id uuid primary key references auth.users (id),"
        " name text not null);"
        "create function public.welcome() returns trigger language plpgsql"
        " security definer set search_path = '' as $$ begin"
        " insert into public.profiles values (new.id, 'new'); return new; end $$;"
        "create trigger welcome after insert on auth.users for each row"
        " execute function public.welcome();"
        "alter table public.profiles enable row level security;"
        "create policy own on public.profiles to authenticated"
        " using (id = (select auth.uid()));"
    ).assert_sound()


def test_upsert_without_select_policy_is_a_finding(check_sql: CheckSql) -> None:
    checked = check_sql(
        NOTES + "create policy add on public.notes for insert to authenticated"
        " with check (user_id = auth.uid());"
        "create policy edit on public.notes for update to authenticated"
        " using (user_id = auth.uid());"
    )
    assert checked.found("updates_reach_rows_that_are_seen", "public.notes")


def test_truncate_beside_chosen_grants_is_a_finding(check_sql: CheckSql) -> None:
    grants = "revoke all on public.notes from anon, authenticated;"
    sound = NOTES + OWN + grants + "grant select on public.notes to authenticated;"
    check_sql(sound).assert_sound()
    checked = check_sql(sound + "grant truncate on public.notes to authenticated;")
    assert checked.found("tables_are_not_truncated", "public.notes")


def test_many_tables_are_checked(check_sql: CheckSql) -> None:
    tables = "".join(
        NOTES.replace("public.notes", f"public.notes_{n}")
        + OWN.replace("public.notes", f"public.notes_{n}")
        for n in range(20)
    )
    checked = check_sql(tables)
    checked.assert_sound()
    assert len(checked.summary.ownership) >= 20
