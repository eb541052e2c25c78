-- What is live, and for whom.
--
-- Two ways lead to a subscriber.  The publication feeds postgres_changes: Realtime
-- delivers a change to those whose SELECT policy shows them the row, so a table without
-- RLS is never published.  A publication has one list of operations for all its tables,
-- so it cannot carry a channel's event_types; the channels therefore are private
-- broadcast topics, fed by a trigger that reads realtime_channels for every change:
--
--   user_<uid>      changes of the user's own rows in all seven tables
--   training_<uid>  the same for plans and sessions, and broadcast_training_update
--   video_content   changes of published videos, for everybody signed in
--
-- A channel that is not active, or does not list the operation, sends nothing.

create or replace function private.publish_table(p_table regclass)
returns void
language plpgsql set search_path = ''
as $$
begin
  if not (select c.relrowsecurity from pg_catalog.pg_class as c where c.oid = p_table)
  then
    raise exception 'table % has no row level security and is not published', p_table
      using errcode = '42501';
  end if;
  if not exists (
    select from pg_catalog.pg_publication_rel as r
    join pg_catalog.pg_publication as p on p.oid = r.prpubid
    where p.pubname = 'supabase_realtime' and r.prrelid = p_table) then
    execute format('alter publication supabase_realtime add table %s', p_table);
  end if;
end;
$$;
revoke all on function private.publish_table(regclass) from public;

-- FULL keeps the old row in the log: without it nobody could tell who may hear of a
-- deletion.
alter table public.user_profiles replica identity full;
alter table public.training_plans replica identity full;
alter table public.training_sessions replica identity full;
alter table public.wearable_data replica identity full;
alter table public.readiness_scores replica identity full;
alter table public.video_content replica identity full;
alter table public.content_analytics replica identity full;

do $$
begin
  perform private.publish_table(published)
  from unnest(array[
    'public.user_profiles', 'public.training_plans', 'public.training_sessions',
    'public.wearable_data', 'public.readiness_scores', 'public.video_content',
    'public.content_analytics']::regclass[]) as tables (published);
end;
$$;

create table if not exists public.realtime_channels (
  id uuid primary key default extensions.uuid_generate_v4(),
  channel_name varchar(255) not null unique,
  table_name varchar(255),
  event_types text[] not null default array['INSERT', 'UPDATE', 'DELETE'],
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint realtime_channels_event_types_check check (
    event_types <@ array['INSERT', 'UPDATE', 'DELETE']
    and cardinality(event_types) > 0)
);
-- channel_name is indexed by its constraint.
create index if not exists idx_realtime_channels_active
  on public.realtime_channels (is_active);
create index if not exists idx_realtime_channels_table
  on public.realtime_channels (table_name);

alter table public.realtime_channels enable row level security;
revoke all on public.realtime_channels from anon, authenticated;
grant select on public.realtime_channels to authenticated;
grant all on public.realtime_channels to service_role;
-- Everybody sees the channels of tables; of the personal ones only their own.
drop policy if exists channels_common_or_own_select on public.realtime_channels;
create policy channels_common_or_own_select on public.realtime_channels
  for select to authenticated
  using (channel_name = table_name
    or channel_name = 'user_' || (select auth.uid())::text
    or channel_name = 'training_' || (select auth.uid())::text);

create or replace trigger update_realtime_channels_updated_at
  before update on public.realtime_channels
  for each row execute function public.update_updated_at_column();

-- Applying again restores what belongs to the schema; is_active belongs to operations.
insert into public.realtime_channels (channel_name, table_name, event_types)
values
  ('user_profiles', 'user_profiles', array['UPDATE']),
  ('training_plans', 'training_plans', array['INSERT', 'UPDATE', 'DELETE']),
  ('training_sessions', 'training_sessions', array['INSERT', 'UPDATE', 'DELETE']),
  ('wearable_data', 'wearable_data', array['INSERT']),
  ('readiness_scores', 'readiness_scores', array['INSERT', 'UPDATE']),
  ('video_content', 'video_content', array['INSERT', 'UPDATE']),
  ('content_analytics', 'content_analytics', array['INSERT'])
on conflict (channel_name) do update
  set table_name = excluded.table_name, event_types = excluded.event_types
  where (realtime_channels.table_name, realtime_channels.event_types)
    is distinct from (excluded.table_name, excluded.event_types);

