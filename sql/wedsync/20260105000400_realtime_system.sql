-- What is live, which subscriptions there are, and what was done with them.  Users read
-- their own bookkeeping; the service writes it.

alter table public.suppliers replica identity full;
alter table public.couples replica identity full;
alter table public.form_responses replica identity full;
alter table public.core_fields replica identity full;
alter table public.journey_progress replica identity full;
alter table public.clients replica identity full;
alter table public.wedding_details replica identity full;

-- With row level security an event reaches only who may see its row.
do $$
declare
  v_table regclass;
begin
  foreach v_table in array array[
    'public.form_responses', 'public.core_fields', 'public.journey_progress',
    'public.clients', 'public.wedding_details']::regclass[]
  loop
    if not (select c.relrowsecurity from pg_catalog.pg_class as c
            where c.oid = v_table) then
      raise exception 'table % has no row level security and is not published', v_table
        using errcode = '42501';
    end if;
    if not exists (
      select from pg_catalog.pg_publication_rel as r
      join pg_catalog.pg_publication as p on p.oid = r.prpubid
      where p.pubname = 'supabase_realtime' and r.prrelid = v_table) then
      execute format('alter publication supabase_realtime add table %s', v_table);
    end if;
  end loop;
end;
$$;

create table if not exists public.realtime_subscriptions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  supplier_id uuid references public.suppliers (id) on delete cascade,
  channel_id text not null unique,
  channel_name text not null check (channel_name in (
    'form-responses', 'journey-progress', 'core-fields', 'client-profiles')),
  table_name text not null,
  filter_params jsonb not null default '{}'
    check (jsonb_typeof(filter_params) = 'object'),
  active boolean not null default true,
  created_at timestamptz not null default now(),
  last_ping_at timestamptz not null default now()
    check (isfinite(last_ping_at))
);
-- The log outlives the user: user_id goes, actor_id stays.  Events are counted, not
-- logged one by one.
create table if not exists public.realtime_activity_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete set null,
  actor_id uuid not null,
  channel_id text not null,
  event_type text not null check (event_type in (
    'SUBSCRIBE', 'UNSUBSCRIBE', 'DENIED', 'CLEANUP', 'EVENTS')),
  event_count integer not null default 1 check (event_count > 0),
  payload jsonb,
  timestamp timestamptz not null default now()
);

create index if not exists idx_realtime_subs_user
  on public.realtime_subscriptions (user_id);
create index if not exists idx_realtime_subs_channel
  on public.realtime_subscriptions (channel_name);
create index if not exists idx_realtime_subs_active
  on public.realtime_subscriptions (active) where active = true;
create index if not exists idx_realtime_subs_supplier
  on public.realtime_subscriptions (supplier_id);
create index if not exists idx_activity_logs_user
  on public.realtime_activity_logs (user_id);
create index if not exists idx_activity_logs_timestamp
  on public.realtime_activity_logs (timestamp);

alter table public.realtime_subscriptions enable row level security;
alter table public.realtime_activity_logs enable row level security;
revoke all on public.realtime_subscriptions, public.realtime_activity_logs
  from anon, authenticated;
grant select on public.realtime_subscriptions, public.realtime_activity_logs
  to authenticated;
grant all on public.realtime_subscriptions, public.realtime_activity_logs
  to service_role;
drop policy if exists subscriptions_owner_select on public.realtime_subscriptions;
create policy subscriptions_owner_select on public.realtime_subscriptions
  for select to authenticated using (user_id = (select auth.uid()));
drop policy if exists activity_owner_select on public.realtime_activity_logs;
create policy activity_owner_select on public.realtime_activity_logs
  for select to authenticated using (user_id = (select auth.uid()));

-- Records a batch of subscriptions, all or none.  Returns 'ok', 'user_limit' or
-- 'supplier_limit'; the locks make parallel calls count one after the other.
create or replace function public.open_subscriptions(
  p_user_id uuid, p_subscriptions jsonb, p_user_limit integer default 250,
  p_now timestamptz default null)
returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_new integer := jsonb_array_length(p_subscriptions);
  v_supplier_id uuid;
begin
  -- Always in this order, so that two calls cannot wait for each other.
  perform pg_advisory_xact_lock(hashtextextended('subscriptions:' || p_user_id, 0));
  select p.supplier_id into v_supplier_id
  from public.user_profiles as p where p.id = p_user_id;
  if v_new + (select count(*) from public.realtime_subscriptions as s
              where s.user_id = p_user_id and s.active) > p_user_limit then
    return 'user_limit';
  end if;
  if v_supplier_id is not null then
    perform pg_advisory_xact_lock(
      hashtextextended('subscriptions:' || v_supplier_id, 0));
    if v_new + (select count(*) from public.realtime_subscriptions as s
                where s.supplier_id = v_supplier_id and s.active)
       > (select x.connection_limit from public.suppliers as x
          where x.id = v_supplier_id) then
      return 'supplier_limit';
    end if;
  end if;
  insert into public.realtime_subscriptions (
    user_id, supplier_id, channel_id, channel_name, table_name, filter_params,
    created_at, last_ping_at)
  select p_user_id, v_supplier_id, n.channel_id, n.channel_name, n.table_name,
    coalesce(n.filter_params, '{}'), v_now, v_now
  from jsonb_to_recordset(p_subscriptions) as n (
    channel_id text, channel_name text, table_name text, filter_params jsonb);
  return 'ok';
end;
$$;

-- Removes what is closed or has not pinged for more than five minutes, and returns how
-- many.  Every removal is in the log.
create or replace function public.cleanup_inactive_subscriptions(
  p_now timestamptz default null)
returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_count integer;
begin
  with gone as (
    delete from public.realtime_subscriptions as s
    where not s.active or s.last_ping_at < v_now - interval '5 minutes'
    returning s.user_id, s.channel_id, s.channel_name
  )
  insert into public.realtime_activity_logs (
    user_id, actor_id, channel_id, event_type, payload, timestamp)
  select g.user_id, g.user_id, g.channel_id, 'CLEANUP',
    jsonb_build_object('channel', g.channel_name), v_now
  from gone as g;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

create or replace function public.prune_activity_logs(p_keep interval default '90 days')
returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
  v_count bigint;
begin
  delete from public.realtime_activity_logs as l
  where l.timestamp < clock_timestamp() - p_keep;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

revoke all on function
  public.open_subscriptions(uuid, jsonb, integer, timestamptz),
  public.cleanup_inactive_subscriptions(timestamptz),
  public.prune_activity_logs(interval)
  from public, anon, authenticated;
grant execute on function
  public.open_subscriptions(uuid, jsonb, integer, timestamptz),
  public.cleanup_inactive_subscriptions(timestamptz),
  public.prune_activity_logs(interval)
  to service_role;
