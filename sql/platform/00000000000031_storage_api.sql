-- _storage: what the Storage API alone may see.  One function is one round trip of a
-- request: it takes over the caller's role and settings for this transaction, does what
-- the caller asked for, and answers in one row.
--
-- caller is {role, claims, sub, token, headers, method, path, operation}; the first eight
-- settings of every transaction of the real service.  A permission test runs in a
-- subtransaction that is always rolled back, so its triggers run and its row never stays.
--
-- _storage.intents is the write-ahead list of bytes that may have no row: a version is
-- noted before its bytes are written ('write') and before they are removed ('delete').
-- Whatever is still noted when a server starts belongs to a server that died.

create schema if not exists _storage authorization supabase_storage_admin;
revoke all on schema _storage from public;

set role supabase_storage_admin;
set client_min_messages = warning;

create table if not exists _storage.intents (
  version text primary key,
  kind text not null check (kind in ('write', 'delete')),
  bucket_id text not null,
  name text not null,
  noted_at timestamptz not null default now()
);

-- Whose transaction it is --------------------------------------------------------------

create or replace function _storage.as_caller(caller text[]) returns void
language plpgsql as $$
begin
  perform set_config('request.jwt.claim.role', caller[1], true),
    set_config('request.jwt', caller[4], true),
    set_config('request.jwt.claim.sub', caller[3], true),
    set_config('request.jwt.claims', caller[2], true),
    set_config('request.headers', caller[5], true),
    set_config('request.method', caller[6], true),
    set_config('request.path', caller[7], true),
    set_config('storage.operation', caller[8], true),
    set_config('storage.allow_delete_query', 'true', true),
    set_config('role', caller[1], true);
end $$;

create or replace function _storage.as_service(caller text[]) returns void
language plpgsql as $$
begin
  perform _storage.as_caller(array['service_role', '{"role":"service_role"}', '', '']
    || caller[5:8]);
end $$;

-- Writing ------------------------------------------------------------------------------

-- Whether the caller may write the row: NULL, or the error that stopped it.  The rollback
-- takes the caller's role back as well.
create or replace function _storage.try_write(
  caller text[], candidate storage.objects, upsert boolean,
  out state text, out message text
) language plpgsql as $$
begin
  perform _storage.as_caller(caller);
  if upsert then
    insert into storage.objects as o
      (name, owner, owner_id, bucket_id, metadata, user_metadata, version)
    values (candidate.name, candidate.owner, candidate.owner_id, candidate.bucket_id,
      candidate.metadata, candidate.user_metadata, candidate.version)
    on conflict (name, bucket_id) do update set
      metadata = excluded.metadata,
      user_metadata = coalesce(excluded.user_metadata, o.user_metadata),
      version = excluded.version, owner = excluded.owner, owner_id = excluded.owner_id
    returning o.* into candidate;
  else
    insert into storage.objects
      (name, owner, owner_id, bucket_id, metadata, user_metadata, version)
    values (candidate.name, candidate.owner, candidate.owner_id, candidate.bucket_id,
      candidate.metadata, candidate.user_metadata, candidate.version);
  end if;
  raise sqlstate 'SH000';
exception
  when sqlstate 'SH000' then
    null;
  when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text;
end $$;

create or replace function _storage.begin_upload(
  caller text[], bucket text, object_name text, owner uuid, owner_id text, metadata jsonb,
  user_metadata jsonb, upsert boolean, new_version text,
  out bucket_found boolean, out file_size_limit bigint, out allowed_mime_types text[],
  out state text, out message text
) language plpgsql as $$
declare
  candidate storage.objects;
begin
  select b.file_size_limit, b.allowed_mime_types into file_size_limit, allowed_mime_types
  from storage.buckets b where b.id = bucket;
  bucket_found := found;
  -- Whoever only asks whether they may write learns it of a missing bucket too.
  if not bucket_found and new_version is not null then
    return;
  end if;
  candidate.name := object_name;
  candidate.owner := owner;
  candidate.owner_id := owner_id;
  candidate.bucket_id := bucket;
  candidate.metadata := metadata;
  candidate.user_metadata := user_metadata;
  candidate.version := '1';
  select t.state, t.message into state, message
  from _storage.try_write(caller, candidate, upsert) t;
  if state is null and new_version is not null then
    insert into _storage.intents (version, kind, bucket_id, name)
    values (new_version, 'write', bucket, object_name);
  end if;
