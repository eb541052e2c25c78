-- Avatar management by SQL.  SQL cannot reach the object store, and a row in
-- storage.objects without bytes is a lie; so upload and delete put the work into an
-- outbox in the caller's transaction, and the service carries it out through the
-- Storage API, which keeps rows and bytes together.

create table if not exists public.avatar_outbox (
  id bigint generated always as identity primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  action text not null check (action in ('upload', 'delete')),
  object_name text not null,
  content_type text,
  content bytea,
  requested_at timestamptz not null default now(),
  check ((action = 'upload') = (content is not null and content_type is not null))
);
create index if not exists idx_avatar_outbox_user on public.avatar_outbox (user_id);
alter table public.avatar_outbox enable row level security;
revoke all on public.avatar_outbox from anon, authenticated;
revoke all on sequence public.avatar_outbox_id_seq from anon, authenticated;
grant all on public.avatar_outbox to service_role;

create or replace function public.get_user_avatar_url(user_id uuid)
returns text
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_variable
begin
  perform private.require_self(user_id);
  return (select p.profile_image_url from public.user_profiles as p where p.id = user_id);
end;
$$;
revoke all on function public.get_user_avatar_url(uuid) from public, anon, authenticated;
grant execute on function public.get_user_avatar_url(uuid)
  to authenticated, service_role;

-- Returns the URL that serves the file once the service has stored it.  A name that
-- exists is replaced.
create or replace function public.upload_user_avatar(
  p_user_id uuid, p_file_data bytea, p_file_name text, p_content_type text)
returns text
language plpgsql security definer set search_path = ''
as $$
declare
  v_name text := p_user_id::text || '/' || p_file_name;
begin
  perform private.require_self(p_user_id);
  -- The characters the Storage API accepts in a key, without the separator.
  if p_file_name is null or p_file_name in ('.', '..')
     or p_file_name !~ '^[A-Za-z0-9_!.*''() &$=@;:+,?-]{1,255}$' then
    raise exception 'refused file name: %', quote_nullable(p_file_name)
      using errcode = '22023';
  end if;
  if p_file_data is null or p_content_type is null
     or not private.bucket_accepts(
       'user-avatars', v_name, octet_length(p_file_data), p_content_type) then
    raise exception 'user-avatars does not accept this size or type'
      using errcode = '23514';
  end if;
  insert into public.avatar_outbox (user_id, action, object_name, content_type, content)
  values (p_user_id, 'upload', v_name, p_content_type, p_file_data);
  return public.storage_public_url('user-avatars', v_name);
end;
$$;
revoke all on function public.upload_user_avatar(uuid, bytea, text, text)
  from public, anon, authenticated;
grant execute on function public.upload_user_avatar(uuid, bytea, text, text)
  to authenticated, service_role;

-- True when there is at least one file to remove.  Uploads still waiting are removed
-- at once; stored files by the service, after which the profile has no picture.
create or replace function public.delete_user_avatar(p_user_id uuid)
returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_waiting bigint;
  v_stored bigint;
begin
  perform private.require_self(p_user_id);
  delete from public.avatar_outbox as w
  where w.user_id = p_user_id and w.action = 'upload';
  get diagnostics v_waiting = row_count;
  insert into public.avatar_outbox (user_id, action, object_name)
  select p_user_id, 'delete', o.name
  from storage.objects as o
  where o.bucket_id = 'user-avatars'
    and o.name collate "C" >= p_user_id::text || '/'
    and o.name collate "C" < p_user_id::text || '0';
  get diagnostics v_stored = row_count;
  return v_waiting + v_stored > 0;
end;
$$;
revoke all on function public.delete_user_avatar(uuid) from public, anon, authenticated;
grant execute on function public.delete_user_avatar(uuid)
  to authenticated, service_role;

-- SECURITY INVOKER: a row for whoever may select the object.
create or replace function public.get_file_metadata(p_bucket_id text, p_file_path text)
returns table (
  file_name text, file_size bigint, content_type text,
  created_at timestamptz, updated_at timestamptz)
language sql stable set search_path = ''
as $$
  select o.name,
    case when o.metadata ->> 'size' ~ '^\d{1,18}$'
         then (o.metadata ->> 'size')::bigint end,
    coalesce(o.metadata ->> 'mimetype', o.metadata ->> 'contentType'),
    o.created_at, o.updated_at
  from storage.objects as o
  where o.bucket_id = p_bucket_id and o.name = p_file_path;
$$;
revoke all on function public.get_file_metadata(text, text)
  from public, anon, authenticated;
grant execute on function public.get_file_metadata(text, text)
  to anon, authenticated, service_role;
