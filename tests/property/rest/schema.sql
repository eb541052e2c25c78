-- Rows of every kind of value, some of them the caller's, and what must stay hidden.

create type colour as enum ('red', 'green', 'blue');

create table parents (
  id int primary key,
  name text,
  rank int
);

create table items (
  id int primary key,
  owner uuid,
  parent_id int references parents,
  whole int,
  exact numeric,
  word text,
  flag boolean,
  day date,
  hue colour,
  labels text[],
  span int4range,
  doc jsonb
);

alter table items enable row level security;
create policy own on items to authenticated
  using (owner = auth.uid()) with check (owner = auth.uid());

create function echo(word text, times int default 1) returns text immutable
  language sql as $$ select repeat(word, least(times, 3)) $$;
create function rows_of(word text) returns setof items stable language sql as
  $$ select * from items where items.word = rows_of.word $$;

create table secrets (id int primary key, marker text);
revoke all on secrets from anon, authenticated, service_role;
insert into secrets values (1, 'TOP-SECRET-MARKER');

insert into parents values (1, 'one', 10), (2, 'two', null), (3, 'a,b', 20);

insert into items
select
  n,
  case when n % 5 = 0 then '22222222-2222-4222-8222-222222222222'::uuid
    else '11111111-1111-4111-8111-111111111111' end,
  nullif(n % 4, 0),
  nullif(n % 7, 3),
  case when n % 6 = 0 then null else (n % 5) * 1.5 end,
  (array['', 'a', 'A', 'ab', 'b%', 'a,b', '(x)', 'q"q', 'b\c', 'null', '*', null])[n % 12 + 1],
  case n % 3 when 0 then true when 1 then false end,
  case when n % 8 = 0 then null else date '2026-01-01' + n % 10 end,
  case when n % 4 = 3 then null else (array['red', 'green', 'blue'])[n % 3 + 1]::colour end,
  case n % 5 when 0 then null when 1 then '{}' when 2 then '{a}'
    when 3 then '{a,b}' else '{"a,b",null}' end::text[],
  case when n % 6 = 5 then null else int4range(n % 5, n % 5 + n % 4) end,
  case n % 4 when 0 then null when 1 then jsonb_build_object('k', n % 3, 't', 'x')
    when 2 then '[1, "two"]' else 'null'::jsonb end
from generate_series(1, 60) n;