end $$;

-- The bytes are stored: give them their row, and note the bytes that it replaces.
create or replace function _storage.finish_upload(
  caller text[], bucket text, object_name text, owner uuid, owner_id text, metadata jsonb,
  user_metadata jsonb, upsert boolean, new_version text, lock_timeout text,
  out conflict boolean, out old_version text, out stored storage.objects
) language plpgsql as $$
begin
  perform set_config('lock_timeout', lock_timeout, true),
    pg_advisory_xact_lock(hashtextextended(bucket || '/' || object_name, 0));
  select o.version into old_version from storage.objects o
  where o.bucket_id = bucket and o.name = object_name for update;
  conflict := found and not upsert and old_version is distinct from new_version;
  if conflict then
    return;
  end if;
  delete from _storage.intents i where i.version = new_version;
  if not found then
    -- A sweep has taken the bytes of a server that it believed dead.
    raise sqlstate 'SH001' using message = 'the upload was swept';
  end if;
  if old_version is null or old_version = new_version then
    old_version := null;
  else
    insert into _storage.intents (version, kind, bucket_id, name)
    values (old_version, 'delete', bucket, object_name) on conflict do nothing;
  end if;
  perform _storage.as_service(caller);
  insert into storage.objects as o
    (name, owner, owner_id, bucket_id, metadata, user_metadata, version)
  values (object_name, owner, owner_id, bucket, metadata, user_metadata, new_version)
  on conflict (name, bucket_id) do update set
    metadata = excluded.metadata, user_metadata = excluded.user_metadata,
    version = excluded.version, owner = excluded.owner, owner_id = excluded.owner_id
  returning o.* into stored;
end $$;

-- Copying and moving -------------------------------------------------------------------

-- copied is what the caller wants changed: {metadata?, user_metadata?}; NULL keeps both.
create or replace function _storage.begin_copy(
  caller text[], source_bucket text, source_name text, bucket text, object_name text,
  owner uuid, owner_id text, changed_metadata jsonb, changed_user_metadata jsonb,
  keep_metadata boolean, upsert boolean, new_version text,
  out source storage.objects, out state text, out message text
) language plpgsql as $$
declare
  candidate storage.objects;
begin
  perform _storage.as_caller(caller);
  select o.* into source from storage.objects o
  where o.bucket_id = source_bucket and o.name = source_name;
  if not found then
    return;
  end if;
  perform set_config('role', 'none', true);
  candidate.name := object_name;
  candidate.owner := owner;
  candidate.owner_id := owner_id;
  candidate.bucket_id := bucket;
  candidate.metadata := case when keep_metadata then source.metadata
    else coalesce(source.metadata, '{}') || coalesce(changed_metadata, '{}') end;
  candidate.user_metadata := case when keep_metadata then source.user_metadata
    else changed_user_metadata end;
  candidate.version := '1';
  select t.state, t.message into state, message
  from _storage.try_write(caller, candidate, upsert) t;
  if state is null then
    insert into _storage.intents (version, kind, bucket_id, name)
    values (new_version, 'write', bucket, object_name);
  end if;
end $$;

create or replace function _storage.try_move(
  caller text[], source_bucket text, source_name text, bucket text, object_name text,
  new_owner uuid, new_owner_id text, new_version text,
  out visible boolean, out moved boolean, out state text, out message text
) language plpgsql as $$
declare
  candidate storage.objects;
begin
  perform _storage.as_caller(caller);
  perform from storage.objects o where o.bucket_id = source_bucket and o.name = source_name;
  visible := found;
  if visible then
    update storage.objects o
    set name = object_name, bucket_id = bucket, owner = new_owner,
      owner_id = new_owner_id, version = new_version
    where o.bucket_id = source_bucket and o.name = source_name
    returning o.* into candidate;
    moved := found;
  end if;
  raise sqlstate 'SH000';
