"""The ``pg_catalog`` queries behind :mod:`harness.db.catalog_reading`.

Expressions come out fully qualified, because the reader connects with an empty
``search_path`` wherever that matters (``pg_get_expr`` qualifies what is not visible).
"""

from __future__ import annotations

__all__ = [
    "BUCKETS",
    "CHECKS",
    "COLUMNS",
    "FOREIGN_KEYS",
    "FUNCTIONS",
    "POLICIES",
    "PRIVILEGES",
    "PUBLICATIONS",
    "RELATIONS",
    "SCHEMA_USAGE",
    "TEMPORARY",
    "TRIGGERS",
    "UNIQUE_KEYS",
    "VIEWS",
]

RELATIONS = """
select c.oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
       pg_get_userbyid(c.relowner) as owner, c.relrowsecurity as rls,
       c.relforcerowsecurity as force_rls, c.relreplident::text as replica_identity,
       coalesce(obj_description(c.oid, 'pg_class'), '') as comment,
       (select array[pn.nspname::text, p.relname::text]
          from pg_inherits i
          join pg_class p on p.oid = i.inhparent
          join pg_namespace pn on pn.oid = p.relnamespace
         where i.inhrelid = c.oid and c.relispartition) as parent,
       case when c.relispartition then
         coalesce(pg_get_partition_constraintdef(c.oid), '') else '' end as bound,
       array(select distinct d.privilege_type::text
               from pg_default_acl a, aclexplode(a.defaclacl) d
              where a.defaclobjtype = 'r'
                and a.defaclrole = c.relowner
                and a.defaclnamespace in (0, c.relnamespace)
                and d.grantee in (0, to_regrole('authenticated'))) as default_grants
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f')
   and c.relpersistence <> 't'
   and (n.nspname || '.' || c.relname = any($2::text[])
        or (n.nspname <> all($1::text[]) and n.nspname !~ '^pg_'))
   and not exists (select from pg_depend e
                    where e.classid = 'pg_class'::regclass and e.objid = c.oid
                      and e.deptype = 'e')
 order by n.nspname, c.relname
"""

COLUMNS = r"""
with recursive base as (
  select t.oid, t.oid as start, t.typbasetype, t.typtypmod, 0 as depth from pg_type t
  union all
  select t.oid, b.start, t.typbasetype, b.typtypmod, b.depth + 1
    from base b join pg_type t on t.oid = b.typbasetype
), root as (
  select distinct on (start) start, oid, typtypmod from base order by start, depth desc
)
select a.attrelid as relation, a.attname as name,
       format_type(a.atttypid, a.atttypmod) as type,
       -- Types of extensions that have a schema of their own (extensions.citext).
       regexp_replace(format_type(r.oid, null), '^extensions\.', '') as base_type,
       a.attnotnull or t.typnotnull as not_null,
       pg_get_expr(d.adbin, d.adrelid) as default_expression,
       a.attgenerated <> '' as generated, a.attidentity <> '' as identity,
       (select array_agg(e.enumlabel::text order by e.enumsortorder)
          from pg_enum e
         where e.enumtypid = coalesce(nullif(bt.typelem, 0), bt.oid)) as labels,
       (select array_agg(pg_get_constraintdef(k.oid))
          from pg_constraint k where k.contypid = a.atttypid) as domain_checks,
       case when bt.typname in ('varchar', 'bpchar')
            then nullif(greatest(a.atttypmod, r.typtypmod), -1) - 4
       end as max_length
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  join root r on r.start = t.oid
  join pg_type bt on bt.oid = r.oid
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = any($1::oid[]) and a.attnum > 0 and not a.attisdropped
 order by a.attrelid, a.attnum
"""

CHECKS = """
select k.conrelid as relation, k.conname as name,
       pg_get_expr(k.conbin, k.conrelid) as expression,
       coalesce((select array_agg(a.attname::text order by a.attnum)
                   from pg_attribute a
                  where a.attrelid = k.conrelid and a.attnum = any(k.conkey)),
                '{}') as columns
  from pg_constraint k
 where k.contype = 'c' and k.conrelid = any($1::oid[])
 order by k.conrelid, k.conname
"""

FOREIGN_KEYS = """
select k.conrelid as relation, k.conname as name,
       array(select a.attname::text from unnest(k.conkey) with ordinality u(n, o)
               join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n
              order by u.o) as columns,
       tn.nspname as target_schema, t.relname as target_name,
       array(select a.attname::text from unnest(k.confkey) with ordinality u(n, o)
               join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n
              order by u.o) as target_columns,
       k.confdeltype::text as on_delete, k.condeferrable as deferrable
  from pg_constraint k
  join pg_class t on t.oid = k.confrelid
  join pg_namespace tn on tn.oid = t.relnamespace
 where k.contype = 'f' and k.conrelid = any($1::oid[])
   and not (k.conparentid <> 0 and t.relispartition)
 order by k.conrelid, k.conname
"""

UNIQUE_KEYS = """
select i.indrelid as relation, c.relname as name, i.indisprimary as is_primary,
       i.indpred is not null as partial,
       i.indexprs is not null or i.indisexclusion as expression,
       array(select a.attname::text
               from unnest(i.indkey::int2[]) with ordinality u(n, o)
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.n
              where u.o <= i.indnkeyatts
              order by u.o) as columns
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
 where (i.indisunique or i.indisexclusion) and i.indrelid = any($1::oid[])
 order by i.indrelid, i.indisprimary desc, c.relname
"""

