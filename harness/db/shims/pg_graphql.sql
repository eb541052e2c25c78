-- Stand-in for extension pg_graphql: it answers every query that GraphQL is off.  The
-- platform makes the schema graphql.

grant usage on schema graphql to postgres, anon, authenticated, service_role;

create or replace function graphql.resolve(
  query text,
  variables jsonb default '{}',
  "operationName" text default null,
  extensions jsonb default null
)
  returns jsonb language sql stable set search_path = ''
as $$
  select jsonb_build_object('errors', jsonb_build_array(
    jsonb_build_object('message', 'GraphQL is not part of this server.')
  ));
$$;

grant execute on function graphql.resolve(text, jsonb, text, jsonb)
  to postgres, anon, authenticated, service_role;
