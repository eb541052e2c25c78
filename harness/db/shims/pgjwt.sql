-- Stand-in for extension pgjwt: tokens signed and verified with HMAC.  Needs pgcrypto in
-- schema extensions, where the platform puts it.

create or replace function @extschema@.url_encode(data bytea)
  returns text language sql immutable set search_path = ''
as $$
  select pg_catalog.translate(
    pg_catalog.encode(data, 'base64'), E'+/=\n', '-_');
$$;

create or replace function @extschema@.url_decode(data text)
  returns bytea language sql immutable set search_path = ''
as $$
  select pg_catalog.decode(
    pg_catalog.rpad(
      pg_catalog.translate(data, '-_', '+/'),
      (pg_catalog.ceil(pg_catalog.length(data) / 4.0) * 4)::int, '='),
    'base64');
$$;

create or replace function @extschema@.algorithm_sign(
  signables text, secret text, algorithm text
)
  returns text language sql immutable set search_path = ''
as $$
  select @extschema@.url_encode(extensions.hmac(signables, secret, case algorithm
    when 'HS256' then 'sha256'
    when 'HS384' then 'sha384'
    when 'HS512' then 'sha512'
    else ''
  end));
$$;

create or replace function @extschema@.sign(
  payload json, secret text, algorithm text default 'HS256'
)
  returns text language sql immutable set search_path = ''
as $$
  with parts as (
    select
      @extschema@.url_encode(pg_catalog.convert_to(
        '{"alg":"' || algorithm || '","typ":"JWT"}', 'UTF8'))
      || '.' || @extschema@.url_encode(pg_catalog.convert_to(payload::text, 'UTF8'))
      as signables
  )
  select signables || '.' || @extschema@.algorithm_sign(signables, secret, algorithm)
  from parts;
$$;

create or replace function @extschema@.try_cast_double(inp text)
  returns double precision language plpgsql immutable set search_path = ''
as $$
begin
  return inp::double precision;
exception when invalid_text_representation then
  return null;
end
$$;

create or replace function @extschema@.verify(
  token text, secret text, algorithm text default 'HS256'
)
  returns table (header json, payload json, valid boolean)
  language sql immutable set search_path = ''
as $$
  select
    pg_catalog.convert_from(@extschema@.url_decode(r[1]), 'UTF8')::json,
    claims,
    r[3] = @extschema@.algorithm_sign(r[1] || '.' || r[2], secret, algorithm)
      and pg_catalog.tstzrange(
        pg_catalog.to_timestamp(@extschema@.try_cast_double(claims ->> 'nbf')),
        pg_catalog.to_timestamp(@extschema@.try_cast_double(claims ->> 'exp'))
      ) @> current_timestamp
  from pg_catalog.regexp_split_to_array(token, '\.') r,
    pg_catalog.convert_from(@extschema@.url_decode(r[2]), 'UTF8') as decoded,
    lateral (select decoded::json) as parsed (claims);
$$;
