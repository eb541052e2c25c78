"""What two versions decide about rows in states that a planned world does not show."""

from __future__ import annotations

import pytest

from tests.integration.policies.comparing import Compare

FORUM = """
create table public.sections (
  id integer primary key,
  staff_only boolean not null default false
);
create table public.threads (
  id uuid primary key default gen_random_uuid(),
  section_id integer not null references public.sections (id),
  author_id uuid not null references auth.users (id) on delete cascade,
  locked boolean not null default false,
  hidden boolean not null default false
);
create table public.wallets (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  balance numeric(14, 2) not null default 0 check (balance >= 0)
);
create table public.orders (
  id uuid primary key default gen_random_uuid(),
  buyer_id uuid not null references auth.users (id) on delete cascade,
  status text not null default 'pending' check (status in ('pending', 'paid'))
);
alter table public.sections enable row level security;
alter table public.threads enable row level security;
alter table public.wallets enable row level security;
alter table public.orders enable row level security;

create function public.pay(p_from uuid, p_to uuid, p_amount numeric) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from public.wallets
      where id = p_from and user_id = auth.uid()) then
    raise exception 'not your wallet' using errcode = '42501';
  end if;
  update public.wallets set balance = balance - p_amount
  where id = p_from and balance >= p_amount;
  if not found then
    raise exception 'insufficient funds' using errcode = '22023';
  end if;
  update public.wallets set balance = balance + p_amount where id = p_to;
end $$;
revoke execute on function public.pay from public, anon;

create function public.keep_pending() returns trigger language plpgsql as $$
begin
  if current_user in ('anon', 'authenticated') then
    new.status := 'pending';
  end if;
  return new;
end $$;
create trigger keep_pending before insert on public.orders
for each row execute function public.keep_pending();

create policy all_read on public.sections for select using (not staff_only);
create policy visible on public.threads for select using (not hidden and section_id in
  (select s.id from public.sections s where not s.staff_only));
create policy own on public.threads for select using (author_id = auth.uid());
create policy start on public.threads for insert with check (
  author_id = auth.uid() and not locked and not hidden);
create policy own on public.wallets for select using (user_id = auth.uid());
create policy own on public.orders for select using (buyer_id = auth.uid());
create policy buy on public.orders for insert with check (buyer_id = auth.uid());
"""
FAULTS = {
    "a condition among others": (
        """alter policy visible on public.threads using (section_id in
           (select s.id from public.sections s where not s.staff_only));""",
        ("public.threads", "SELECT", "widened"),
    ),
    "one of two flags of a new row": (
        """alter policy start on public.threads with check (
           author_id = auth.uid() and not locked);""",
        ("public.threads", "INSERT", "widened"),
    ),
    "money that is there": (
        """create or replace function
             public.pay(p_from uuid, p_to uuid, p_amount numeric)
           returns void language plpgsql security definer set search_path = '' as $$
           begin
             update public.wallets set balance = balance - p_amount
             where id = p_from and balance >= p_amount;
             if not found then
               raise exception 'insufficient funds' using errcode = '22023';
             end if;
             update public.wallets set balance = balance + p_amount where id = p_to;
           end $$;""",
        ("public.pay", "CALL", "widened"),
    ),
    "a function that refuses by itself": (
        "grant execute on function public.pay to anon;",
        ("public.pay", "CALL", "widened"),
    ),
    "a trigger that minds one state": (
        "drop trigger keep_pending on public.orders;",
        ("public.orders", "INSERT effect", "widened"),
    ),
}
SAME = {
    "flags the other way round": """
        alter policy visible on public.threads using (not (hidden or section_id not in
          (select s.id from public.sections s where not s.staff_only)));""",
    "who pays is looked up once": """
        create or replace function public.pay(p_from uuid, p_to uuid, p_amount numeric)
        returns void language plpgsql security definer set search_path = '' as $$
        declare mine public.wallets;
        begin
          select * into mine from public.wallets w where w.id = p_from;
          if mine.user_id is distinct from auth.uid() or mine.user_id is null then
            raise exception 'not your wallet' using errcode = '42501';
          end if;
          if mine.balance >= p_amount is not true then
            raise exception 'insufficient funds' using errcode = '22023';
          end if;
          update public.wallets set balance = balance - p_amount where id = p_from;
          update public.wallets set balance = balance + p_amount where id = p_to;
        end $$;""",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_shows_in_one_state_only_is_told(compare: Compare, fault: str) -> None:
    change, told = FAULTS[fault]
    assert told in compare(change, base=FORUM).changes


@pytest.mark.parametrize("name", SAME)
def test_the_same_in_every_state_is_silent(compare: Compare, name: str) -> None:
    compare(SAME[name], base=FORUM).assert_silent()


PAGES = """
create type public.level as enum ('view', 'edit');
create table public.spaces (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null references auth.users (id) on delete cascade,
  tags jsonb not null default '[]' check (jsonb_typeof(tags) = 'array')
);
create table public.pages (
  id uuid primary key default gen_random_uuid(),
  space_id uuid not null references public.spaces (id) on delete cascade,
  parent_id uuid,
  unique (space_id, id),
  foreign key (space_id, parent_id) references public.pages (space_id, id)
);
create table public.visits (
  id bigint generated always as identity,
  space_id uuid not null references public.spaces (id) on delete cascade,
  at timestamptz not null default now(),
  primary key (id, at)
) partition by range (at);
create table public.visits_before partition of public.visits
  for values from ('2000-01-01') to ('2025-01-01');
create table public.visits_since partition of public.visits default;
alter table public.spaces enable row level security;
alter table public.pages enable row level security;
alter table public.visits enable row level security;
alter table public.visits_before enable row level security;
alter table public.visits_since enable row level security;
create policy own on public.spaces for select using (owner_id = auth.uid());
create policy own on public.pages for select using (
  space_id in (select s.id from public.spaces s));
create policy own on public.visits for select using (
  space_id in (select s.id from public.spaces s));
"""
OPENED = {
    "rows that lie in each other": (
        "alter policy own on public.pages using (true);",
        "public.pages",
    ),
    "lists in a document": (
        "alter policy own on public.spaces using (true);",
        "public.spaces",
    ),
    "a partition of old rows": (
        "alter table public.visits_before disable row level security;",
        "public.visits_before",
    ),
}


@pytest.mark.parametrize("fault", OPENED)
def test_tables_of_every_shape_hold_rows(compare: Compare, fault: str) -> None:
    change, table = OPENED[fault]
    compared = compare(change, base=PAGES)
    assert (table, "SELECT", "widened") in compared.changes
    assert not compared.summary.undecided


MEMBERS = """
create schema app;
grant usage on schema app to authenticated;
create type app.rank as enum ('owner', 'member');
create table app.accounts (
  id uuid primary key default gen_random_uuid(),
  primary_owner_id uuid not null references auth.users (id) on delete cascade
);
create table app.account_users (
  account_id uuid not null references app.accounts (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  rank app.rank not null,
  primary key (account_id, user_id)
);
alter table app.accounts enable row level security;
alter table app.account_users enable row level security;
create function app.has_rank(account_id uuid, wanted app.rank default null)
returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select from app.account_users u where u.user_id = auth.uid()
    and u.account_id = has_rank.account_id and (u.rank = wanted or wanted is null))
$$;
create function public.set_rank(account_id uuid, user_id uuid, new_rank app.rank)
returns void language plpgsql security definer set search_path = '' as $$
declare
  is_owner boolean;
  is_first boolean;
begin
  select app.has_rank(set_rank.account_id, 'owner') into is_owner;
  if not is_owner then
    raise exception 'not an owner' using errcode = '42501';
  end if;
  select primary_owner_id = set_rank.user_id into is_first
  from app.accounts a where a.id = set_rank.account_id;
  if is_first then
    raise exception 'not of the first owner' using errcode = '42501';
  end if;
  update app.account_users u set rank = new_rank
  where u.account_id = set_rank.account_id and u.user_id = set_rank.user_id;
end $$;
revoke execute on function public.set_rank from public, anon;
grant execute on function public.set_rank to authenticated;
create policy members on app.account_users for select using (app.has_rank(account_id));
create policy members on app.accounts for select using (app.has_rank(id));
"""


def test_a_call_about_what_a_team_mate_owns_is_told(compare: Compare) -> None:
    lost = """do $do$ begin
      execute replace(pg_get_functiondef('public.set_rank'::regproc),
        'set_rank.account_id, ''owner''', 'set_rank.account_id');
      end $do$;"""
    assert ("public.set_rank", "CALL", "widened") in compare(lost, base=MEMBERS).changes
