"""The catalog queries behind the schema cache, one JSON array of rows each.

``$1`` is the array of exposed schemas, ``$2`` that array and the extra search path.
They run with an empty ``search_path``, so that PostgreSQL qualifies every name it
prints.  System columns that look odd here are explained in "System Catalogs" of
PostgreSQL's manual.
"""

from __future__ import annotations

__all__ = ["QUERIES"]

_TABLES = """
select coalesce(json_agg(r), '[]') from (
  select
    c.oid::bigint as oid, n.nspname as schema, c.relname as name,
    c.relkind in ('v', 'm') as is_view,
    pg_catalog.obj_description(c.oid, 'pg_class') as description,
    case when c.relkind in ('r', 'p') then 28
      when c.relkind = 'm' then 0
      else pg_catalog.pg_relation_is_updatable(c.oid, true)
    end as updatable_bits
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'v', 'm', 'f', 'p')
    and not c.relispartition
    and n.nspname = any ($1::text[])
  order by 2, 3
) r
"""

_COLUMNS = """
select coalesce(json_agg(r), '[]') from (
  select
    a.attrelid::bigint as relation, a.attname as name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
    pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) as base,
    not (a.attnotnull or t.typnotnull) as nullable,
    case
      when t.typdefaultbin is not null and d.adbin is null
        then pg_catalog.pg_get_expr(t.typdefaultbin, 0)
      when a.attidentity <> '' then pg_catalog.format(
        'nextval(%L)', pg_catalog.pg_get_serial_sequence(
          pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname))
      when a.attgenerated <> '' then null
      else pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    end as "default",
    case when a.atttypid in ('varchar'::regtype, 'bpchar'::regtype) and a.atttypmod > 4
      then a.atttypmod - 4 end as max_length,
    (select array_agg(e.enumlabel order by e.enumsortorder)
      from pg_catalog.pg_enum e where e.enumtypid = t.oid) as enum,
    pg_catalog.col_description(a.attrelid, a.attnum) as description
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
    and (
      c.relkind in ('r', 'v', 'm', 'f', 'p') and not c.relispartition
        and n.nspname = any ($1::text[])
      or c.relkind in ('c', 'r', 'v', 'm', 'f', 'p') and c.reltype in (
        select coalesce(nullif(rt.typbasetype, 0), rt.oid)
        from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
        join pg_catalog.pg_type rt on rt.oid = p.prorettype
        where pn.nspname = any ($1::text[])
      )
    )
  order by a.attrelid, a.attnum
) r
"""

_KEYS = """
select coalesce(json_agg(r), '[]') from (
  select
    k.conrelid::bigint as relation, n.nspname as schema, c.relname as name,
    k.contype as kind,
    array(
      select a.attname
      from unnest(k.conkey) with ordinality u (attnum, position)
      join pg_catalog.pg_attribute a
        on a.attrelid = k.conrelid and a.attnum = u.attnum
      order by u.position
    ) as columns
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where k.contype in ('p', 'u')
    and n.nspname not in ('pg_catalog', 'information_schema')
  order by k.conrelid, k.contype, k.conname
) r
"""

_FOREIGN_KEYS = """
select coalesce(json_agg(r), '[]') from (
  select
    n.nspname as schema, c.relname as name,
    fn.nspname as target_schema, fc.relname as target_name,
    k.conname as constraint,
    array(
      select json_build_array(a.attname, fa.attname)
      from unnest(k.conkey, k.confkey) with ordinality u (own, other, position)
      join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.own
      join pg_catalog.pg_attribute fa
        on fa.attrelid = k.confrelid and fa.attnum = u.other
      order by u.position
    ) as columns
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class fc on fc.oid = k.confrelid
  join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
  where k.contype = 'f' and k.conparentid = 0
  order by k.conrelid, k.conname
) r
"""

