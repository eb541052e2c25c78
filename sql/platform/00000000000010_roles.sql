-- Roles, schemas, default privileges and the publication that every Supabase project
-- starts from.  Applied as supabase_admin (superuser), in a database owned by postgres.
--
-- Roles belong to the whole server while databases are many, so several databases may
-- run this file at once: a lock on the shared catalog of roles lets one in at a time
-- (an advisory lock would only hold within one database).  Logins read that catalog
-- under a lock that does not conflict.

lock table pg_catalog.pg_authid in share row exclusive mode;

-- Every login role has the local stack's documented password, "postgres", given as a
-- SCRAM verifier: hashing anew would make another catalog entry at every application.
do $roles$
declare
  verifier constant text := 'SCRAM-SHA-256$4096:c3VwYWJhc2UtaGFybmVzcw=='
    '$BshXiAMkYaVFnJAlJfYUSuLRbKneAOKJB6j2KXrSqXM=:'
    'hVL/WSTNDkWKM6xobKFN30r0n4Jb17Dw5PzRKvTtAjc=';
  wanted record;
  verb text;
begin
  for wanted in
    select *
    from (values
      -- API roles: nobody logs in as them, requests switch to them.
      ('anon', 'nologin noinherit'),
      ('authenticated', 'nologin noinherit'),
      ('service_role', 'nologin noinherit bypassrls'),
      ('authenticator', 'login noinherit'),
      -- The user's own role: not a superuser, owner of schema public.
      ('postgres', 'login inherit createdb createrole replication bypassrls'),
      ('dashboard_user', 'nologin createdb createrole replication'),
      -- Roles of the services.
      ('supabase_admin', 'login superuser createdb createrole replication bypassrls'),
      ('supabase_auth_admin', 'login noinherit createrole'),
      ('supabase_storage_admin', 'login noinherit createrole'),
      ('supabase_realtime_admin', 'nologin noinherit'),
      ('supabase_functions_admin', 'login noinherit createrole'),
      ('supabase_replication_admin', 'login replication'),
      ('supabase_etl_admin', 'login replication'),
      ('supabase_read_only_user', 'login bypassrls'),
      ('pgbouncer', 'login')
    ) as roles (name, attributes)
  loop
    verb := case when to_regrole(wanted.name) is null then 'create' else 'alter' end;
    execute format('%s role %I %s', verb, wanted.name, wanted.attributes);
    if wanted.attributes like 'login%' and exists (
      select from pg_catalog.pg_authid a
      where a.rolname = wanted.name and a.rolpassword is null
    ) then
      execute format('alter role %I password %L', wanted.name, verifier);
    end if;
  end loop;
end
$roles$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
grant anon, authenticated, service_role to supabase_realtime_admin;
-- Storage and Auth switch to the API roles as the gateway of requests does.
grant authenticator to supabase_storage_admin;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
grant pg_read_all_data to supabase_read_only_user, supabase_etl_admin;

-- On the hosted platform an extension of the server lets postgres make policies and
-- triggers on tables of Auth, Storage and Realtime that it does not own.  Stock
-- PostgreSQL knows no such right apart from ownership, so postgres inherits from the
-- owners, and event triggers (below) refuse what the hosted platform refuses.  What
-- remains different: before PostgreSQL 16 postgres can also become the owners.
do $membership$
declare
  terms constant text := case
    when current_setting('server_version_num')::int >= 160000
    then ' with inherit true, set false' else '' end;
begin
  execute 'grant supabase_auth_admin, supabase_storage_admin to postgres' || terms;
  grant supabase_realtime_admin to postgres;
end
$membership$;

-- ... and the same extension lets it set these, for roles and for databases.
grant set on parameter
  deadlock_timeout, log_lock_waits, log_min_duration_statement, log_min_messages,
  log_statement, log_temp_files, session_replication_role, track_io_timing,
  pgrst.db_aggregates_enabled, pgrst.db_anon_role, pgrst.db_extra_search_path,
  pgrst.db_hoisted_tx_settings, pgrst.db_max_rows, pgrst.db_plan_enabled,
  pgrst.db_pre_config, pgrst.db_pre_request, pgrst.db_prepared_statements,
  pgrst.db_root_spec, pgrst.db_schemas, pgrst.db_timezone_enabled, pgrst.db_tx_end,
  pgrst.jwt_aud, pgrst.jwt_role_claim_key, pgrst.jwt_secret, pgrst.log_level,
  pgrst.openapi_mode, pgrst.openapi_security_active, pgrst.openapi_server_proxy_uri,
  pgrst.server_cors_allowed_origins, pgrst.server_timing_enabled,
  pgrst.server_trace_header
to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_admin set search_path = "$user", public, auth, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout = '60s';
alter role supabase_storage_admin set search_path = storage;
alter role supabase_read_only_user set default_transaction_read_only = on;

do $database$
begin
  execute format(
    'alter database %I set search_path = "$user", public, extensions',
    current_database()
  );
