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
    @extschema@.harness_sha1(
      pg_catalog.uuid_send(namespace) || pg_catalog.convert_to(name, 'UTF8')
    ), 1, 16);
  hash := pg_catalog.set_byte(hash, 6, (pg_catalog.get_byte(hash, 6) & 15) | 80);
  hash := pg_catalog.set_byte(hash, 8, (pg_catalog.get_byte(hash, 8) & 63) | 128);
  return pg_catalog.encode(hash, 'hex')::uuid;
end
$$;

-- PostgreSQL's core has MD5 and SHA-2 but not SHA-1 (FIPS 180-4, section 6.1).
create or replace function @extschema@.harness_sha1(message bytea)
  returns bytea language plpgsql immutable strict parallel safe set search_path = ''
as $$
declare
  mask constant bigint := 4294967295;
  size constant bigint := pg_catalog.length(message);
  padded bytea;
  h bigint[] := array[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
  w bigint[];
  a bigint; b bigint; c bigint; d bigint; e bigint;
  f bigint; k bigint; turned bigint; x bigint;
begin
  padded := message || '\x80'::bytea
    || pg_catalog.decode(
      pg_catalog.repeat('00', ((119 - size % 64) % 64)::int), 'hex')
    || pg_catalog.int8send(size * 8);
  for block in 0 .. pg_catalog.length(padded) / 64 - 1 loop
    w := '{}';
    for t in 0 .. 79 loop
      if t < 16 then
        x := 0;
        for i in 0 .. 3 loop
          x := (x << 8) | pg_catalog.get_byte(padded, block * 64 + t * 4 + i);
        end loop;
      else
        x := w[t - 2] # w[t - 7] # w[t - 13] # w[t - 15];
        x := ((x << 1) | (x >> 31)) & mask;
      end if;
      w[t + 1] := x;
    end loop;
    a := h[1]; b := h[2]; c := h[3]; d := h[4]; e := h[5];
    for t in 0 .. 79 loop
      if t < 20 then
        f := (b & c) | ((~b) & mask & d);
        k := 1518500249;
      elsif t < 40 then
        f := b # c # d;
        k := 1859775393;
      elsif t < 60 then
        f := (b & c) | (b & d) | (c & d);
        k := 2400959708;
      else
        f := b # c # d;
        k := 3395469782;
      end if;
      turned := (((a << 5) | (a >> 27)) & mask) + f + e + k + w[t + 1];
      e := d;
      d := c;
      c := ((b << 30) | (b >> 2)) & mask;
      b := a;
      a := turned & mask;
    end loop;
    h := array[
      (h[1] + a) & mask, (h[2] + b) & mask, (h[3] + c) & mask,
      (h[4] + d) & mask, (h[5] + e) & mask
    ];
  end loop;
  return pg_catalog.decode(
    pg_catalog.lpad(pg_catalog.to_hex(h[1]), 8, '0')
    || pg_catalog.lpad(pg_catalog.to_hex(h[2]), 8, '0')
    || pg_catalog.lpad(pg_catalog.to_hex(h[3]), 8, '0')
    || pg_catalog.lpad(pg_catalog.to_hex(h[4]), 8, '0')
    || pg_catalog.lpad(pg_catalog.to_hex(h[5]), 8, '0'), 'hex');
end
$$;
