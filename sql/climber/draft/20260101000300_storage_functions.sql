-- First version: functions that run as their owner for any user id, with the caller's
-- search path, and call storage.url, which does not exist.

create or replace function get_user_avatar_url(user_id uuid) returns text
language plpgsql security definer as $$
declare
  v_url text;
begin
  v_url := storage.url('user-avatars', 'avatars/' || user_id || '/avatar.jpg');
  return v_url;
end;
$$;

create or replace function upload_user_avatar(
  p_user_id uuid, p_file_data bytea, p_file_name text, p_content_type text)
returns text
language plpgsql security definer as $$
declare
  v_path text := 'avatars/' || p_user_id || '/' || p_file_name;
  v_url text;
begin
  insert into storage.objects (bucket_id, name, owner, metadata)
  values ('user-avatars', v_path, p_user_id, jsonb_build_object(
    'contentType', p_content_type, 'size', octet_length(p_file_data)));
  v_url := storage.url('user-avatars', v_path);
  update user_profiles set profile_image_url = v_url where id = p_user_id;
  return v_url;
end;
$$;

create or replace function delete_user_avatar(p_user_id uuid) returns boolean
language plpgsql security definer as $$
begin
  delete from storage.objects
  where bucket_id = 'user-avatars' and name like 'avatars/' || p_user_id || '/%';
  update user_profiles set profile_image_url = null where id = p_user_id;
  return found;
end;
$$;

create or replace function get_file_metadata(p_bucket_id text, p_file_path text)
returns table (file_name text, file_size bigint, content_type text,
               created_at timestamptz, updated_at timestamptz)
language plpgsql security definer as $$
begin
  return query
    select f.name, (f.metadata ->> 'size')::bigint, f.metadata ->> 'contentType',
           f.created_at, f.updated_at
    from storage.objects f
    where f.bucket_id = p_bucket_id and f.name = p_file_path;
end;
$$;