exception
  when sqlstate 'SH000' then
    null;
  when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text;
end $$;

create or replace function _storage.begin_move(
  caller text[], source_bucket text, source_name text, bucket text, object_name text,
  owner uuid, owner_id text, new_version text,
  out visible boolean, out moved boolean, out state text, out message text,
  out source storage.objects, out file_size_limit bigint, out allowed_mime_types text[]
) language plpgsql as $$
begin
  select t.visible, t.moved, t.state, t.message into visible, moved, state, message
  from _storage.try_move(caller, source_bucket, source_name, bucket, object_name,
    owner, owner_id, new_version) t;
  if state is not null or not visible or not moved then
    return;
  end if;
  select o.* into source from storage.objects o
  where o.bucket_id = source_bucket and o.name = source_name;
  select b.file_size_limit, b.allowed_mime_types into file_size_limit, allowed_mime_types
  from storage.buckets b where b.id = bucket;
  insert into _storage.intents (version, kind, bucket_id, name)
  values (new_version, 'write', bucket, object_name);
end $$;

-- moved is false when the source is no longer the version whose bytes were copied.
create or replace function _storage.finish_move(
  caller text[], source_bucket text, source_name text, source_version text, bucket text,
  object_name text, new_owner uuid, new_owner_id text, new_metadata jsonb,
  new_version text, out moved boolean
) language plpgsql as $$
begin
  perform set_config('lock_timeout', '5000ms', true),
    pg_advisory_xact_lock(hashtextextended(bucket || '/' || object_name, 0));
  perform from storage.objects o
  where o.bucket_id = source_bucket and o.name = source_name
    and o.version is not distinct from source_version for update;
  moved := found;
  if not moved then
    return;
  end if;
  delete from _storage.intents i where i.version = new_version;
  if not found then
    raise sqlstate 'SH001' using message = 'the move was swept';
  end if;
  if source_version is not null then
    insert into _storage.intents (version, kind, bucket_id, name)
    values (source_version, 'delete', source_bucket, source_name) on conflict do nothing;
  end if;
  perform _storage.as_service(caller);
  update storage.objects o
  set name = object_name, bucket_id = bucket, owner = new_owner,
    owner_id = new_owner_id, version = new_version, metadata = new_metadata
  where o.bucket_id = source_bucket and o.name = source_name;
end $$;

-- Deleting -----------------------------------------------------------------------------

create or replace function _storage.delete_object(
  caller text[], bucket text, object_name text,
  out existed boolean, out removed boolean, out old_version text
) language plpgsql as $$
begin
  select o.version into old_version from storage.objects o
  where o.bucket_id = bucket and o.name = object_name for update;
  existed := found;
  if not existed then
    return;
  end if;
  perform _storage.as_caller(caller);
  delete from storage.objects o where o.bucket_id = bucket and o.name = object_name
  returning o.version into old_version;
  removed := found;
  if removed and old_version is not null then
    perform set_config('role', 'none', true);
    insert into _storage.intents (version, kind, bucket_id, name)
    values (old_version, 'delete', bucket, object_name) on conflict do nothing;
    perform set_config('role', caller[1], true);
  end if;
end $$;

create or replace function _storage.delete_objects(
  caller text[], bucket text, object_names text[]
) returns setof storage.objects language plpgsql as $$
declare
  removed storage.objects[];
begin
  perform _storage.as_caller(caller);
  with gone as (
    delete from storage.objects o where o.bucket_id = bucket and o.name = any(object_names)
    returning o.*
  )
  select array_agg(gone::storage.objects) into removed from gone;
  perform set_config('role', 'none', true);
  insert into _storage.intents (version, kind, bucket_id, name)
  select r.version, 'delete', r.bucket_id, r.name from unnest(removed) r
  where r.version is not null on conflict do nothing;
  return query select * from unnest(removed);
  perform set_config('role', caller[1], true);
end $$;