_VIEWS = """
select coalesce(json_agg(r), '[]') from (
  select
    c.oid::bigint as oid, n.nspname as schema, c.relname as name,
    w.ev_action::text as definition,
    (select json_object_agg(a.attnum, a.attname)
      from pg_catalog.pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_rewrite w on w.ev_class = c.oid and w.rulename = '_RETURN'
  where c.relkind in ('v', 'm') and n.nspname = any ($2::text[])
) r
"""

# The tables whose columns views show, for the names behind their numbers.
_KEY_COLUMNS = """
select coalesce(json_agg(r), '[]') from (
  select distinct
    c.oid::bigint as relation, n.nspname as schema, c.relname as name,
    a.attnum as position, a.attname as column
  from pg_catalog.pg_constraint k
  cross join lateral (
    select k.conrelid as relid, unnest(k.conkey) as attnum
    union all
    select k.confrelid, unnest(k.confkey)
  ) u
  join pg_catalog.pg_class c on c.oid = u.relid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = u.relid and a.attnum = u.attnum
  where k.contype in ('p', 'f')
    and n.nspname not in ('pg_catalog', 'information_schema')
) r
"""

_ROUTINES = """
select coalesce(json_agg(r), '[]') from (
  select
    n.nspname as schema, p.proname as name,
    pg_catalog.obj_description(p.oid, 'pg_proc') as description,
    coalesce(arguments.list, '[]') as arguments,
    tn.nspname as return_schema, t.typname as return_name,
    rn.nspname as relation_schema, rc.relname as relation_name,
    rc.oid::bigint as relation,
    dn.nspname as declared_schema, d.typname as declared_name,
    p.proretset as returns_set,
    t.typtype = 'c' or outs.list is not null as composite,
    p.provolatile as volatility,
    outs.list as out_columns,
    p.proconfig as settings
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_type d on d.oid = p.prorettype
  join pg_catalog.pg_namespace dn on dn.oid = d.typnamespace
  join pg_catalog.pg_type t on t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)
  join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
  left join pg_catalog.pg_class rc on rc.oid = t.typrelid and t.typrelid <> 0
  left join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
  left join lateral (
    select json_agg(json_build_array(
      coalesce(p.proargnames[i.position], ''),
      pg_catalog.format_type(case i.type
        when 'bit'::regtype then 'varbit'::regtype
        when 'bit[]'::regtype then 'varbit[]'::regtype
        when 'bpchar'::regtype then 'varchar'::regtype
        when 'bpchar[]'::regtype then 'varchar[]'::regtype
        else i.type end, null),
      i.input <= p.pronargs - p.pronargdefaults,
      i.mode = 'v'
    ) order by i.position) as list
    from (
      select u.type, u.position, coalesce(p.proargmodes[u.position], 'i') as mode,
        row_number() over (order by u.position) as input
      from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]))
        with ordinality u (type, position)
      where coalesce(p.proargmodes[u.position], 'i') in ('i', 'b', 'v')
    ) i
  ) arguments on true
  left join lateral (
    select json_agg(json_build_array(
      p.proargnames[u.position],
      pg_catalog.format_type(u.type, null),
      pg_catalog.format_type(coalesce(nullif(ot.typbasetype, 0), ot.oid), null)
    ) order by u.position) as list
    from unnest(p.proallargtypes) with ordinality u (type, position)
    join pg_catalog.pg_type ot on ot.oid = u.type
    where p.proargmodes[u.position] in ('t', 'o', 'b')
  ) outs on true
  where p.prokind = 'f'
    and n.nspname = any ($1::text[])
    and t.oid <> all (array[
      'trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype
    ])
  order by 1, 2, p.oid
) r
"""

