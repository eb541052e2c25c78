-- Profiles and roles.  user_profiles is one table for all systems that want one: each
-- adds the columns it needs, and clients may change their display name only.

create table if not exists public.user_profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  email text,
  display_name text,
  user_type text not null default 'climber',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
alter table public.user_profiles
  add column if not exists profile_image_url text;
alter table public.user_profiles
  drop constraint if exists user_profiles_user_type_check;
alter table public.user_profiles
  add constraint user_profiles_user_type_check
  check (user_type in ('climber', 'supplier', 'couple', 'admin'));
alter table public.user_profiles enable row level security;

revoke all on public.user_profiles from anon, authenticated;
grant select on public.user_profiles to authenticated;
grant insert (id, display_name) on public.user_profiles to authenticated;
grant update (display_name) on public.user_profiles to authenticated;
grant all on public.user_profiles to service_role;

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

create table if not exists public.user_roles (
  user_id uuid not null references auth.users (id) on delete cascade,
  role text not null check (role in ('premium_user', 'admin')),
  granted_at timestamptz not null default now(),
  primary key (user_id, role)
);
alter table public.user_roles enable row level security;
revoke all on public.user_roles from anon, authenticated;
grant select on public.user_roles to authenticated;
grant all on public.user_roles to service_role;
drop policy if exists roles_owner_select on public.user_roles;
create policy roles_owner_select on public.user_roles
  for select to authenticated using (user_id = (select auth.uid()));

-- Answers about the caller only (or to the service), so that nobody learns from it who
-- the administrators are.  A role does not imply another one.
create or replace function public.has_role(p_user_id uuid, p_role text)
returns boolean
language sql stable security definer set search_path = ''
as $$
  select coalesce(p_user_id = auth.uid() or private.is_service(), false)
    and exists (
      select from public.user_roles as r
      where r.user_id = p_user_id and r.role = p_role);
$$;
revoke all on function public.has_role(uuid, text) from public, anon, authenticated;
grant execute on function public.has_role(uuid, text) to authenticated, service_role;