-- Reading ------------------------------------------------------------------------------

-- reader: 'caller' reads a private bucket as the caller, 'strict' any bucket, 'public'
-- needs a public bucket, 'service' reads anything.
create or replace function _storage.find_object(
  caller text[], bucket text, object_name text, reader text,
  out bucket_found boolean, out is_public boolean, out id uuid, out version text,
  out metadata jsonb, out user_metadata jsonb, out created_at timestamptz,
  out updated_at timestamptz
) language plpgsql as $$
begin
  select b.public into is_public from storage.buckets b where b.id = bucket;
  bucket_found := found;
  if reader = 'public' and is_public is not true then
    return;
  end if;
  -- One statement a role: a plan is made for the role that first runs it.
  if reader = 'strict' or reader = 'caller' and is_public is not true then
    perform _storage.as_caller(caller);
    select o.id, o.version, o.metadata, o.user_metadata, o.created_at, o.updated_at
    into id, version, metadata, user_metadata, created_at, updated_at
    from storage.objects o where o.bucket_id = bucket and o.name = object_name;
  else
    select o.id, o.version, o.metadata, o.user_metadata, o.created_at, o.updated_at
    into id, version, metadata, user_metadata, created_at, updated_at
    from storage.objects o where o.bucket_id = bucket and o.name = object_name;
  end if;
end $$;

create or replace function _storage.is_visible(
  caller text[], bucket text, object_name text
) returns boolean language plpgsql as $$
begin
  perform _storage.as_caller(caller);
  perform from storage.objects o where o.bucket_id = bucket and o.name = object_name;
  return found;
end $$;

create or replace function _storage.visible_names(
  caller text[], bucket text, object_names text[]
) returns setof text language plpgsql as $$
begin
  perform _storage.as_caller(caller);
  return query select o.name from storage.objects o
    where o.bucket_id = bucket and o.name = any(object_names);
end $$;

-- Listing ------------------------------------------------------------------------------
--
-- storage.search as the caller evaluates the policy for every row of the bucket, because
-- lower() is not leakproof and so is not tried before the policy.  This gives the same
-- rows: candidates are found in order as the owner, and the caller's policy is asked
-- about candidates only, of objects a batch by their places in the table, of a folder by
-- its range of names.  A place means the same row as long as the snapshot is the same,
-- which it is in a stable function.  The answer is the JSON array that the API sends.

create or replace function _storage.list_folder(
  caller text[], bucket text, sought text, levels integer, depth integer,
  top integer, skip integer, ascending boolean
) returns text language plpgsql stable as $$
declare
  -- From low to before high are the names that are still to be seen, but for those of
  -- the last row that was.
  low text collate "C" := lower(sought);
  high text collate "C" := lower(sought) || chr(1114111);
  batch integer := least(top + skip, 100);
  places tid[];
  nested boolean[];
  last_place tid;
  last text collate "C";
  found_rows integer;
  first_nested integer;
  tokens text[];
  folder text;
  spellings text[];
  piece text;
  answer text := '[';
  comma text := '';
  visible integer;
  is_caller boolean := false;
  iso constant text := '"\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\""';
