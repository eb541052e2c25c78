-- Stand-in for extension "uuid-ossp": the same functions, in SQL and PL/pgSQL.
-- Version 1 takes a random node with the multicast bit set, as RFC 9562 allows where
-- the hardware address is unknown or private.

create or replace function @extschema@.uuid_nil()
  returns uuid language sql immutable strict parallel safe set search_path = ''
  return '00000000-0000-0000-0000-000000000000'::uuid;

create or replace function @extschema@.uuid_ns_dns()
  returns uuid language sql immutable strict parallel safe set search_path = ''
  return '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid;

create or replace function @extschema@.uuid_ns_url()
  returns uuid language sql immutable strict parallel safe set search_path = ''
  return '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::uuid;

create or replace function @extschema@.uuid_ns_oid()
  returns uuid language sql immutable strict parallel safe set search_path = ''
  return '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::uuid;

create or replace function @extschema@.uuid_ns_x500()
  returns uuid language sql immutable strict parallel safe set search_path = ''
  return '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::uuid;

create or replace function @extschema@.uuid_generate_v4()
  returns uuid language sql volatile strict parallel safe set search_path = ''
  return pg_catalog.gen_random_uuid();

create or replace function @extschema@.uuid_generate_v1mc()
  returns uuid language plpgsql volatile strict parallel safe set search_path = ''
as $$
declare
  -- 100 ns steps since 1582-10-15, when the Gregorian calendar began.
  ticks bigint := (extract(epoch from pg_catalog.clock_timestamp()) * 10000000)::bigint
    + 122192928000000000;
  stamp text := pg_catalog.lpad(pg_catalog.to_hex(ticks), 16, '0');
  chance text := pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '');
  clock int := (('x' || pg_catalog.substr(chance, 1, 4))::bit(16)::int & 16383) | 32768;
  node int := ('x' || pg_catalog.substr(chance, 5, 2))::bit(8)::int | 1;
begin
  return (
    pg_catalog.substr(stamp, 9, 8) || pg_catalog.substr(stamp, 5, 4)
    || '1' || pg_catalog.substr(stamp, 2, 3)
    || pg_catalog.lpad(pg_catalog.to_hex(clock), 4, '0')
    || pg_catalog.lpad(pg_catalog.to_hex(node), 2, '0')
    || pg_catalog.substr(chance, 20, 10)
  )::uuid;
end
$$;

create or replace function @extschema@.uuid_generate_v1()
  returns uuid language sql volatile strict parallel safe set search_path = ''
  return @extschema@.uuid_generate_v1mc();

create or replace function @extschema@.uuid_generate_v3(namespace uuid, name text)
  returns uuid language plpgsql immutable strict parallel safe set search_path = ''
as $$
declare
  hash bytea := pg_catalog.decode(
    pg_catalog.md5(
      pg_catalog.uuid_send(namespace) || pg_catalog.convert_to(name, 'UTF8')
    ), 'hex');
begin
  hash := pg_catalog.set_byte(hash, 6, (pg_catalog.get_byte(hash, 6) & 15) | 48);
  hash := pg_catalog.set_byte(hash, 8, (pg_catalog.get_byte(hash, 8) & 63) | 128);
  return pg_catalog.encode(hash, 'hex')::uuid;
end
$$;

create or replace function @extschema@.uuid_generate_v5(namespace uuid, name text)
  returns uuid language plpgsql immutable strict parallel safe set search_path = ''
as $$
declare
  hash bytea;
begin
  hash := pg_catalog.substr(
    @extschema@.harness_uuid_sha1(
      pg_catalog.uuid_send(namespace) || pg_catalog.convert_to(name, 'UTF8')
    ), 1, 16);
  hash := pg_catalog.set_byte(hash, 6, (pg_catalog.get_byte(hash, 6) & 15) | 80);
  hash := pg_catalog.set_byte(hash, 8, (pg_catalog.get_byte(hash, 8) & 63) | 128);
  return pg_catalog.encode(hash, 'hex')::uuid;
end
$$;

-- include sha1 as harness_uuid_sha1
