-- First version: the variable is named like the column, so that the conflict clause is
-- ambiguous; the tables that the rows name do not exist; nothing is broadcast.

create or replace function subscribe_to_user_channel(user_id uuid) returns text
language plpgsql security definer as $$
declare
  channel_name text := 'user_' || user_id;
begin
  insert into realtime_channels (channel_name, table_name, event_types)
  values (channel_name, 'user_data', '{INSERT,UPDATE,DELETE}')
  on conflict (channel_name) do nothing;
  return channel_name;
end;
$$;

create or replace function subscribe_to_training_updates(user_id uuid) returns text
language plpgsql security definer as $$
declare
  channel_name text := 'training_' || user_id;
begin
  insert into realtime_channels (channel_name, table_name, event_types)
  values (channel_name, 'training_data', '{INSERT,UPDATE,DELETE}')
  on conflict (channel_name) do nothing;
  return channel_name;
end;
$$;

create or replace function broadcast_training_update(
  p_user_id uuid, p_session_id uuid, p_update_type text)
returns boolean
language plpgsql security definer as $$
begin
  return true;
end;
$$;
