-- The storage schema: tables, functions, triggers, grants and indexes, as policies and
-- clients of the Storage API expect them.
--
-- Applied after the roles; may be applied again without changing anything.  Everything in
-- here belongs to supabase_storage_admin, the login of the Storage API.

create schema if not exists storage authorization supabase_storage_admin;
grant usage on schema storage to postgres, anon, authenticated, service_role;

set role supabase_storage_admin;
set client_min_messages = warning;

do $$
begin
  if to_regtype('storage.buckettype') is null then
    create type storage.buckettype as enum ('STANDARD', 'ANALYTICS', 'VECTOR');
  end if;
end $$;

-- Tables -------------------------------------------------------------------------------

create table if not exists storage.migrations (
  id integer primary key,
  name varchar(100) not null unique,
  hash varchar(40) not null,
  executed_at timestamp default current_timestamp
);

create table if not exists storage.buckets (
  id text primary key,
  name text not null,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  public boolean default false,
  avif_autodetection boolean default false,
  file_size_limit bigint,
  allowed_mime_types text[],
  owner_id text,
  type storage.buckettype not null default 'STANDARD',
  versioning_status text not null default 'DISABLED',
  constraint buckets_versioning_status_check check (versioning_status = 'DISABLED')
);
comment on column storage.buckets.owner is 'Field is deprecated, use owner_id instead';

create table if not exists storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text,
  name text,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  last_accessed_at timestamptz default now(),
  metadata jsonb,
  path_tokens text[] generated always as (string_to_array(name, '/')) stored,
  version text,
  owner_id text,
  user_metadata jsonb,
  archived_at timestamptz,
  is_delete_marker boolean not null default false,
  is_versioned boolean not null default false,
  constraint "objects_bucketId_fkey" foreign key (bucket_id) references storage.buckets (id)
);
comment on column storage.objects.owner is 'Field is deprecated, use owner_id instead';

create table if not exists storage.s3_multipart_uploads (
  id text primary key,
  in_progress_size bigint not null default 0,
  upload_signature text not null,
  bucket_id text not null references storage.buckets (id),
  key text collate "C" not null,
  version text not null,
  owner_id text,
  created_at timestamptz not null default now(),
  user_metadata jsonb,
  metadata jsonb
);

create table if not exists storage.s3_multipart_uploads_parts (
  id uuid primary key default gen_random_uuid(),
  upload_id text not null references storage.s3_multipart_uploads (id) on delete cascade,
  size bigint not null default 0,
  part_number integer not null,
  bucket_id text not null references storage.buckets (id),
  key text collate "C" not null,
  etag text not null,
  owner_id text,
  version text not null,
  created_at timestamptz not null default now()
);

create table if not exists storage.buckets_analytics (
  name text not null,
  type storage.buckettype not null default 'ANALYTICS',
  format text not null default 'ICEBERG',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  id uuid primary key default gen_random_uuid(),
  deleted_at timestamptz
);

create table if not exists storage.iceberg_namespaces (
  id uuid primary key default gen_random_uuid(),
  bucket_name text not null,
  name text collate "C" not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  metadata jsonb not null default '{}',
  catalog_id uuid not null references storage.buckets_analytics (id) on delete cascade
);

create table if not exists storage.iceberg_tables (
  id uuid primary key default gen_random_uuid(),
  namespace_id uuid not null references storage.iceberg_namespaces (id) on delete cascade,
  bucket_name text not null,
  name text collate "C" not null,
  location text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  remote_table_id text,
  shard_key text,
  shard_id text,
  catalog_id uuid not null references storage.buckets_analytics (id) on delete cascade
);

