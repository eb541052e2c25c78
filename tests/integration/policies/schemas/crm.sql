-- CRM: tenant from the token's app_metadata, partitioned activity log.

create function public.current_tenant()
returns uuid language sql stable
as $$
  select nullif((auth.jwt() -> 'app_metadata' ->> 'tenant_id'), '')::uuid;
$$;

create function public.is_tenant_admin()
returns boolean language sql stable
as $$
  select coalesce((auth.jwt() -> 'app_metadata' ->> 'role') = 'admin', false);
$$;

create table public.tenants (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  plan text not null default 'free' check (plan in ('free', 'pro', 'enterprise'))
);

create table public.contacts (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null default public.current_tenant() references public.tenants (id),
  owner_id uuid default auth.uid() references auth.users (id),
  full_name text not null,
  email text,
  deleted_at timestamptz
);

create table public.deals (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null default public.current_tenant() references public.tenants (id),
  contact_id uuid references public.contacts (id) on delete set null,
  title text not null,
  amount numeric(12, 2) not null default 0 check (amount >= 0),
  stage text not null default 'lead'
    check (stage in ('lead', 'qualified', 'won', 'lost'))
);

create table public.activities (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null default public.current_tenant(),
  contact_id uuid,
  kind text not null check (kind in ('call', 'mail', 'meeting')),
  body text,
  happened_at timestamptz not null default now(),
  primary key (id, happened_at)
) partition by range (happened_at);
create table public.activities_early partition of public.activities
  for values from (minvalue) to ('2025-01-01');
create table public.activities_late partition of public.activities
  for values from ('2025-01-01') to (maxvalue);

alter table public.tenants enable row level security;
alter table public.contacts enable row level security;
alter table public.deals enable row level security;
alter table public.activities enable row level security;
alter table public.activities_early enable row level security;
alter table public.activities_late enable row level security;

create policy "Own tenant" on public.tenants for select to authenticated
  using (id = (select public.current_tenant()));
create policy "Admins update their tenant" on public.tenants for update to authenticated
  using (id = (select public.current_tenant()) and (select public.is_tenant_admin()))
  with check (id = (select public.current_tenant())
    and (select public.is_tenant_admin()));

create policy "Tenant members read contacts" on public.contacts
  for select to authenticated
  using (tenant_id = (select public.current_tenant()) and deleted_at is null);
create policy "Tenant members add contacts" on public.contacts
  for insert to authenticated
  with check (tenant_id = (select public.current_tenant()));
create policy "Tenant members edit contacts" on public.contacts
  for update to authenticated
  using (tenant_id = (select public.current_tenant()))
  with check (tenant_id = (select public.current_tenant()));
create policy "Admins remove contacts" on public.contacts
  for delete to authenticated
  using (tenant_id = (select public.current_tenant())
    and (select public.is_tenant_admin()));

create policy "Tenant isolation" on public.deals for all to authenticated
  using (tenant_id = (select public.current_tenant()))
  with check (tenant_id = (select public.current_tenant()));

create policy "Tenant activities" on public.activities for select to authenticated
  using (tenant_id = (select public.current_tenant()));
create policy "Log activities" on public.activities for insert to authenticated
  with check (tenant_id = (select public.current_tenant()));

create view public.pipeline with (security_invoker = true) as
  select stage, count(*) as deals, sum(amount) as total
  from public.deals group by stage;