end
$database$;

-- Schemas ------------------------------------------------------------------------
-- Those of the platform belong to supabase_admin: `supabase db reset` of a remote
-- database drops every schema that does not.

create schema if not exists extensions authorization postgres;
create schema if not exists auth authorization supabase_admin;
create schema if not exists storage authorization supabase_admin;
create schema if not exists _storage authorization supabase_admin;
create schema if not exists realtime authorization supabase_admin;
create schema if not exists _realtime authorization supabase_admin;
create schema if not exists graphql authorization supabase_admin;
create schema if not exists graphql_public authorization supabase_admin;
create schema if not exists vault authorization supabase_admin;
create schema if not exists pgbouncer authorization pgbouncer;

grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to dashboard_user;
grant usage on schema auth to postgres, anon, authenticated, service_role;
grant all on schema auth to supabase_auth_admin, dashboard_user;
grant usage on schema storage to postgres with grant option;
grant usage on schema storage to anon, authenticated, service_role;
grant all on schema storage to supabase_storage_admin with grant option;
grant all on schema storage to dashboard_user;
grant all on schema _storage to supabase_storage_admin;
grant usage on schema realtime to postgres, anon, authenticated, service_role;
grant all on schema realtime to supabase_realtime_admin;
grant usage on schema graphql_public to postgres, anon, authenticated, service_role;
grant usage on schema vault to postgres, service_role;
grant usage on schema public to postgres, anon, authenticated, service_role;
grant create on schema public to postgres;

do $grants$
begin
  execute format('grant all on database %I to dashboard_user', current_database());
  execute format('grant create on database %I to postgres', current_database());
end
$grants$;

create extension if not exists "uuid-ossp" with schema extensions;
create extension if not exists pgcrypto with schema extensions;

-- Default privileges -------------------------------------------------------------
-- What either owner makes in public is open to the API roles; row level security is
-- the gate.  Projects that set api.auto_expose_new_tables = false take this back.

alter default privileges for role postgres in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;

alter default privileges for role supabase_admin in schema extensions
  grant all on tables to postgres with grant option;
alter default privileges for role supabase_admin in schema extensions
  grant all on functions to postgres with grant option;
alter default privileges for role supabase_admin in schema extensions
  grant all on sequences to postgres with grant option;

alter default privileges for role supabase_auth_admin in schema auth
  grant all on tables to postgres, dashboard_user;
alter default privileges for role supabase_auth_admin in schema auth
  grant all on functions to postgres, dashboard_user;
alter default privileges for role supabase_auth_admin in schema auth
  grant all on sequences to postgres, dashboard_user;

alter default privileges for role postgres in schema storage
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema storage
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema storage
  grant all on sequences to postgres, anon, authenticated, service_role;

alter default privileges for role supabase_admin in schema realtime
  grant all on tables to postgres, dashboard_user;
alter default privileges for role supabase_admin in schema realtime
  grant all on functions to postgres, dashboard_user;
alter default privileges for role supabase_admin in schema realtime
  grant all on sequences to postgres, dashboard_user;

-- Publication --------------------------------------------------------------------

do $publication$
begin
  if not exists (
    select from pg_catalog.pg_publication where pubname = 'supabase_realtime'
  ) then
    create publication supabase_realtime;
  end if;
  if exists (
    select from pg_catalog.pg_publication
    where pubname = 'supabase_realtime' and pubowner <> 'postgres'::regrole
  ) then
    alter publication supabase_realtime owner to postgres;
  end if;
end
$publication$;

-- The REST service is told of every change of the schema --------------------------

create or replace function extensions.pgrst_ddl_watch()
  returns event_trigger
  language plpgsql
  set search_path = ''
as $$
declare
  command record;
begin
  for command in select * from pg_catalog.pg_event_trigger_ddl_commands() loop
    -- Temporary objects are nobody else's business.
    if command.schema_name is distinct from 'pg_temp' then
      notify pgrst, 'reload schema';
      return;
    end if;
  end loop;
end
$$;

create or replace function extensions.pgrst_drop_watch()
  returns event_trigger
  language plpgsql
  set search_path = ''
as $$
declare
  dropped record;
begin
  for dropped in select * from pg_catalog.pg_event_trigger_dropped_objects() loop
    if not dropped.is_temporary then
      notify pgrst, 'reload schema';
      return;
    end if;
  end loop;
end
$$;

-- Role postgres may not change the shape of what the services own ------------------

create or replace function extensions.guard_service_schemas()
  returns event_trigger
  language plpgsql
  set search_path = ''
as $$
declare
  changed record;
