-- Subscription billing: accounts by app_metadata, plans, entitlements, partitioned usage, keys.
create table public.plans (code text primary key, title text not null, monthly_cents integer not null);
insert into public.plans values ('free', 'Free', 0), ('pro', 'Pro', 900), ('scale', 'Scale', 9900);
create table public.accounts (
  id uuid primary key default gen_random_uuid(), name text not null, plan text not null default 'free' references public.plans (code)
);
create table public.subscriptions (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null unique references public.accounts (id) on delete cascade,
  status text not null check (status in ('trialing', 'active', 'past_due', 'canceled')),
  current_period_end timestamptz not null
);
create table public.invoices (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null references public.accounts (id) on delete cascade,
  cents integer not null, paid boolean not null default false
);
create table public.api_keys (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null references public.accounts (id) on delete cascade,
  created_by uuid not null default auth.uid() references auth.users (id),
  key_hash text not null unique, revoked_at timestamptz
);
create table public.usage_events (
  id bigint generated always as identity, account_id uuid not null references public.accounts (id),
  happened_at timestamptz not null, quantity integer not null, primary key (id, happened_at)
) partition by range (happened_at);
create table public.usage_events_old partition of public.usage_events for values from (minvalue) to ('2026-01-01');
create table public.usage_events_new partition of public.usage_events for values from ('2026-01-01') to (maxvalue);
create table public.reports (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null references public.accounts (id) on delete cascade,
  body jsonb not null
);

create function public.account_id() returns uuid language sql stable
as $$ select nullif(auth.jwt() -> 'app_metadata' ->> 'account_id', '')::uuid $$;
create function public.account_role() returns text language sql stable
as $$ select auth.jwt() -> 'app_metadata' ->> 'account_role' $$;
create function public.is_entitled() returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.subscriptions s where s.account_id = public.account_id()
  and s.status in ('trialing', 'active') and s.current_period_end > now()) $$;

alter table public.plans enable row level security;
alter table public.accounts enable row level security;
alter table public.subscriptions enable row level security;
alter table public.invoices enable row level security;
alter table public.api_keys enable row level security;
alter table public.usage_events enable row level security;
alter table public.usage_events_old enable row level security;
alter table public.usage_events_new enable row level security;
alter table public.reports enable row level security;

create policy plans_read on public.plans for select using (true);
create policy accounts_read on public.accounts for select to authenticated using (id = (select public.account_id()));
create policy accounts_edit on public.accounts for update to authenticated
  using (id = (select public.account_id()) and (select public.account_role()) = 'owner')
  with check (id = (select public.account_id()));
revoke update on public.accounts from anon, authenticated;
grant update (name) on public.accounts to authenticated;
create policy subscriptions_read on public.subscriptions for select to authenticated
  using (account_id = (select public.account_id()));
create policy invoices_read on public.invoices for select to authenticated
  using (account_id = (select public.account_id()) and (select public.account_role()) in ('owner', 'billing'));
create policy keys_read on public.api_keys for select to authenticated
  using (account_id = (select public.account_id()));
create policy keys_make on public.api_keys for insert to authenticated
  with check (account_id = (select public.account_id()) and created_by = auth.uid() and (select public.account_role()) = 'owner');
create policy keys_revoke on public.api_keys for update to authenticated
  using (account_id = (select public.account_id()) and (select public.account_role()) = 'owner')
  with check (account_id = (select public.account_id()));
create policy usage_read on public.usage_events for select to authenticated
  using (account_id = (select public.account_id()));
create policy reports_read on public.reports for select to authenticated
  using (account_id = (select public.account_id()) and (select public.is_entitled()));
create policy reports_write on public.reports for insert to authenticated
  with check (account_id = (select public.account_id()) and (select public.is_entitled()));
create policy reports_drop on public.reports for delete to authenticated
  using (account_id = (select public.account_id()));

create function public.usage_total(since timestamptz) returns bigint language sql stable
as $$ select coalesce(sum(quantity), 0) from public.usage_events where happened_at >= since $$;
