"""What a comparison's world holds for a change to be seen, or else is undecided."""

from __future__ import annotations

from harness.events import Undecided
from tests.integration.policies.comparing import TEAMS, Compare

TASKS = """
create table public.projects (
  id integer primary key,
  owner_id uuid not null references auth.users (id) on delete cascade
);
create table public.tasks (
  project_id integer not null references public.projects (id) on delete cascade,
  number integer not null,
  primary key (project_id, number)
);
create table public.remarks (
  id uuid primary key default gen_random_uuid(),
  project_id integer not null,
  number integer not null,
  body text not null,
  foreign key (project_id, number) references public.tasks on delete cascade
);
alter table public.projects enable row level security;
alter table public.tasks enable row level security;
alter table public.remarks enable row level security;
create policy own on public.projects for select using (owner_id = auth.uid());
create policy own on public.tasks for select
  using (project_id in (select p.id from public.projects p));
create policy own on public.remarks for select using (exists (
  select from public.tasks t
  where t.project_id = remarks.project_id and t.number = remarks.number));
"""


def test_half_of_a_key_compared_is_told(compare: Compare) -> None:
    half = """alter policy own on public.remarks using (
      exists (select from public.tasks t where t.number = remarks.number));"""
    compared = compare(half, base=TASKS)
    assert compared.changes == {("public.remarks", "SELECT", "widened")}


BOOKINGS = """
create table public.salons (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null references auth.users (id) on delete cascade
);
create table public.services (
  id uuid primary key default gen_random_uuid(),
  salon_id uuid not null references public.salons (id) on delete cascade
);
create table public.bookings (
  id uuid primary key default gen_random_uuid(),
  salon_id uuid not null references public.salons (id) on delete cascade,
  service_id uuid not null references public.services (id) on delete cascade,
  customer_id uuid not null references auth.users (id) on delete cascade
);
alter table public.salons enable row level security;
alter table public.services enable row level security;
alter table public.bookings enable row level security;
create policy all_read on public.salons for select using (true);
create policy all_read on public.services for select using (true);
create policy own on public.bookings for select using (customer_id = auth.uid());
create policy request on public.bookings for insert to authenticated
  with check (customer_id = auth.uid() and exists (
    select from public.services s
    where s.id = bookings.service_id and s.salon_id = bookings.salon_id));
"""


def test_parents_that_need_no_longer_belong_together_are_told(compare: Compare) -> None:
    own = "customer_id = auth.uid()"
    apart = f"alter policy request on public.bookings with check ({own});"
    compared = compare(apart, base=BOOKINGS)
    assert ("public.bookings", "INSERT", "widened") in compared.changes


SEALED = """
create table public.sealed (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null references auth.users (id) on delete cascade,
  code text not null constraint nothing_fits check (length(code) < length(trim(code)))
);
alter table public.sealed enable row level security;
create policy own on public.sealed for select to authenticated
  using (owner_id = auth.uid());
"""


def test_table_that_no_row_can_be_stored_in_is_undecided(compare: Compare) -> None:
    widened = "alter policy own on public.sealed using (true);"
    compared = compare(widened, base=TEAMS + SEALED)
    (undecided,) = [e for e in compared.events if isinstance(e, Undecided)]
    assert undecided.where == "public.sealed"
    assert "nothing_fits" in undecided.reason


def test_change_of_a_condition_that_nobody_meets_is_undecided(compare: Compare) -> None:
    never = (
        "create policy never on public.notes for delete to authenticated using ({});"
    )
    base = TEAMS + never.format("title < title || '' and author_id = auth.uid()")
    head = "drop policy never on public.notes;" + never.format("title < title || ''")
    compared = compare(head, base=base)
    (undecided,) = [e for e in compared.events if isinstance(e, Undecided)]
    assert undecided.where == 'public.notes policy "never"'
    assert "admitted nobody" in undecided.reason


def test_dropped_condition_that_never_decided_is_undecided(compare: Compare) -> None:
    brief = (
        "create policy brief on public.notes for delete to authenticated using ({});"
    )
    base = TEAMS + brief.format("author_id = auth.uid() and length(title) < 100000")
    head = "drop policy brief on public.notes;" + brief.format("author_id = auth.uid()")
    compared = compare(head, base=base)
    (undecided,) = [e for e in compared.events if isinstance(e, Undecided)]
    assert undecided.reason == "using never decided false: length(title) < 100000"


def test_empty_table_that_no_difference_reaches_is_left_alone(compare: Compare) -> None:
    renamed = "alter policy notes_read on public.notes rename to reading;"
    compare(renamed, base=TEAMS + SEALED).assert_silent()
