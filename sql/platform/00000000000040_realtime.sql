-- Realtime: the schema that channels, changes and broadcasts from the database need.
--
-- Objects belong to supabase_realtime_admin, as on the hosted platform, and the file may
-- be applied again at any time.  Change capture itself needs nothing in the database but
-- a publication: rows are streamed by pgoutput and judged by the policies of their table.

do $$
declare
    parent text;
begin
    if to_regrole('supabase_realtime_admin') is null then
        create role supabase_realtime_admin nologin noinherit createrole noreplication;
    end if;
    foreach parent in array array['anon', 'authenticated', 'service_role'] loop
        if to_regrole(parent) is null then
            execute format('create role %I nologin', parent);
        end if;
        if not pg_has_role('supabase_realtime_admin', parent, 'member') then
            execute format('grant %I to supabase_realtime_admin', parent);
        end if;
    end loop;
    -- The owner of a project writes policies for realtime.messages.
    if to_regrole('postgres') is not null
        and not pg_has_role('postgres', 'supabase_realtime_admin', 'member') then
        grant supabase_realtime_admin to postgres;
    end if;
end
$$;

create schema if not exists realtime;
grant usage on schema realtime to anon, authenticated, service_role, postgres;
grant all on schema realtime to supabase_realtime_admin;

-- Types ------------------------------------------------------------------------------

do $$
begin
    if to_regtype('realtime.action') is null then
        create type realtime.action as enum
            ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'ERROR');
    end if;
    if to_regtype('realtime.equality_op') is null then
        create type realtime.equality_op as enum
            ('eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'like', 'ilike', 'is', 'match',
             'imatch', 'isdistinct');
    end if;
    if to_regtype('realtime.user_defined_filter') is null then
        create type realtime.user_defined_filter as (
            column_name text,
            op realtime.equality_op,
            value text,
            negate boolean
        );
    end if;
    if to_regtype('realtime.wal_column') is null then
        create type realtime.wal_column as (
            name text,
            type_name text,
            type_oid oid,
            value jsonb,
            is_pkey boolean,
            is_selectable boolean
        );
    end if;
    if to_regtype('realtime.wal_rls') is null then
        create type realtime.wal_rls as (
            wal jsonb,
            is_rls_enabled boolean,
            subscription_ids uuid[],
            errors text[]
        );
    end if;
end
$$;

alter type realtime.action owner to supabase_realtime_admin;
alter type realtime.equality_op owner to supabase_realtime_admin;
alter type realtime.user_defined_filter owner to supabase_realtime_admin;
alter type realtime.wal_column owner to supabase_realtime_admin;
alter type realtime.wal_rls owner to supabase_realtime_admin;

-- Tables -----------------------------------------------------------------------------

create table if not exists realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp without time zone not null default now(),
    inserted_at timestamp without time zone not null default now(),
    id uuid not null default gen_random_uuid(),
    binary_payload bytea,
    constraint messages_pkey primary key (id, inserted_at)
) partition by range (inserted_at);

create index if not exists messages_inserted_at_topic_index
    on realtime.messages (inserted_at desc, topic)
    where extension = 'broadcast' and private;

alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages to postgres;

create table if not exists realtime.schema_migrations (
    version bigint primary key,
    inserted_at timestamp without time zone
);

grant select on realtime.schema_migrations to anon, authenticated, service_role;
grant all on realtime.schema_migrations to postgres;

-- Small helpers ----------------------------------------------------------------------

create or replace function realtime.topic() returns text
language sql stable
as $$ select nullif(current_setting('realtime.topic', true), '')::text $$;

create or replace function realtime.to_regrole(role_name text) returns regrole
language sql immutable
as $$ select role_name::regrole $$;

-- wal2json splits its table lists at commas and dots: those and blanks are escaped.
create or replace function realtime.wal2json_escape_identifier(name text) returns text
language sql immutable strict
as $$ select regexp_replace(name, '([\\,.\s])', '\\\1', 'g') $$;

create or replace function realtime.quote_wal2json(entity regclass) returns text
language sql immutable strict
as $$
    select realtime.wal2json_escape_identifier(n.nspname)
        || '.' || realtime.wal2json_escape_identifier(c.relname)
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = entity
$$;

-- A value as its JSON form; bytea stays the hex digits that logical decoding gave.
create or replace function realtime."cast"(val text, type_ regtype) returns jsonb
language plpgsql immutable
as $$
declare
    result jsonb;
begin
    if type_ = 'bytea'::regtype then
        return to_jsonb(val);
    end if;
    execute format('select to_jsonb(%L::%s)', val, format_type(type_, -1))
        into result;
    return result;
end
$$;

-- Filters ----------------------------------------------------------------------------

