-- Feature flags SaaS: tenancy in app_metadata.org_id, API keys hashed, environments
create schema app_private;
create type member_role as enum ('owner', 'admin', 'developer', 'viewer');
create table public.organizations (id uuid primary key default gen_random_uuid(), slug text unique not null check (slug ~ '^[a-z0-9-]+$'), plan text not null default 'free');
create table public.memberships (
  org_id uuid references public.organizations on delete cascade, user_id uuid references auth.users on delete cascade,
  role member_role not null default 'viewer', primary key (org_id, user_id));
create table public.environments (id uuid primary key default gen_random_uuid(), org_id uuid not null references public.organizations on delete cascade, name text not null, unique (org_id, name));
create table public.flags (
  id uuid primary key default gen_random_uuid(), org_id uuid not null references public.organizations on delete cascade,
  key text not null, archived boolean not null default false, created_by uuid not null default auth.uid() references auth.users, unique (org_id, key));
create table public.flag_states (
  flag_id uuid references public.flags on delete cascade, environment_id uuid references public.environments on delete cascade,
  enabled boolean not null default false, rules jsonb not null default '[]'::jsonb check (jsonb_typeof(rules) = 'array'),
  primary key (flag_id, environment_id));
create table public.api_keys (
  id uuid primary key default gen_random_uuid(), environment_id uuid not null references public.environments on delete cascade,
  label text not null, key_hash text not null, last_used_at timestamptz);
create table public.evaluations (
  id bigint generated always as identity, org_id uuid not null, flag_key text not null, at timestamptz not null default now(), primary key (id, at)
) partition by range (at);
create table public.evaluations_2024 partition of public.evaluations for values from ('2000-01-01') to ('2025-01-01');
create table public.evaluations_rest partition of public.evaluations default;

create function app_private.has_org_role(org uuid, variadic roles member_role[]) returns boolean
  language sql stable security definer set search_path = public, pg_temp as $$
  select exists (select 1 from memberships m where m.org_id = org and m.user_id = auth.uid() and m.role = any (roles)) $$;
create function public.current_org() returns uuid language sql stable as
$$ select nullif(auth.jwt() -> 'app_metadata' ->> 'org_id', '')::uuid $$;
grant usage on schema app_private to authenticated;

alter table public.organizations enable row level security;
alter table public.memberships enable row level security;
alter table public.environments enable row level security;
alter table public.flags enable row level security;
alter table public.flag_states enable row level security;
alter table public.api_keys enable row level security;
alter table public.evaluations enable row level security;
alter table public.evaluations_2024 enable row level security;
alter table public.evaluations_rest enable row level security;

create policy "tenant" on public.organizations as restrictive for all to authenticated using (id = (select public.current_org()));
create policy "tenant" on public.memberships as restrictive for all to authenticated using (org_id = (select public.current_org()));
create policy "tenant" on public.environments as restrictive for all to authenticated using (org_id = (select public.current_org()));
create policy "tenant" on public.flags as restrictive for all to authenticated using (org_id = (select public.current_org()));
create policy "tenant" on public.evaluations as restrictive for all to authenticated using (org_id = (select public.current_org()));

create policy "members read org" on public.organizations for select to authenticated
  using (app_private.has_org_role(id, 'owner', 'admin', 'developer', 'viewer'));
create policy "owners edit org" on public.organizations for update to authenticated using (app_private.has_org_role(id, 'owner'));
revoke update on public.organizations from anon, authenticated;
grant update (slug) on public.organizations to authenticated;
create policy "members read members" on public.memberships for select to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin', 'developer', 'viewer'));
create policy "owners manage members" on public.memberships for all to authenticated
  using (app_private.has_org_role(org_id, 'owner')) with check (app_private.has_org_role(org_id, 'owner'));
create policy "members read environments" on public.environments for select to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin', 'developer', 'viewer'));
create policy "admins manage environments" on public.environments for all to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin')) with check (app_private.has_org_role(org_id, 'owner', 'admin'));
create policy "members read flags" on public.flags for select to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin', 'developer', 'viewer'));
create policy "developers add flags" on public.flags for insert to authenticated
  with check (app_private.has_org_role(org_id, 'owner', 'admin', 'developer') and created_by = (select auth.uid()));
create policy "developers edit flags" on public.flags for update to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin', 'developer'))
  with check (app_private.has_org_role(org_id, 'owner', 'admin', 'developer'));
create policy "admins delete flags" on public.flags for delete to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin') and archived);
revoke update on public.flags from anon, authenticated;
grant update (key, archived) on public.flags to authenticated;
create policy "states follow flags" on public.flag_states for select to authenticated
  using (flag_id in (select f.id from public.flags f));
create policy "developers set states" on public.flag_states for all to authenticated
  using (exists (select 1 from public.flags f where f.id = flag_id and app_private.has_org_role(f.org_id, 'owner', 'admin', 'developer')))
  with check (exists (select 1 from public.flags f join public.environments e on e.org_id = f.org_id
     where f.id = flag_id and e.id = environment_id and app_private.has_org_role(f.org_id, 'owner', 'admin', 'developer')));
create policy "admins see keys" on public.api_keys for select to authenticated
  using (exists (select 1 from public.environments e where e.id = environment_id and app_private.has_org_role(e.org_id, 'owner', 'admin')));
revoke all on public.api_keys from anon, authenticated;
grant select (id, environment_id, label, last_used_at) on public.api_keys to authenticated;
create policy "members read evaluations" on public.evaluations for select to authenticated
  using (app_private.has_org_role(org_id, 'owner', 'admin', 'developer', 'viewer'));
revoke insert, update, delete on public.evaluations, public.evaluations_2024, public.evaluations_rest from anon, authenticated;
revoke truncate, trigger, references on all tables in schema public from anon, authenticated;

create function public.rotate_key(p_key uuid) returns text language plpgsql security definer set search_path = '' as $$
declare v_secret text := encode(extensions.gen_random_bytes(16), 'hex');
begin
  update public.api_keys k set key_hash = encode(extensions.digest(v_secret, 'sha256'), 'hex')
    from public.environments e where k.id = p_key and e.id = k.environment_id
     and e.org_id = public.current_org() and app_private.has_org_role(e.org_id, 'owner', 'admin');
  if not found then raise exception 'not allowed' using errcode = '42501'; end if;
  return v_secret;
end $$;
revoke execute on function public.rotate_key(uuid) from public, anon;
create view public.flag_overview with (security_invoker = true) as
  select f.org_id, f.key, e.name as environment, s.enabled from public.flags f
  join public.flag_states s on s.flag_id = f.id join public.environments e on e.id = s.environment_id;
