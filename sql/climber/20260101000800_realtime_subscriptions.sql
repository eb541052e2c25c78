-- Subscribing by function call: the name of the caller's own channel, whose row is made
-- once.  The topics themselves are guarded by the policy on realtime.messages.

create or replace function public.subscribe_to_user_channel(user_id uuid)
returns text
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_channel text;
begin
  perform private.require_self($1);
  v_channel := 'user_' || $1;
  insert into public.realtime_channels (channel_name, table_name)
  values (v_channel, 'user_profiles')
  on conflict (channel_name) do nothing;
  return v_channel;
end;
$$;

create or replace function public.subscribe_to_training_updates(user_id uuid)
returns text
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  v_channel text;
begin
  perform private.require_self($1);
  v_channel := 'training_' || $1;
  insert into public.realtime_channels (channel_name, table_name)
  values (v_channel, 'training_sessions')
  on conflict (channel_name) do nothing;
  return v_channel;
end;
$$;

-- True when the message is on its way: the session is the user's, the channel is open,
-- and the message was written.  realtime.send only warns when it fails, so the written
-- message is looked up.
create or replace function public.broadcast_training_update(
  p_user_id uuid, p_session_id uuid, p_update_type text)
returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_message_id uuid := gen_random_uuid();
  v_topic text := 'training_' || p_user_id;
begin
  perform private.require_self(p_user_id);
  if p_update_type is null or p_update_type !~ '^[a-z][a-z0-9_]{0,62}$' then
    raise exception 'refused update type: %', quote_nullable(p_update_type)
      using errcode = '22023', hint = 'Use a lower-case word such as session_started.';
  end if;
  if not exists (
       select from public.training_sessions as s
       join public.training_plans as p on p.id = s.plan_id
       where s.id = p_session_id and p.user_id = p_user_id)
     or not private.channel_sends(v_topic, 'UPDATE') then
    return false;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'id', v_message_id, 'user_id', p_user_id, 'session_id', p_session_id,
      'update_type', p_update_type),
    'training_update', v_topic, true);
  return exists (
    select from realtime.messages as m
    where m.topic = v_topic and m.payload ->> 'id' = v_message_id::text
      and m.inserted_at >= (now() at time zone 'utc') - interval '1 day');
end;
$$;

revoke all on function
  public.subscribe_to_user_channel(uuid),
  public.subscribe_to_training_updates(uuid),
  public.broadcast_training_update(uuid, uuid, text)
  from public, anon, authenticated;
grant execute on function
  public.subscribe_to_user_channel(uuid),
  public.subscribe_to_training_updates(uuid),
  public.broadcast_training_update(uuid, uuid, text)
  to authenticated, service_role;