-- Does val_1 <op> val_2 hold for values of type_?  SQL's three-valued logic: NULL is no.
create or replace function realtime.check_equality_op(
    op realtime.equality_op, type_ regtype, val_1 text, val_2 text, negate boolean
) returns boolean
language plpgsql immutable
as $$
declare
    result boolean;
    test constant text := case op
        when 'eq' then '%1$L::%3$s = %2$L::%3$s'
        when 'neq' then '%1$L::%3$s <> %2$L::%3$s'
        when 'lt' then '%1$L::%3$s < %2$L::%3$s'
        when 'lte' then '%1$L::%3$s <= %2$L::%3$s'
        when 'gt' then '%1$L::%3$s > %2$L::%3$s'
        when 'gte' then '%1$L::%3$s >= %2$L::%3$s'
        when 'in' then '%1$L::%3$s = any(%2$L::%3$s[])'
        when 'like' then '%1$L::text like %2$L'
        when 'ilike' then '%1$L::text ilike %2$L'
        when 'match' then '%1$L::text ~ %2$L'
        when 'imatch' then '%1$L::text ~* %2$L'
        when 'isdistinct' then '%1$L::%3$s is distinct from %2$L::%3$s'
        when 'is' then case lower(val_2)
            when 'null' then '%1$L::%3$s is null'
            when 'true' then '%1$L::boolean is true'
            when 'false' then '%1$L::boolean is false'
            when 'unknown' then '%1$L::boolean is unknown'
        end
    end;
begin
    if test is null then
        raise exception 'invalid value for `is` filter: %', val_2;
    end if;
    -- Without a length: char(3) must not be cut to char(1).
    execute format('select ' || test, val_1, val_2, format_type(type_, -1))
        into result;
    return coalesce(result <> negate, false);
end
$$;

create or replace function realtime.check_equality_op(
    op realtime.equality_op, type_ regtype, val_1 text, val_2 text
) returns boolean
language sql immutable
as $$ select realtime.check_equality_op(op, type_, val_1, val_2, false) $$;

create or replace function realtime.is_visible_through_filters(
    columns realtime.wal_column[], filters realtime.user_defined_filter[]
) returns boolean
language sql immutable
as $$
    select coalesce(bool_and(
        coalesce(realtime.check_equality_op(
            f.op, c.type_oid::regtype, c.value #>> '{}', f.value, coalesce(f.negate, false)
        ), false)
    ), true)
    from unnest(filters) as f
    left join unnest(columns) as c on c.name = f.column_name
$$;

-- Refuses filters on columns the role may not read, and values the type does not take.
create or replace function realtime.check_filters(
    entity regclass, role_name text, filters realtime.user_defined_filter[]
) returns void
language plpgsql stable
as $$
declare
    f realtime.user_defined_filter;
    column_type regtype;
    bound_values text[];
begin
    foreach f in array coalesce(filters, '{}') loop
        select a.atttypid::regtype into column_type
        from pg_catalog.pg_attribute a
        where a.attrelid = entity and a.attname = f.column_name
            and a.attnum > 0 and not a.attisdropped
            and has_column_privilege(role_name, entity, a.attnum, 'SELECT');
        if not found then
            raise exception 'invalid column for filter %', f.column_name;
        end if;
        if f.op = 'is' then
            if lower(f.value) not in ('null', 'true', 'false', 'unknown') then
                raise exception 'invalid value for `is` filter: %', f.value;
            elsif lower(f.value) <> 'null' and column_type <> 'boolean'::regtype then
                raise exception '`is.%` needs a boolean column', lower(f.value);
            end if;
        elsif f.op = 'in' then
            execute format(
                'select %L::%s[]::text[]', f.value, format_type(column_type, -1)
            ) into bound_values;
            if cardinality(bound_values) > 100 then
                raise exception 'too many values for `in` filter. Maximum 100';
            end if;
        elsif f.op in ('match', 'imatch') then
            perform '' ~ f.value;
        elsif f.op not in ('like', 'ilike') then
            perform realtime.check_equality_op('eq', column_type, f.value, f.value);
        end if;
    end loop;
end
$$;

-- Subscriptions, for tools that read or write this table themselves --------------------

create table if not exists realtime.subscription (
    id bigint generated always as identity constraint pk_subscription primary key,
    subscription_id uuid not null,
    entity regclass not null,
    filters realtime.user_defined_filter[] not null default '{}',
    claims jsonb not null,
    claims_role regrole not null
        generated always as (realtime.to_regrole(claims ->> 'role')) stored,
    created_at timestamp without time zone not null default timezone('utc', now()),
    action_filter text default '*'
        check (action_filter in ('*', 'INSERT', 'UPDATE', 'DELETE')),
    selected_columns text[]
);

create index if not exists ix_realtime_subscription_entity
    on realtime.subscription using btree (entity);
create index if not exists subscription_subscription_id_idx
    on realtime.subscription using btree (subscription_id);

