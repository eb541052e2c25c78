"""A sound schema of any number of tables, in the manner of a grown application."""

from __future__ import annotations

BASE = """
create table public.orgs (id uuid primary key default gen_random_uuid(), name text);
create table public.members (
  org_id uuid references public.orgs (id), user_id uuid references auth.users (id),
  role text not null default 'member', primary key (org_id, user_id));
create function public.is_member(org uuid) returns boolean language sql stable
  security definer set search_path = '' as $$
  select exists (select from public.members m
    where m.org_id = org and m.user_id = (select auth.uid())) $$;
alter table public.orgs enable row level security;
alter table public.members enable row level security;
create policy see on public.orgs for select to authenticated
  using (public.is_member(id));
create policy see on public.members for select to authenticated
  using (public.is_member(org_id));
"""
KINDS = (
    """
create table public.{name} (id uuid primary key default gen_random_uuid(),
  org_id uuid not null references public.orgs (id), title text not null,
  state text not null default 'open' check (state in ('open', 'done')));
create policy all_of_it on public.{name} for all to authenticated
  using (public.is_member(org_id)) with check (public.is_member(org_id));
""",
    """
create table public.{name} (id bigint generated always as identity primary key,
  user_id uuid not null default auth.uid() references auth.users (id),
  body text, amount numeric(10, 2) not null default 0 check (amount >= 0));
create policy see on public.{name} for select to authenticated
  using (user_id = (select auth.uid()));
create policy add on public.{name} for insert to authenticated
  with check (user_id = (select auth.uid()));
create policy edit on public.{name} for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy remove on public.{name} for delete to authenticated
  using (user_id = (select auth.uid()));
""",
    """
create table public.{name} (id uuid primary key default gen_random_uuid(),
  above_id uuid not null references public.{above} (id) on delete cascade,
  note text, position integer not null default 0);
create policy all_of_it on public.{name} for all to authenticated
  using (exists (select from public.{above} a
    where a.id = above_id and public.is_member(a.org_id)))
  with check (exists (select from public.{above} a
    where a.id = above_id and public.is_member(a.org_id)));
""",
    """
create table public.{name} (id uuid primary key default gen_random_uuid(),
  author_id uuid not null references auth.users (id), title text not null,
  published boolean not null default false, at timestamptz not null default now());
create policy read on public.{name} for select
  using (published or author_id = (select auth.uid()));
create policy write on public.{name} for all to authenticated
  using (author_id = (select auth.uid())) with check (author_id = (select auth.uid()));
""",
)


def many_tables_sql(count: int) -> str:
    """Return a schema of ``count`` tables."""
    parts = [BASE]
    for number in range(2, count):
        name = f"things_{number}"
        above = f"things_{number - (number - 2) % len(KINDS)}"
        kind = KINDS[(number - 2) % len(KINDS)]
        parts.append(kind.format(name=name, above=above))
        parts.append(f"alter table public.{name} enable row level security;")
    return "\n".join(parts)
