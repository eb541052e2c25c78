-- Stand-in for extension pg_net: requests are queued and stay there.  Nothing is sent,
-- so that a test can look at what would have been, and no test reaches the network.

create schema if not exists net;
grant usage on schema net to postgres, anon, authenticated, service_role;

create table if not exists net.http_request_queue (
  id bigserial primary key,
  method text not null,
  url text not null,
  headers jsonb not null,
  body bytea,
  timeout_milliseconds int not null
);

create table if not exists net._http_response (
  id bigint,
  status_code int,
  content_type text,
  headers jsonb,
  content text,
  timed_out bool,
  error_msg text,
  created timestamptz not null default now()
);

create or replace function net.http_get(
  url text,
  params jsonb default '{}',
  headers jsonb default '{}',
  timeout_milliseconds int default 5000
)
  returns bigint language sql security definer set search_path = ''
as $$
  insert into net.http_request_queue (method, url, headers, timeout_milliseconds)
  select 'GET',
    url || coalesce('?' || (
      select pg_catalog.string_agg(p.key || '=' || p.value, '&')
      from pg_catalog.jsonb_each_text(params) p
    ), ''),
    headers, timeout_milliseconds
  returning id;
$$;

create or replace function net.http_post(
  url text,
  body jsonb default '{}',
  params jsonb default '{}',
  headers jsonb default '{"Content-Type": "application/json"}',
  timeout_milliseconds int default 5000
)
  returns bigint language sql security definer set search_path = ''
as $$
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  select 'POST',
    url || coalesce('?' || (
      select pg_catalog.string_agg(p.key || '=' || p.value, '&')
      from pg_catalog.jsonb_each_text(params) p
    ), ''),
    headers, pg_catalog.convert_to(body::text, 'UTF8'), timeout_milliseconds
  returning id;
$$;

create or replace function net.http_delete(
  url text,
  params jsonb default '{}',
  headers jsonb default '{}',
  timeout_milliseconds int default 5000
)
  returns bigint language sql security definer set search_path = ''
as $$
  insert into net.http_request_queue (method, url, headers, timeout_milliseconds)
  select 'DELETE', url, headers, timeout_milliseconds
  returning id;
$$;

grant select on net.http_request_queue, net._http_response to postgres, service_role;
grant execute on all functions in schema net
  to postgres, anon, authenticated, service_role;