begin
  if current_user <> 'postgres' then
    return;
  end if;
  for changed in
    select c.object_type, c.object_identity, c.command_tag
    from pg_catalog.pg_event_trigger_ddl_commands() c
    where c.schema_name in ('auth', 'storage', 'realtime')
      and c.command_tag not like '% POLICY'
      and c.command_tag not like '% TRIGGER'
      and c.command_tag not in ('GRANT', 'REVOKE', 'COMMENT')
  loop
    raise insufficient_privilege using
      message = case
        when changed.command_tag like 'CREATE %' then format(
          'permission denied for schema %s', split_part(changed.object_identity, '.', 1)
        )
        else format(
          'must be owner of %s %s', changed.object_type,
          split_part(split_part(changed.object_identity, '.', 2), '(', 1)
        )
      end,
      hint = 'The schemas of Auth, Storage and Realtime are theirs: role postgres may add'
        ' policies and triggers there, nothing else.';
  end loop;
end
$$;

create or replace function extensions.guard_service_schemas_drop()
  returns event_trigger
  language plpgsql
  set search_path = ''
as $$
declare
  dropped record;
begin
  if current_user <> 'postgres' then
    return;
  end if;
  for dropped in
    select o.object_type, o.address_names[cardinality(o.address_names)] as name
    from pg_catalog.pg_event_trigger_dropped_objects() o
    where o.original
      and o.schema_name in ('auth', 'storage', 'realtime')
      -- Columns and the like go by ALTER TABLE, which the function above refuses.
      and o.object_type not in ('policy', 'trigger', 'table column', 'table constraint')
  loop
    raise insufficient_privilege using
      message = format('must be owner of %s %s', dropped.object_type, dropped.name),
      hint = 'The schemas of Auth, Storage and Realtime are theirs: role postgres may add'
        ' policies and triggers there, nothing else.';
  end loop;
end
$$;

do $event_triggers$
declare
  wanted record;
begin
  for wanted in
    select *
    from (values
      ('pgrst_ddl_watch', 'ddl_command_end', 'pgrst_ddl_watch'),
      ('pgrst_drop_watch', 'sql_drop', 'pgrst_drop_watch'),
      ('guard_service_schemas', 'ddl_command_end', 'guard_service_schemas'),
      ('guard_service_schemas_drop', 'sql_drop', 'guard_service_schemas_drop')
    ) as triggers (name, event, function)
  loop
    if not exists (
      select from pg_catalog.pg_event_trigger where evtname = wanted.name
    ) then
      execute format(
        'create event trigger %I on %s execute function extensions.%I()',
        wanted.name, wanted.event, wanted.function
      );
    end if;
  end loop;
end
$event_triggers$;

-- Stand-ins for two extensions of the hosted platform -------------------------------

create or replace function graphql_public.graphql(
  "operationName" text default null,
  query text default null,
  variables jsonb default null,
  extensions jsonb default null
)
  returns jsonb
  language sql
  stable
  set search_path = ''
as $$
  select jsonb_build_object('errors', jsonb_build_array(
    jsonb_build_object('message', 'pg_graphql extension is not enabled.')
  ));
$$;

grant execute on function graphql_public.graphql(text, text, jsonb, jsonb)
  to postgres, anon, authenticated, service_role;

-- Secrets of a throw-away database are kept in clear: what matters here is who can
-- reach them, which is the same set of roles as with the real extension.
create table if not exists vault.secrets (
  id uuid primary key default gen_random_uuid(),
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
create unique index if not exists secrets_name_idx
  on vault.secrets (name) where name is not null;

create or replace view vault.decrypted_secrets as
  select
    id, name, description, secret, secret as decrypted_secret, key_id, nonce,
    created_at, updated_at
  from vault.secrets;

create or replace function vault.create_secret(
  new_secret text,
  new_name text default null,
  new_description text default '',
  new_key_id uuid default null
)
  returns uuid
  language sql
  security definer
  set search_path = ''
as $$
  insert into vault.secrets (secret, name, description, key_id)
  values (new_secret, new_name, new_description, new_key_id)
  returning id;
$$;

create or replace function vault.update_secret(
  secret_id uuid,
  new_secret text default null,
  new_name text default null,
  new_description text default null,
  new_key_id uuid default null
)
  returns void
  language sql
  security definer
  set search_path = ''
as $$
  update vault.secrets s
  set
    secret = coalesce(new_secret, s.secret),
    name = coalesce(new_name, s.name),
    description = coalesce(new_description, s.description),
    key_id = coalesce(new_key_id, s.key_id),
    updated_at = current_timestamp
  where s.id = secret_id;
$$;

revoke all on all functions in schema vault from public;
grant select, delete on vault.secrets, vault.decrypted_secrets to postgres, service_role;
grant execute on all functions in schema vault to postgres, service_role;

-- What the pooler asks for a login's password verifier.
create or replace function pgbouncer.get_auth(p_usename text)
  returns table (username text, password text)
  language sql
  security definer
  set search_path = ''
as $$
  select s.usename::text, s.passwd
  from pg_catalog.pg_shadow s
  where s.usename = p_usename;
$$;

revoke all on function pgbouncer.get_auth(text) from public;
grant execute on function pgbouncer.get_auth(text) to pgbouncer;
