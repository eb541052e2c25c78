-- What every later file of this schema stands on: who the caller is, where files are
-- served, what an object may be called, and EXECUTE by allow-list.
--
-- Several systems of this repository carry these helpers.  Their definitions are the
-- same everywhere, so that the systems can share one database in any order.

create schema if not exists private;
comment on schema private is 'Helpers that no API exposes.';

-- Postgres grants EXECUTE on every new function to PUBLIC, Supabase adds anon and
-- authenticated.  From here on a function is callable by those it is granted to.
alter default privileges revoke execute on functions from public;
alter default privileges in schema public
  revoke execute on functions from anon, authenticated;

-- The role behind the request.  SECURITY DEFINER changes current_user but not the
-- setting "role", and no JWT claim can influence it.
create or replace function private.is_service()
returns boolean
language sql stable set search_path = ''
as $$
  select case current_setting('role')
           when 'none' then session_user::text
           else current_setting('role')
         end in ('service_role', 'postgres', 'supabase_admin');
$$;
revoke all on function private.is_service() from public;

-- Raises 42501 unless the caller is p_user_id or the service.
create or replace function private.require_self(p_user_id uuid)
returns void
language plpgsql stable set search_path = ''
as $$
begin
  if p_user_id is null then
    raise exception 'a user id is required' using errcode = '22004';
  end if;
  if p_user_id is distinct from auth.uid() and not private.is_service() then
    raise exception 'this acts for the calling user only' using errcode = '42501';
  end if;
end;
$$;
revoke all on function private.require_self(uuid) from public;

create or replace function public.update_updated_at_column()
returns trigger
language plpgsql set search_path = ''
as $$
begin
  -- Strictly later than before, also for two updates within one microsecond.
  new.updated_at := greatest(
    clock_timestamp(), old.updated_at + interval '1 microsecond');
  return new;
end;
$$;
revoke all on function public.update_updated_at_column()
  from public, anon, authenticated;

-- The URL under which a public bucket serves an object.  The base comes from the
-- database setting app.settings.public_url (without it the URL is relative to the API):
-- a Host header would let the uploader choose it.
create or replace function public.storage_public_url(p_bucket_id text, p_name text)
returns text
language sql stable set search_path = ''
as $$
  select rtrim(coalesce(current_setting('app.settings.public_url', true), ''), '/')
    || '/storage/v1/object/public/' || p_bucket_id || '/'
    || string_agg(
         case
           when c ~ '[A-Za-z0-9/_.~!*''()-]' then c
           else regexp_replace(
             upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', '%\1', 'g')
         end, '' order by position)
  from regexp_split_to_table(p_name, '') with ordinality as letters (c, position);
$$;
revoke all on function public.storage_public_url(text, text)
  from public, anon, authenticated;
grant execute on function public.storage_public_url(text, text)
  to anon, authenticated, service_role;

-- A name is safe when no program that normalises paths (client, proxy, CDN, file
-- system) can read it as another name: no empty segment, no '.', no '..'.
create or replace function private.refuse_unsafe_object_name()
returns trigger
language plpgsql set search_path = ''
as $$
begin
  if coalesce(new.name, '') = ''
     or new.name ~ '^/|//|/$|(^|/)\.{1,2}(/|$)' then
    -- 42501 is what the Storage API answers with 403, as for a foreign folder.
    raise exception 'refused object name: %', quote_nullable(new.name)
      using errcode = '42501',
            hint = 'Names have no empty segment and no "." or ".." segment.';
  end if;
  return new;
end;
$$;
revoke all on function private.refuse_unsafe_object_name() from public;

create or replace trigger refuse_unsafe_object_name
  before insert or update of name on storage.objects
  for each row execute function private.refuse_unsafe_object_name();

-- What an API role may not write into an object's row even where a policy lets it
-- touch the row.  Runs as the caller: current_user is the role that is judged.
create or replace function private.guard_object_columns()
returns trigger
language plpgsql set search_path = ''
as $$
declare
  v_caller text := auth.uid()::text;
begin
  if current_user not in ('anon', 'authenticated') then
    return new;
  end if;
  if tg_op = 'INSERT' then
    if coalesce(new.owner::text, v_caller) is distinct from v_caller
       or coalesce(new.owner_id, v_caller) is distinct from v_caller then
      raise exception 'an object is owned by who uploads it' using errcode = '42501';
    end if;
    return new;
  end if;
  if new.bucket_id is distinct from old.bucket_id then
    raise exception 'an object stays in its bucket' using errcode = '42501';
  end if;
  if (new.id, new.created_at) is distinct from (old.id, old.created_at)
     or (new.owner is distinct from old.owner
         and new.owner::text is distinct from v_caller)
     or (new.owner_id is distinct from old.owner_id
         and new.owner_id is distinct from v_caller) then
    raise exception 'id, owner and creation time are fixed' using errcode = '42501';
  end if;
  -- The Storage API names its operation and writes these columns in an upsert or move;
  -- plain SQL has no operation.
  if coalesce(current_setting('storage.operation', true), '') = ''
     and (new.metadata, new.user_metadata, new.version)
         is distinct from (old.metadata, old.user_metadata, old.version) then
    raise exception 'metadata is written by the Storage API' using errcode = '42501';
  end if;
  return new;
end;
$$;
revoke all on function private.guard_object_columns() from public;

create or replace trigger guard_object_columns
  before insert or update on storage.objects
  for each row execute function private.guard_object_columns();

-- Postgres knows nothing of a bucket's limits; the Storage API checks them on upload,
-- but not on a move or for a body of unknown length.  Here they hold on every way in.
create or replace function private.bucket_accepts(
  p_bucket_id text, p_name text, p_size bigint, p_mimetype text)
returns boolean
language sql stable security definer set search_path = ''
as $$
  select coalesce(bool_and(
    (p_size is null or b.file_size_limit is null or p_size <= b.file_size_limit)
    and (p_mimetype is null
         or coalesce(cardinality(b.allowed_mime_types), 0) = 0
         or p_name ~ '(^|/)\.emptyFolderPlaceholder$'
         or p_mimetype = any (b.allowed_mime_types)
         or split_part(p_mimetype, '/', 1) || '/*' = any (b.allowed_mime_types)
         or '*' = any (b.allowed_mime_types)
         or '*/*' = any (b.allowed_mime_types))), true)
  from storage.buckets as b
  where b.id = p_bucket_id;
$$;
revoke all on function private.bucket_accepts(text, text, bigint, text) from public;

create or replace function private.enforce_bucket_limits()
returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_size text := coalesce(new.metadata ->> 'size', new.metadata ->> 'contentLength');
begin
  if not private.bucket_accepts(
       new.bucket_id, new.name,
       case when v_size ~ '^\d{1,18}$' then v_size::bigint end,
       coalesce(new.metadata ->> 'mimetype', new.metadata ->> 'contentType')) then
    raise exception 'bucket % does not accept this size or type', new.bucket_id
      using errcode = '23514';
  end if;
  return new;
end;
$$;
revoke all on function private.enforce_bucket_limits() from public;

create or replace trigger zz_enforce_bucket_limits
  before insert or update of bucket_id, metadata on storage.objects
  for each row execute function private.enforce_bucket_limits();
