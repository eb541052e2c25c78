-- A film database: every kind of relationship, every kind of column, functions.

create type mood as enum ('calm', 'tense');
create domain score as int check (value between 0 and 100);

create table directors (
  id int primary key,
  first_name text not null,
  last_name text not null,
  born date
);

create table films (
  id int primary key,
  title text not null,
  year int,
  director_id int references directors,
  rating numeric(3, 1),
  rated score,
  feeling mood,
  details jsonb,
  tags text[],
  shown daterange,
  open boolean,
  words tsvector generated always as (to_tsvector('english', title)) stored
);

create table technical_specs (
  film_id int primary key references films,
  runtime interval,
  camera text
);

create table actors (
  id int primary key,
  name text not null
);

create table roles (
  film_id int references films,
  actor_id int references actors,
  character text,
  primary key (film_id, actor_id)
);

create table addresses (
  id int primary key,
  street text
);

create table orders (
  id int primary key,
  billing_id int constraint billing references addresses,
  shipping_id int constraint shipping references addresses
);

create table employees (
  id int primary key,
  name text,
  boss_id int references employees
);

create table "Odd ""Name""" (
  "the id" int primary key,
  "select" text,
  "a.b" text,
  "über-größe" int
);

create view recent_films as
  select id, title, year, director_id from films where year >= 1990;

create view film_names as
  select id as film, title as name from recent_films;

create function full_name(directors) returns text stable language sql as
  $$ select $1.first_name || ' ' || $1.last_name $$;

create function colleagues(directors) returns setof directors stable language sql as
  $$ select * from directors where id <> $1.id order by id $$;

create function add(a int, b int default 1) returns int immutable language sql as
  $$ select a + b $$;

create function films_since(since int) returns setof films stable language sql as
  $$ select * from films where year >= since order by id $$;

create function one_film(film int) returns films stable language sql as
  $$ select * from films where id = film $$;

create function summary() returns table (decade int, films bigint) stable
  language sql as
  $$ select year / 10 * 10, count(*) from films where year is not null
     group by 1 order by 1 $$;

create function split(text, out head text, out tail text) immutable language sql as
  $$ select left($1, 1), substr($1, 2) $$;

create function divide(a int, b int, out quotient int, out rest int) immutable
  language sql as $$ select a / b, a % b $$;

create function numbers(up_to int) returns setof int immutable language sql as
  $$ select generate_series(1, up_to) $$;

create function total(variadic numbers int[]) returns bigint immutable language sql as
  $$ select sum(n) from unnest(numbers) n $$;

create function echo(json) returns json immutable language sql as $$ select $1 $$;

create function nothing() returns void language sql as $$ select 1 $$;

create function ambiguous(a int) returns text immutable language sql as $$ select 'i' $$;
create function ambiguous(a text) returns text immutable language sql as $$ select 't' $$;

create function who() returns json stable language sql as $$
  select json_build_object(
    'role', current_user,
    'uid', auth.uid(),
    'method', current_setting('request.method', true),
    'path', current_setting('request.path', true),
    'agent', current_setting('request.headers', true)::json ->> 'user-agent',
    'cookie', current_setting('request.cookies', true)::json ->> 'flavour',
    'search_path', current_setting('search_path')
  )
$$;

insert into directors values
  (1, 'Agnes', 'Varda', '1928-05-30'),
  (2, 'Akira', 'Kurosawa', '1910-03-23'),
  (3, 'Ava', 'Nobody', null);

insert into films (id, title, year, director_id, rating, rated, feeling, details, tags,
  shown, open)
values
  (1, 'Cleo from 5 to 7', 1962, 1, 7.9, 79, 'tense',
   '{"country": "FR", "awards": [{"name": "Palme"}, {"name": "Other"}], "n": 1}',
   '{paris,day}', '[1962-01-01,1962-06-01)', true),
  (2, 'Vagabond', 1985, 1, 7.6, 76, 'calm', '{"country": "FR", "awards": []}',
   '{road}', '[1985-01-01,1986-01-01)', false),
  (3, 'Ran', 1985, 2, 8.2, 82, 'tense', '{"country": "JP"}', '{war,king}', null, null),
  (4, 'Dreams', 1990, 2, 7.7, 77, 'calm', null, '{}', '[1990-05-01,1991-01-01)', true),
  (5, 'Lost, "quoted" and (odd)', null, null, null, null, null, 'null', null, null,
   null);

insert into technical_specs values (1, '01:30:00', 'Cameflex'), (3, '02:42:00', null);
insert into actors values (1, 'Corinne Marchand'), (2, 'Sandrine Bonnaire'),
  (3, 'Tatsuya Nakadai'), (4, 'Nobody Yet');
insert into roles values (1, 1, 'Cleo'), (2, 2, 'Mona'), (3, 3, 'Hidetora'),
  (4, 3, 'Himself');
insert into addresses values (1, 'Rue A'), (2, 'Rue B');
insert into orders values (1, 1, 2), (2, 2, 2);
insert into employees values (1, 'Boss', null), (2, 'Mid', 1), (3, 'Low', 2);
insert into "Odd ""Name""" values (1, 'one', 'dot', 5), (2, 'two', null, 6);