POLICIES = """
select p.polrelid as relation, n.nspname as schema, c.relname as table_name,
       p.polname as name, p.polcmd::text as command, p.polpermissive as permissive,
       array(select pg_get_userbyid(r)::text from unnest(p.polroles) r
              where r <> 0) as roles,
       pg_get_expr(p.polqual, p.polrelid) as using,
       pg_get_expr(p.polwithcheck, p.polrelid) as with_check
  from pg_policy p
  join pg_class c on c.oid = p.polrelid
  join pg_namespace n on n.oid = c.relnamespace
 where p.polrelid = any($1::oid[])
 order by p.polrelid, p.polname
"""

TRIGGERS = """
select t.tgrelid as relation, t.tgname as name,
       fn.nspname as function_schema, f.proname as function_name,
       case when t.tgtype & 64 <> 0 then 'instead'
            when t.tgtype & 2 <> 0 then 'before' else 'after' end as timing,
       array_remove(array[
         case when t.tgtype & 4 <> 0 then 'INSERT' end,
         case when t.tgtype & 8 <> 0 then 'DELETE' end,
         case when t.tgtype & 16 <> 0 then 'UPDATE' end,
         case when t.tgtype & 32 <> 0 then 'TRUNCATE' end], null) as events,
       t.tgtype & 1 <> 0 as for_each_row
  from pg_trigger t
  join pg_proc f on f.oid = t.tgfoid
  join pg_namespace fn on fn.oid = f.pronamespace
 where not t.tgisinternal and t.tgenabled <> 'D' and t.tgrelid = any($1::oid[])
 order by t.tgrelid, t.tgname
"""

PRIVILEGES = """
select c.oid as relation, r.rolname as role, k.command, null as column_name
  from pg_class c,
       (select rolname, oid from pg_roles where rolname = any($2::text[])) r,
       unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER',
                    'REFERENCES']) k(command)
 where c.oid = any($1::oid[]) and has_table_privilege(r.oid, c.oid, k.command)
union all
select c.oid, r.rolname, k.command, a.attname::text
  from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped,
       (select rolname, oid from pg_roles where rolname = any($2::text[])) r,
       unnest(array['SELECT', 'INSERT', 'UPDATE']) k(command)
 where c.oid = any($1::oid[])
   and not has_table_privilege(r.oid, c.oid, k.command)
   and has_column_privilege(r.oid, c.oid, a.attnum, k.command)
"""

VIEWS = """
select n.nspname as schema, c.relname as name, pg_get_viewdef(c.oid) as definition,
       coalesce('security_invoker=true' = any(c.reloptions)
                or 'security_invoker=on' = any(c.reloptions), false)
         as security_invoker,
       coalesce('security_barrier=true' = any(c.reloptions)
                or 'security_barrier=on' = any(c.reloptions), false)
         as security_barrier,
       array(select distinct rn.nspname || chr(31) || rc.relname
               from pg_rewrite w
               join pg_depend d on d.classid = 'pg_rewrite'::regclass
                               and d.objid = w.oid
                               and d.refclassid = 'pg_class'::regclass
               join pg_class rc on rc.oid = d.refobjid and rc.oid <> c.oid
               join pg_namespace rn on rn.oid = rc.relnamespace
              where w.ev_class = c.oid) as reads
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('v', 'm') and c.oid = any($1::oid[])
 order by n.nspname, c.relname
"""

FUNCTIONS = """
select n.nspname as schema, p.proname as name,
       p.oid::regprocedure::text as signature,
       (select array_agg(format_type(u.t, null) order by u.o)
          from unnest(p.proargtypes::oid[]) with ordinality u(t, o)) as parameter_types,
       array(select coalesce(p.proargnames[i], '')
               from generate_series(
                      1, coalesce(cardinality(p.proallargtypes), p.pronargs)) i
              where p.proargmodes is null or p.proargmodes[i] in ('i', 'b', 'v')
              order by i) as parameter_names,
       p.pronargdefaults as defaults,
       pg_get_function_result(p.oid) as returns, p.proretset as returns_set,
       l.lanname as language, p.provolatile::text as volatility,
       p.prosecdef as security_definer, pg_get_userbyid(p.proowner) as owner,
       p.prosrc as source, p.proconfig as settings, p.prokind::text as kind,
       p.proisstrict as strict, p.provariadic <> 0 as variadic,
       case when p.prokind in ('f', 'p') then pg_get_functiondef(p.oid) end
         as definition,
       array(select r.rolname::text from pg_roles r
              where r.rolname = any($2::text[])
                and has_function_privilege(r.oid, p.oid, 'EXECUTE')
                and has_schema_privilege(r.oid, n.oid, 'USAGE')) as executable_by
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  join pg_language l on l.oid = p.prolang
 where n.nspname <> all($1::text[]) and n.nspname !~ '^pg_'
   and not exists (select from pg_depend e
                    where e.classid = 'pg_proc'::regclass and e.objid = p.oid
                      and e.deptype = 'e')
 order by n.nspname, p.proname, p.oid::regprocedure::text
"""

PUBLICATIONS = """
select p.pubname as name, p.pubinsert as inserts, p.pubupdate as updates,
       p.pubdelete as deletes,
       array(select t.schemaname || chr(31) || t.tablename
               from pg_publication_tables t
              where t.pubname = p.pubname
              order by 1) as tables
  from pg_publication p
 order by p.pubname
"""

SCHEMA_USAGE = """
select n.nspname as schema,
       array(select r.rolname::text from pg_roles r
              where r.rolname = any($1::text[])
                and has_schema_privilege(r.oid, n.oid, 'USAGE')) as roles
  from pg_namespace n
 where n.nspname !~ '^pg_'
"""

TEMPORARY = """
select r.rolname as role from pg_roles r
 where r.rolname = any($1::text[])
   and has_database_privilege(r.oid, current_database(), 'TEMPORARY')
"""

BUCKETS = """
select id, public, file_size_limit, allowed_mime_types from storage.buckets order by id
"""