-- A channel without a row is open: subscribing makes the row, operations close it.
create or replace function private.channel_sends(p_channel text, p_operation text)
returns boolean
language sql stable set search_path = ''
as $$
  select coalesce(
    (select c.is_active and p_operation = any (c.event_types)
     from public.realtime_channels as c where c.channel_name = p_channel), true);
$$;
revoke all on function private.channel_sends(text, text) from public;

create or replace function private.send_change(
  p_topic text, p_operation text, p_table text, p_record jsonb, p_old_record jsonb)
returns void
language plpgsql set search_path = ''
as $$
begin
  if private.channel_sends(p_topic, p_operation) then
    perform realtime.send(
      jsonb_build_object(
        'schema', 'public', 'table', p_table, 'operation', p_operation,
        'record', p_record, 'old_record', p_old_record),
      p_operation, p_topic, true);
  end if;
end;
$$;
revoke all on function private.send_change(text, text, text, jsonb, jsonb) from public;

-- Who a row belongs to; null when that is no longer known.
create or replace function private.row_owner(p_table text, p_row jsonb)
returns uuid
language sql stable set search_path = ''
as $$
  select case p_table
    when 'user_profiles' then (p_row ->> 'id')::uuid
    when 'video_content' then (p_row ->> 'owner_user_id')::uuid
    when 'training_sessions' then (
      select p.user_id from public.training_plans as p
      where p.id = (p_row ->> 'plan_id')::uuid)
    else (p_row ->> 'user_id')::uuid
  end;
$$;
revoke all on function private.row_owner(text, jsonb) from public;

create or replace function private.broadcast_row_change()
returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_table text := tg_table_name;
  v_record jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_old_record jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_owner uuid;
begin
  if not private.channel_sends(v_table, tg_op) then
    return null;
  end if;
  v_owner := private.row_owner(v_table, coalesce(v_record, v_old_record));
  -- Only the service can give a row away: the new owner must not see the old version.
  if private.row_owner(v_table, v_old_record) is distinct from v_owner then
    v_old_record := null;
  end if;
  -- Deleting a plan deletes its sessions after it: their owner is no longer known, and
  -- the event of the plan has told the subscriber.
  if v_owner is not null then
    perform private.send_change(
      'user_' || v_owner, tg_op, v_table, v_record, v_old_record);
    if v_table in ('training_plans', 'training_sessions') then
      perform private.send_change(
        'training_' || v_owner, tg_op, v_table, v_record, v_old_record);
    end if;
  end if;
  if v_table = 'video_content' and (v_record ->> 'is_published')::boolean then
    -- The version before publication stays the owner's secret.
    perform private.send_change(
      'video_content', tg_op, v_table, v_record,
      case when (v_old_record ->> 'is_published')::boolean then v_old_record end);
  end if;
  return null;
end;
$$;
revoke all on function private.broadcast_row_change() from public;

create or replace trigger broadcast_row_change
  after insert or update or delete on public.user_profiles
  for each row execute function private.broadcast_row_change();
create or replace trigger broadcast_row_change
  after insert or update or delete on public.training_plans
  for each row execute function private.broadcast_row_change();
create or replace trigger broadcast_row_change
  after insert or update or delete on public.training_sessions
  for each row execute function private.broadcast_row_change();
create or replace trigger broadcast_row_change
  after insert or update or delete on public.wearable_data
  for each row execute function private.broadcast_row_change();
create or replace trigger broadcast_row_change
  after insert or update or delete on public.readiness_scores
  for each row execute function private.broadcast_row_change();
create or replace trigger broadcast_row_change
  after insert or update or delete on public.video_content
  for each row execute function private.broadcast_row_change();
create or replace trigger broadcast_row_change
  after insert or update or delete on public.content_analytics
  for each row execute function private.broadcast_row_change();

-- Private topics: listening to one's own, and to published videos.  There is no INSERT
-- policy: only the database sends on them.
drop policy if exists climber_topics_select on realtime.messages;
create policy climber_topics_select on realtime.messages
  for select to authenticated
  using (extension = 'broadcast'
    and (select realtime.topic()) in (
      'user_' || (select auth.uid())::text,
      'training_' || (select auth.uid())::text,
      'video_content'));
