-- PostgreSQL's core has MD5 and SHA-2 but not SHA-1 (FIPS 180-4, section 6.1).
create or replace function @extschema@.@name@(message bytea)
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