create or replace function realtime.subscription_check_filters() returns trigger
language plpgsql
as $$
begin
    perform realtime.check_filters(new.entity, new.claims ->> 'role', new.filters);
    -- One spelling of equal filters, so that equal subscriptions compare equal.
    new.filters := coalesce(
        (select array_agg(f order by f.column_name, f.op, f.value)
         from unnest(new.filters) as f),
        '{}'
    );
    return new;
end
$$;

create or replace trigger tr_check_filters
    before insert or update on realtime.subscription
    for each row execute function realtime.subscription_check_filters();

alter table realtime.subscription owner to supabase_realtime_admin;
grant select on realtime.subscription to anon, authenticated, service_role;
grant all on realtime.subscription to postgres;

-- Partitions of realtime.messages ----------------------------------------------------

-- One partition a day, from yesterday to three days ahead; returns how many were made.
-- Anyone may call this: it can only add what should be there.
create or replace function realtime.add_partitions() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
    day date;
    name text;
    made integer := 0;
begin
    -- Two sessions may find a partition missing at once.
    perform pg_advisory_xact_lock(hashtext('realtime.messages partitions'));
    for offset_days in -1..3 loop
        day := current_date + offset_days;
        name := 'messages_' || to_char(day, 'YYYY_MM_DD');
        if to_regclass(format('realtime.%I', name)) is null then
            execute format(
                'create table realtime.%I partition of realtime.messages
                 for values from (%L) to (%L)', name, day, day + 1);
            execute format('alter table realtime.%I enable row level security', name);
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;

-- Drops the partitions whose last row is older than `keep`; returns how many.
create or replace function realtime.drop_partitions(keep interval default '72 hours')
returns integer
language plpgsql set search_path = ''
as $$
declare
    name text;
    dropped integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('realtime.messages partitions'));
    for name in
        select c.relname from pg_catalog.pg_inherits i
        join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'realtime.messages'::regclass
            and c.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
            and to_date(substr(c.relname, 10), 'YYYY_MM_DD') + 1 <= now() - keep
    loop
        execute format('drop table realtime.%I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

-- Broadcast from the database --------------------------------------------------------

-- Writes one message; makes today's partition first where it is missing.
create or replace function realtime.store_message(
    id uuid, payload jsonb, binary_payload bytea, event text, topic text, private boolean
) returns void
language plpgsql
as $$
begin
    perform set_config('realtime.topic', topic, true);
    begin
        insert into realtime.messages
            (id, payload, binary_payload, event, topic, private, extension)
        values
            (id, payload, binary_payload, event, topic, private, 'broadcast');
    exception when check_violation then
        perform realtime.add_partitions();
        insert into realtime.messages
            (id, payload, binary_payload, event, topic, private, extension)
        values
            (id, payload, binary_payload, event, topic, private, 'broadcast');
    end;
end
$$;

-- Failures become warnings: a broadcast never breaks the transaction it belongs to.
create or replace function realtime.send(
    payload jsonb, event text, topic text, private boolean default true
) returns void
language plpgsql
as $$
declare
    message_id constant uuid := gen_random_uuid();
begin
    if not payload ? 'id' then
        payload := jsonb_set(payload, '{id}', to_jsonb(message_id));
    end if;
    perform realtime.store_message(message_id, payload, null, event, topic, private);
exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.send_binary(
    payload bytea, event text, topic text, private boolean default true
) returns void
language plpgsql
as $$
begin
    perform realtime.store_message(
        gen_random_uuid(), null, payload, event, topic, private);
exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- For row triggers: what changed, as one broadcast to a private topic.
create or replace function realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text default 'ROW'
) returns void
language plpgsql
as $$
begin
    if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
    end if;
    perform realtime.send(
        jsonb_build_object(
            'record', new,
            'old_record', old,
            'operation', operation,
            'table', table_name,
            'schema', table_schema
        ),
        event_name,
        topic_name
    );
exception when others then
    raise exception 'Failed to process the row: %', sqlerrm;
end
$$;

do $$
declare
    f regprocedure;
begin
    for f in
        select p.oid::regprocedure from pg_catalog.pg_proc p
        where p.pronamespace = 'realtime'::regnamespace
    loop
        execute format('alter function %s owner to supabase_realtime_admin', f);
        execute format(
            'grant execute on function %s to anon, authenticated, service_role, postgres',
            f);
    end loop;
end
$$;

revoke execute on function realtime.drop_partitions(interval)
    from public, anon, authenticated, service_role;

do $$
begin
    if not exists (
        select from pg_catalog.pg_publication
        where pubname = 'supabase_realtime_messages_publication'
    ) then
        create publication supabase_realtime_messages_publication
            for table realtime.messages;
    end if;
    if not exists (
        select from pg_catalog.pg_publication where pubname = 'supabase_realtime'
    ) then
        create publication supabase_realtime;
    end if;
end
$$;

select realtime.add_partitions();