# Functions of one row: those that return a value act as columns, those that return
# rows of a table as relationships.
_ROW_FUNCTIONS = """
select coalesce(json_agg(r), '[]') from (
  select
    n.nspname as schema, p.proname as name,
    an.nspname as table_schema, ac.relname as table_name,
    rn.nspname as target_schema, rc.relname as target_name,
    not p.proretset or p.prorows = 1 as single,
    p.proretset as returns_set,
    pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) as base
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_type at on at.oid = p.proargtypes[0]
  join pg_catalog.pg_class ac on ac.oid = at.typrelid
    and ac.relkind in ('r', 'v', 'm', 'f', 'p')
  join pg_catalog.pg_namespace an on an.oid = ac.relnamespace
  join pg_catalog.pg_type t on t.oid = p.prorettype
  left join pg_catalog.pg_class rc on rc.oid = t.typrelid
    and rc.relkind in ('r', 'v', 'm', 'f', 'p')
  left join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
  where p.pronargs = 1 and p.prokind = 'f' and n.nspname = any ($2::text[])
  order by p.oid
) r
"""

_TYPES = """
select coalesce(json_object_agg(r.name, r.form order by r.rank desc), '{}') from (
  select
    t.typname as name, pg_catalog.format_type(t.oid, null) as form,
    coalesce(pg_catalog.array_position($2::text[], n.nspname::text), 0) as rank
  from pg_catalog.pg_type t
  join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  left join pg_catalog.pg_class c on c.oid = t.typrelid
  where t.typtype in ('b', 'd', 'e', 'r', 'm')
    and not exists (
      select from pg_catalog.pg_type e where e.oid = t.typelem and e.typtype = 'c')
    and (n.nspname = 'pg_catalog' or n.nspname = any ($2::text[]))
) r
"""

# Settings of the roles that the login may become, and the login's own.
_SETTINGS = """
select coalesce(json_agg(r), '[]') from (
  select
    ro.rolname as role, ro.rolname = session_user as is_login,
    s.setconfig as settings
  from pg_catalog.pg_db_role_setting s
  join pg_catalog.pg_roles ro on ro.oid = s.setrole
  where s.setdatabase in (
      0, (select oid from pg_catalog.pg_database where datname = current_database()))
    and pg_catalog.pg_has_role(session_user, ro.oid, 'member')
  order by s.setdatabase
) r
"""

_SCHEMAS = """
select coalesce(json_object_agg(
  n.nspname, pg_catalog.obj_description(n.oid, 'pg_namespace')), '{}')
from pg_catalog.pg_namespace n where n.nspname = any ($1::text[])
"""

# Any change of the catalogs that the cache is read from moves one of these counters.
_FINGERPRINT = """
select json_build_array(
  (select pg_catalog.md5(pg_catalog.string_agg(xmin::text || ':' || oid::text, ','
    order by oid)) from pg_catalog.pg_class where oid >= 16384),
  (select pg_catalog.md5(pg_catalog.string_agg(xmin::text || ':' || oid::text, ','
    order by oid)) from pg_catalog.pg_proc where oid >= 16384),
  (select pg_catalog.md5(pg_catalog.string_agg(xmin::text || ':' || oid::text, ','
    order by oid)) from pg_catalog.pg_constraint where oid >= 16384),
  (select pg_catalog.md5(pg_catalog.string_agg(xmin::text || ':' || oid::text, ','
    order by oid)) from pg_catalog.pg_type where oid >= 16384),
  (select pg_catalog.md5(pg_catalog.string_agg(
    xmin::text || ':' || attrelid::text || ':' || attnum::text, ','
    order by attrelid, attnum)) from pg_catalog.pg_attribute where attrelid >= 16384),
  (select pg_catalog.md5(pg_catalog.string_agg(s::text, ',' order by s::text))
    from pg_catalog.pg_db_role_setting s)
)
"""

QUERIES = {
    "tables": _TABLES,
    "columns": _COLUMNS,
    "keys": _KEYS,
    "foreign_keys": _FOREIGN_KEYS,
    "views": _VIEWS,
    "key_columns": _KEY_COLUMNS,
    "routines": _ROUTINES,
    "row_functions": _ROW_FUNCTIONS,
    "types": _TYPES,
    "settings": _SETTINGS,
    "schemas": _SCHEMAS,
    "fingerprint": _FINGERPRINT,
}
