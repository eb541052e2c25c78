-- Suppliers, couples, and which of them a user speaks for.  The tenant of a user is set
-- by the service; clients change their display name only.

create table if not exists public.suppliers (
  id uuid primary key default gen_random_uuid(),
  owner_user_id uuid not null references auth.users (id) on delete cascade,
  business_name text not null,
  -- How many live subscriptions all users of this supplier may have together.
  connection_limit integer not null default 250 check (connection_limit >= 0),
  created_at timestamptz not null default now()
);
create index if not exists idx_suppliers_owner on public.suppliers (owner_user_id);

create table if not exists public.couples (
  id uuid primary key default gen_random_uuid(),
  owner_user_id uuid not null references auth.users (id) on delete cascade,
  names text not null,
  created_at timestamptz not null default now()
);
create index if not exists idx_couples_owner on public.couples (owner_user_id);

create table if not exists public.user_profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  email text,
  display_name text,
  user_type text not null default 'climber',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
alter table public.user_profiles
  add column if not exists supplier_id uuid
    references public.suppliers (id) on delete set null,
  add column if not exists couple_id uuid
    references public.couples (id) on delete set null;
create index if not exists idx_user_profiles_supplier
  on public.user_profiles (supplier_id);
create index if not exists idx_user_profiles_couple on public.user_profiles (couple_id);
alter table public.user_profiles
  drop constraint if exists user_profiles_user_type_check;
alter table public.user_profiles
  add constraint user_profiles_user_type_check
    check (user_type in ('climber', 'supplier', 'couple', 'admin'));

alter table public.suppliers enable row level security;
alter table public.couples enable row level security;
alter table public.user_profiles enable row level security;

revoke all on public.suppliers, public.couples, public.user_profiles
  from anon, authenticated;
grant select on public.suppliers, public.couples, public.user_profiles
  to authenticated;
grant update (business_name) on public.suppliers to authenticated;
grant update (names) on public.couples to authenticated;
grant insert (id, display_name) on public.user_profiles to authenticated;
grant update (display_name) on public.user_profiles to authenticated;
grant all on public.suppliers, public.couples, public.user_profiles to service_role;

drop policy if exists profiles_owner_select on public.user_profiles;
create policy profiles_owner_select on public.user_profiles
  for select to authenticated using (id = (select auth.uid()));
drop policy if exists profiles_owner_insert on public.user_profiles;
create policy profiles_owner_insert on public.user_profiles
  for insert to authenticated with check (id = (select auth.uid()));
drop policy if exists profiles_owner_update on public.user_profiles;
create policy profiles_owner_update on public.user_profiles
  for update to authenticated
  using (id = (select auth.uid())) with check (id = (select auth.uid()));

create or replace trigger update_user_profiles_updated_at
  before update on public.user_profiles
  for each row execute function public.update_updated_at_column();

-- The tenant of the calling user, null without one.  Policies need the right to execute;
-- the right to use the schema (which no API exposes) is for Realtime, which applies the
-- text of a policy to rows that were deleted.
grant usage on schema private to authenticated;
create or replace function private.current_supplier_id()
returns uuid
language sql stable security definer set search_path = ''
as $$
  select p.supplier_id from public.user_profiles as p
  where p.id = auth.uid() and p.user_type = 'supplier';
$$;
create or replace function private.current_couple_id()
returns uuid
language sql stable security definer set search_path = ''
as $$
  select p.couple_id from public.user_profiles as p
  where p.id = auth.uid() and p.user_type = 'couple';
$$;
revoke all on function private.current_supplier_id(), private.current_couple_id()
  from public;
grant execute on function private.current_supplier_id(), private.current_couple_id()
  to authenticated;
