-- First version: full replica identity without publication or policies, bookkeeping that
-- its users may forge, one row per channel and table, and a clean-up that anybody calls.

alter table suppliers replica identity full;
alter table couples replica identity full;
alter table form_responses replica identity full;
alter table core_fields replica identity full;
alter table journey_progress replica identity full;
alter table clients replica identity full;
alter table wedding_details replica identity full;

create table if not exists realtime_subscriptions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  channel_name text not null,
  table_name text not null,
  filter_params jsonb,
  active boolean default true,
  created_at timestamptz default now(),
  last_ping_at timestamptz default now(),
  unique (user_id, channel_name, table_name)
);

create table if not exists realtime_activity_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  channel_id text not null,
  event_type text not null,
  payload jsonb,
  timestamp timestamptz default now()
);

create index idx_realtime_subs_user on realtime_subscriptions (user_id);
create index idx_realtime_subs_channel on realtime_subscriptions (channel_name);
create index idx_realtime_subs_active on realtime_subscriptions (active)
  where active = true;
create index idx_activity_logs_user on realtime_activity_logs (user_id);
create index idx_activity_logs_timestamp on realtime_activity_logs (timestamp);

alter table realtime_subscriptions enable row level security;
create policy own_subscriptions on realtime_subscriptions
  for all using (auth.uid() = user_id);
alter table realtime_activity_logs enable row level security;
create policy own_activity on realtime_activity_logs
  for select using (auth.uid() = user_id);

create or replace function cleanup_inactive_subscriptions() returns integer
language plpgsql security definer as $$
declare
  n integer;
begin
  delete from realtime_subscriptions
  where active = false or last_ping_at < now() - interval '5 minutes';
  get diagnostics n = row_count;
  return n;
end;
$$;