begin
  while top > 0 loop
    if is_caller then
      perform set_config('role', 'none', true);
    end if;
    if last_place is not null then
      select lower(o.name) into last from storage.objects o where o.ctid = last_place;
      if ascending then
        low := last || chr(1);
      else
        high := last;
      end if;
    end if;
    if ascending then
      select array_agg(c.place), array_agg(c.nested), count(*)
      into places, nested, found_rows from (
        select o.ctid as place, cardinality(o.path_tokens) > depth as nested
        from storage.objects o where o.bucket_id = bucket
          and lower(o.name) collate "C" >= low and lower(o.name) collate "C" < high
        order by lower(o.name) collate "C" fetch first batch rows with ties
      ) c;
    else
      select array_agg(c.place), array_agg(c.nested), count(*)
      into places, nested, found_rows from (
        select o.ctid as place, cardinality(o.path_tokens) > depth as nested
        from storage.objects o where o.bucket_id = bucket
          and lower(o.name) collate "C" >= low and lower(o.name) collate "C" < high
        order by lower(o.name) collate "C" desc fetch first batch rows with ties
      ) c;
    end if;
    exit when found_rows = 0;
    last_place := places[found_rows];
    first_nested := array_position(nested, true);
    if first_nested is not null then
      select o.path_tokens into tokens from storage.objects o
      where o.ctid = places[first_nested];
      places := places[1 : first_nested - 1];
      last_place := null;
    end if;
    if is_caller then
      perform set_config('role', caller[1], true);
    else
      perform _storage.as_caller(caller);
      is_caller := true;
    end if;
    if skip > 0 and cardinality(places) > 0 then
      select count(*) into visible from storage.objects o where o.ctid = any(places);
      if visible <= skip then
        skip := skip - visible;
        places := '{}';
      end if;
    end if;
    if cardinality(places) > 0 then
      -- Writing a time costs more than the rest of the row, and most rows have one time.
      select count(*), string_agg(
        '{"name":' || to_json(case when levels = depth then s.path_tokens[depth]
          else array_to_string(s.path_tokens[levels:depth], '/') end)::text
        || ',"id":"' || s.id::text || '","updated_at":' || coalesce(s.updated, 'null')
        || ',"created_at":' || coalesce(case when s.created_at = s.updated_at
          then s.updated else to_char(s.created_at at time zone interval '0', iso) end,
          'null')
        || ',"last_accessed_at":' || coalesce(case when s.last_accessed_at = s.updated_at
          then s.updated else to_char(s.last_accessed_at at time zone interval '0', iso)
          end, 'null')
        || ',"metadata":' || coalesce(s.metadata::text, 'null') || '}', ',')
      into visible, piece from (
        select o.*, to_char(o.updated_at at time zone interval '0', iso) as updated
        from unnest(places) with ordinality as wanted (place, n)
        join storage.objects o on o.ctid = wanted.place
        order by wanted.n limit top offset skip
      ) s;
      skip := 0;
      if visible > 0 then
        top := top - visible;
        answer := answer || comma || piece;
        comma := ',';
      end if;
    end if;
    exit when first_nested is null and found_rows < batch;
    batch := least(top + skip, 200);
    if first_nested is not null then
      folder := array_to_string(tokens[1:depth], '/') || '/';
      perform from storage.objects o
      where o.bucket_id = bucket and o.name collate "C" >= folder
        and o.name collate "C" < folder || chr(1114111)
      limit 1;
      if not found then
        -- A folder of the same name in other case may still be visible.
        perform set_config('role', 'none', true);
        select array_agg(distinct array_to_string(o.path_tokens[1:depth], '/') || '/')
        into spellings from storage.objects o
        where o.bucket_id = bucket and lower(o.name) collate "C" >= lower(folder)
          and lower(o.name) collate "C" < lower(folder) || chr(1114111)
          and not starts_with(o.name, folder);
        perform set_config('role', caller[1], true);
        select string_to_array(s.spelling, '/') into tokens from unnest(spellings)
          as s (spelling)
        where exists (
          select from storage.objects o
          where o.bucket_id = bucket and o.name collate "C" >= s.spelling
            and o.name collate "C" < s.spelling || chr(1114111)
        ) limit 1;
      end if;
      if found and skip > 0 then
        skip := skip - 1;
      elsif found and top > 0 then
        answer := answer || comma || '{"name":'
          || to_json(array_to_string(tokens[levels:depth], '/'))::text
          || ',"id":null,"updated_at":null,"created_at":null,'
          || '"last_accessed_at":null,"metadata":null}';
        comma := ',';
        top := top - 1;
      end if;
      if ascending then
        low := lower(folder) || chr(1114111);
      else
        high := lower(folder);
      end if;
      if first_nested = 1 then
        batch := least(batch, 8);
      end if;
    end if;
  end loop;
  if not is_caller then
    perform _storage.as_caller(caller);  -- a role that nobody may take is refused
  end if;
  return answer || ']';
end $$;

reset client_min_messages;
reset role;