create table if not exists storage.buckets_vectors (
  id text primary key,
  type storage.buckettype not null default 'VECTOR',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table if not exists storage.vector_indexes (
  id text primary key default gen_random_uuid(),
  name text collate "C" not null,
  bucket_id text not null references storage.buckets_vectors (id),
  data_type text not null,
  dimension integer not null,
  distance_metric text not null,
  metadata_configuration jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- Indexes ------------------------------------------------------------------------------

create unique index if not exists bname on storage.buckets (name);
create unique index if not exists bucketid_objname on storage.objects (bucket_id, name);
create index if not exists name_prefix_search on storage.objects (name text_pattern_ops);
create index if not exists idx_objects_bucket_id_name
  on storage.objects (bucket_id, name collate "C");
create index if not exists idx_objects_bucket_id_name_lower
  on storage.objects (bucket_id, lower(name) collate "C");
create index if not exists idx_multipart_uploads_list
  on storage.s3_multipart_uploads (bucket_id, key, created_at);
create unique index if not exists buckets_analytics_unique_name_idx
  on storage.buckets_analytics (name) where deleted_at is null;
create unique index if not exists idx_iceberg_namespaces_bucket_id
  on storage.iceberg_namespaces (catalog_id, name);
create unique index if not exists idx_iceberg_tables_namespace_id
  on storage.iceberg_tables (catalog_id, namespace_id, name);
create unique index if not exists idx_iceberg_tables_location
  on storage.iceberg_tables (location);
create unique index if not exists vector_indexes_name_bucket_id_idx
  on storage.vector_indexes (name, bucket_id);

-- Names --------------------------------------------------------------------------------

create or replace function storage.foldername(name text) returns text[]
language plpgsql immutable as $$
declare
  tokens text[] := string_to_array(name, '/');
begin
  return tokens[1 : cardinality(tokens) - 1];
end $$;

create or replace function storage.filename(name text) returns text
language plpgsql immutable as $$
declare
  tokens text[] := string_to_array(name, '/');
begin
  return tokens[cardinality(tokens)];
end $$;

create or replace function storage.extension(name text) returns text
language plpgsql immutable as $$
declare
  tokens text[] := string_to_array(name, '/');
begin
  -- A name without a dot is its own extension, as the real function answers.
  return substring(tokens[cardinality(tokens)] from '[^.]*$');
end $$;

create or replace function storage.get_common_prefix(
  p_key text, p_prefix text, p_delimiter text
) returns text language sql immutable as $$
  select case when position(p_delimiter in substring(p_key from length(p_prefix) + 1)) > 0
    then left(p_key, length(p_prefix) - 1 + length(p_delimiter)
      + position(p_delimiter in substring(p_key from length(p_prefix) + 1)))
  end
$$;

-- The operation a policy is asked about ------------------------------------------------

create or replace function storage.operation() returns text
language plpgsql stable as $$
begin
  return current_setting('storage.operation', true);
end $$;

create or replace function storage.allow_any_operation(expected_operations text[])
returns boolean language sql stable as $$
  select coalesce(
    regexp_replace(storage.operation(), '^storage\.', '') in (
      select regexp_replace(expected, '^storage\.', '')
      from unnest(expected_operations) as expected
    ), false)
$$;

create or replace function storage.allow_only_operation(expected_operation text)
returns boolean language sql stable as $$
  select coalesce(
    regexp_replace(storage.operation(), '^storage\.', '')
      = regexp_replace(expected_operation, '^storage\.', ''), false)
$$;

-- Guards and triggers ------------------------------------------------------------------

create or replace function storage.update_updated_at_column() returns trigger
language plpgsql as $$
begin
  new.updated_at = now();
  return new;
end $$;

create or replace function storage.enforce_bucket_name_length() returns trigger
language plpgsql as $$
begin
  if length(new.name) > 100 then
    raise exception 'bucket name "%" is too long (% characters). Max is 100.',
      new.name, length(new.name);
  end if;
  return new;
end $$;

create or replace function storage.protect_delete() returns trigger
language plpgsql as $$
begin
  if coalesce(current_setting('storage.allow_delete_query', true), 'false') <> 'true' then
    raise exception
      'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
      using errcode = '42501',
        hint = 'This prevents accidental data loss from orphaned objects.';
  end if;
  return null;
end $$;

create or replace trigger enforce_bucket_name_length_trigger
  before insert or update of name on storage.buckets
  for each row execute function storage.enforce_bucket_name_length();
create or replace trigger protect_buckets_delete
  before delete on storage.buckets
  for each statement execute function storage.protect_delete();
create or replace trigger protect_objects_delete
  before delete on storage.objects
  for each statement execute function storage.protect_delete();
create or replace trigger update_objects_updated_at
  before update on storage.objects
  for each row execute function storage.update_updated_at_column();

create or replace function storage.can_insert_object(
  bucketid text, name text, owner uuid, metadata jsonb
) returns void language plpgsql as $$
begin
  insert into storage.objects (bucket_id, name, owner, metadata)
  values (bucketid, name, owner, metadata);
  -- The caller learns that it may insert; the row must not stay.
  raise sqlstate 'PT200' using message = 'ROLLBACK',
    detail = 'rollback successful insert';
end $$;

create or replace function storage.get_size_by_bucket()
returns table (size bigint, bucket_id text) language plpgsql stable as $$
begin
  return query
    select sum((o.metadata ->> 'size')::bigint)::bigint, o.bucket_id
    from storage.objects o group by o.bucket_id;
end $$;

-- Listing ------------------------------------------------------------------------------
--
-- All of them walk an index in order and leap over a folder as soon as one of its objects
-- is seen, so that the cost follows what is listed and not what the folders hold.  A
-- prefix p covers the names from p up to p || U+10FFFF in bytewise order.

create or replace function storage.list_objects_with_delimiter(
  _bucket_id text, prefix_param text, delimiter_param text, max_keys integer default 100,
  start_after text default '', next_token text default '', sort_order text default 'asc'
) returns table (
  name text, id uuid, metadata jsonb, updated_at timestamptz, created_at timestamptz,
  last_accessed_at timestamptz
) language plpgsql stable as $$
declare
  ascending constant boolean := lower(coalesce(sort_order, 'asc')) = 'asc';
  prefix constant text := coalesce(prefix_param, '');
  after text collate "C" :=
    coalesce(nullif(next_token, ''), nullif(start_after, ''), '');
  low text collate "C" := prefix;
  high text collate "C" := prefix || chr(1114111);
  walk refcursor;
  entry storage.objects;
  folder text;
  emitted integer := 0;
  leapt boolean := true;
begin
  if after <> '' then
    -- A folder is listed without its delimiter, so a cursor may name one that way.
    if position(delimiter_param in substr(after, length(prefix) + 1)) = 0 and not exists (
      select from storage.objects o where o.bucket_id = _bucket_id and o.name = after
    ) and exists (
      select from storage.objects o where o.bucket_id = _bucket_id
        and o.name collate "C" >= after || delimiter_param
        and o.name collate "C" < after || delimiter_param || chr(1114111)
    ) then
      after := after || delimiter_param;
    end if;
    if not ascending then
      high := least(high, after);
    -- An object that is the prefix itself is none of its own folders.
    elsif right(substr(after, length(prefix) + 1), length(delimiter_param))
        = delimiter_param then
      low := greatest(low, after || chr(1114111));
    else
      low := greatest(low, after || chr(1));
    end if;
  end if;
  while leapt and emitted < max_keys loop
    leapt := false;
    if ascending then
      open walk for select * from storage.objects o
        where o.bucket_id = _bucket_id
          and o.name collate "C" >= low and o.name collate "C" < high
        order by o.name collate "C";
    else
      open walk for select * from storage.objects o
        where o.bucket_id = _bucket_id
          and o.name collate "C" >= low and o.name collate "C" < high
        order by o.name collate "C" desc;
    end if;
    while emitted < max_keys and not leapt loop
      fetch walk into entry;
      exit when not found;
      emitted := emitted + 1;
      folder := storage.get_common_prefix(entry.name, prefix, delimiter_param);
      if folder is null then
        name := entry.name; id := entry.id; metadata := entry.metadata;
        updated_at := entry.updated_at; created_at := entry.created_at;
        last_accessed_at := entry.last_accessed_at;
      else
        name := left(folder, -length(delimiter_param)); id := null; metadata := null;
        updated_at := null; created_at := null; last_accessed_at := null;
        leapt := true;
        if ascending then low := folder || chr(1114111); else high := folder; end if;
      end if;
      return next;
    end loop;
    close walk;
  end loop;
end $$;

create or replace function storage.search_by_timestamp(
  p_prefix text, p_bucket_id text, p_limit integer, p_level integer, p_start_after text,
  p_sort_order text, p_sort_column text, p_sort_column_after text
) returns table (
  key text, name text, id uuid, updated_at timestamptz, created_at timestamptz,
  last_accessed_at timestamptz, metadata jsonb
) language plpgsql stable as $$
declare
  direction constant text :=
    case when lower(coalesce(p_sort_order, 'asc')) = 'desc' then 'desc' else 'asc' end;
  stamp constant text :=
    case when p_sort_column = 'updated_at' then 'updated_at' else 'created_at' end;
  beyond constant text := case direction when 'asc' then '>' else '<' end;
begin
  -- A folder is as old as its oldest object.
  return query execute format($q$
    with entries as (
      select array_to_string(o.path_tokens[1:$3], '/') as path,
        cardinality(o.path_tokens) > $3 as is_folder, min(o.created_at) as first_at,
        (array_agg(o.id))[1] as id, min(o.updated_at) as updated_at,
        min(o.last_accessed_at) as last_accessed_at, (array_agg(o.metadata))[1] as metadata
      from storage.objects o
      where o.bucket_id = $2 and o.name collate "C" >= $1
        and o.name collate "C" < $1 || chr(1114111)
      group by 1, 2
    ), stamped as (
      -- A folder and an object may share a name: the folder sorts with its slash.
      select path, path || case when is_folder then '/' else '' end as sorted, is_folder, case when not is_folder then e.id end as id,
        case when is_folder then first_at else e.updated_at end as updated_at,
        first_at as created_at,
        case when not is_folder then e.last_accessed_at end as last_accessed_at,
        case when not is_folder then e.metadata end as metadata
      from entries e
    )
    select split_part(path, '/', $3), path, s.id, s.updated_at, s.created_at,
      s.last_accessed_at, s.metadata
    from stamped s
    where $5 = '' or row(date_trunc('milliseconds', s.%1$I), sorted collate "C")
      %3$s row(coalesce(nullif($6, '')::timestamptz, 'epoch'), $5)
    order by date_trunc('milliseconds', s.%1$I) %2$s, sorted collate "C" %2$s limit $4
    $q$, stamp, direction, beyond)
    using p_prefix, p_bucket_id, p_level, p_limit, coalesce(p_start_after, ''),
      p_sort_column_after;
end $$;

create or replace function storage.search_v2(
  prefix text, bucket_name text, limits integer default 100, levels integer default 1,
  start_after text default '', sort_order text default 'asc',
  sort_column text default 'name', sort_column_after text default ''
) returns table (
  key text, name text, id uuid, updated_at timestamptz, created_at timestamptz,
  last_accessed_at timestamptz, metadata jsonb
) language plpgsql stable as $$
begin
  if sort_column in ('created_at', 'updated_at') then
    return query select * from storage.search_by_timestamp(
      prefix, bucket_name, limits, levels, start_after, sort_order, sort_column,
      sort_column_after);
  else
    return query
      select split_part(l.name, '/', levels), l.name, l.id, l.updated_at, l.created_at,
        l.last_accessed_at, l.metadata
      from storage.list_objects_with_delimiter(
        bucket_name, prefix, '/', limits, start_after, '', sort_order) as l;
  end if;
end $$;

create or replace function storage.search(
  prefix text, bucketname text, limits integer default 100, levels integer default 1,
  offsets integer default 0, search text default '', sortcolumn text default 'name',
  sortorder text default 'asc'
) returns table (
  name text, id uuid, updated_at timestamptz, created_at timestamptz,
  last_accessed_at timestamptz, metadata jsonb
) language plpgsql stable as $$
declare
  sought constant text := coalesce(prefix, '') || coalesce(search, '');
  depth constant integer := greatest(cardinality(string_to_array(sought, '/')), 1);
  top constant integer := least(coalesce(limits, 100), 1500);
  direction constant text :=
    case when lower(coalesce(sortorder, 'asc')) = 'desc' then 'desc' else 'asc' end;
  stamp constant text := case when lower(sortcolumn)
    in ('updated_at', 'created_at', 'last_accessed_at') then lower(sortcolumn) end;
  low text collate "C" := lower(sought);
  high text collate "C" := lower(sought) || chr(1114111);
  walk refcursor;
  entry storage.objects;
  folder text;
  seen integer := 0;
  leapt boolean := true;
begin
  if stamp is not null then
    return query execute format($q$
      with matches as (
        select o.*, cardinality(o.path_tokens) > $2 as nested,
          array_to_string(o.path_tokens[$1:$2], '/') as relative
        from storage.objects o
        where o.bucket_id = $4 and lower(o.name) collate "C" >= $3
          and lower(o.name) collate "C" < $3 || chr(1114111)
      )
      (select m.relative, null::uuid, null::timestamptz, null::timestamptz,
         null::timestamptz, null::jsonb
       from matches m where nested group by 1 order by 1 %1$s)
      union all
      (select m.relative, m.id, m.updated_at, m.created_at, m.last_accessed_at, m.metadata
       from matches m where not nested order by m.%2$I %1$s)
      limit $5 offset $6 $q$, direction, stamp)
      using levels, depth, low, bucketname, top, offsets;
    return;
  end if;
  while leapt and seen < top + offsets loop
    leapt := false;
    if direction = 'asc' then
      open walk for select * from storage.objects o
        where o.bucket_id = bucketname
          and lower(o.name) collate "C" >= low and lower(o.name) collate "C" < high
        order by lower(o.name) collate "C";
    else
      open walk for select * from storage.objects o
        where o.bucket_id = bucketname
          and lower(o.name) collate "C" >= low and lower(o.name) collate "C" < high
        order by lower(o.name) collate "C" desc;
    end if;
    while seen < top + offsets and not leapt loop
      fetch walk into entry;
      exit when not found;
      seen := seen + 1;
      name := array_to_string(entry.path_tokens[levels:depth], '/');
      if cardinality(entry.path_tokens) > depth then
        folder := lower(array_to_string(entry.path_tokens[1:depth], '/')) || '/';
        id := null; updated_at := null; created_at := null;
        last_accessed_at := null; metadata := null;
        leapt := true;
        if direction = 'asc' then
          low := folder || chr(1114111);
        else
          high := folder;
        end if;
      else
        id := entry.id; updated_at := entry.updated_at; created_at := entry.created_at;
        last_accessed_at := entry.last_accessed_at; metadata := entry.metadata;
      end if;
      if seen > offsets then
        return next;
      end if;
    end loop;
    close walk;
  end loop;
end $$;

create or replace function storage.list_multipart_uploads_with_delimiter(
  bucket_id text, prefix_param text, delimiter_param text, max_keys integer default 100,
  next_key_token text default '', next_upload_token text default ''
) returns table (key text, id text, created_at timestamptz)
language plpgsql stable as $$
begin
  return query
    with uploads as (
      select coalesce(storage.get_common_prefix(u.key, prefix_param, delimiter_param), u.key)
          collate "C" as entry,
        storage.get_common_prefix(u.key, prefix_param, delimiter_param) is not null as folded,
        u.id, u.created_at
      from storage.s3_multipart_uploads u
      where u.bucket_id = list_multipart_uploads_with_delimiter.bucket_id
        and starts_with(u.key, prefix_param)
    ), entries as (
      select distinct on (u.entry, case when u.folded then '' else u.id end)
        u.entry, u.id, u.created_at
      from uploads u
      order by u.entry, case when u.folded then '' else u.id end, u.created_at
    )
    select e.entry::text, e.id, e.created_at from entries e
    where coalesce(next_key_token, '') = '' or e.entry > next_key_token
      or (e.entry = next_key_token and coalesce(next_upload_token, '') <> ''
          and e.id collate "C" > next_upload_token)
    order by e.entry, e.created_at, e.id
    limit max_keys;
end $$;

-- Grants and row level security --------------------------------------------------------

alter table storage.migrations enable row level security;
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
alter table storage.s3_multipart_uploads enable row level security;
alter table storage.s3_multipart_uploads_parts enable row level security;
alter table storage.buckets_analytics enable row level security;
alter table storage.iceberg_namespaces enable row level security;
alter table storage.iceberg_tables enable row level security;
alter table storage.buckets_vectors enable row level security;
alter table storage.vector_indexes enable row level security;

grant all on storage.buckets, storage.objects, storage.buckets_analytics
  to anon, authenticated, service_role;
grant all on storage.buckets, storage.objects to postgres with grant option;
grant all on storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts,
  storage.iceberg_namespaces, storage.iceberg_tables, storage.buckets_vectors,
  storage.vector_indexes to service_role;
grant select on storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts,
  storage.iceberg_namespaces, storage.iceberg_tables, storage.buckets_vectors,
  storage.vector_indexes to anon, authenticated;
grant all on storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts,
  storage.buckets_analytics, storage.iceberg_namespaces, storage.iceberg_tables
  to postgres;

reset client_min_messages;
reset role;
