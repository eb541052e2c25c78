"""A database's catalog as sorted text, to tell whether two of them are the same.

Each line is one fact (``column public.videos.id uuid not null``), so a plain diff of
two fingerprints reads as a change log.  Left out: what PostgreSQL itself and extensions
bring along, object ids, statistics, and data other than storage buckets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from harness.db.address import Connection

__all__ = ["catalog_diff", "fingerprint", "fingerprint_digest"]

# Schemas of PostgreSQL itself; what belongs to an extension is left out by `owned`.
SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"
VISIBLE = f"n.nspname not in {SYSTEM} and n.nspname !~ '^pg_(temp|toast_temp)_'"


def _not_of_extension(catalog: str, oid: str) -> str:
    return (
        "not exists (select from pg_catalog.pg_depend x where x.deptype = 'e'"
        f" and x.classid = '{catalog}'::regclass and x.objid = {oid})"
    )


def _acl(acl: str, kind: str, owner: str) -> str:
    """Return an expression for privileges as sorted text, defaults made explicit."""
    return f"""(
      select coalesce(string_agg(entry, ',' order by entry), '-') from (
        select coalesce(nullif(pg_get_userbyid(e.grantee), 'unknown (OID=0)'), 'public')
          || '=' || string_agg(
            e.privilege_type || case when e.is_grantable then '*' else '' end,
            '+' order by e.privilege_type) as entry
        from aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) e
        group by e.grantee
      ) entries)"""


QUERIES: Mapping[str, str] = {
    "schema": f"""
        select format('%I owner %s acl %s', n.nspname, pg_get_userbyid(n.nspowner),
          {_acl("n.nspacl", "n", "n.nspowner")})
        from pg_namespace n where {VISIBLE}
          and {_not_of_extension("pg_namespace", "n.oid")}""",
    "relation": f"""
        select format('%I.%I %s owner %s rls %s force %s replica %s options %s acl %s',
          n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner),
          c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reloptions,
          {_acl("c.relacl", "r", "c.relowner")})
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {VISIBLE} and c.relkind in ('r', 'p', 'v', 'm', 'f')
          and {_not_of_extension("pg_class", "c.oid")}""",
    "sequence": f"""
        select format('%I.%I owner %s %s from %s by %s in %s..%s cache %s cycle %s'
          ' acl %s', n.nspname, c.relname, pg_get_userbyid(c.relowner),
          s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
          s.seqcache, s.seqcycle, {_acl("c.relacl", "s", "c.relowner")})
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_sequence s on s.seqrelid = c.oid
        where {VISIBLE} and {_not_of_extension("pg_class", "c.oid")}""",
    "column": f"""
        select format('%I.%I.%I %s%s%s%s%s acl %s', n.nspname, c.relname, a.attname,
          format_type(a.atttypid, a.atttypmod),
          case when a.attnotnull then ' not null' else '' end,
          coalesce(case when a.attgenerated = '' then ' default '
            else ' generated ' end || pg_get_expr(d.adbin, d.adrelid), ''),
          case when a.attidentity = '' then ''
            else ' identity ' || a.attidentity::text end,
          case when a.attcollation in (0, t.typcollation) then ''
            else ' collate ' || a.attcollation::regcollation::text end,
          {_acl("a.attacl", "c", "c.relowner")})
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid
        join pg_namespace n on n.oid = c.relnamespace
        join pg_type t on t.oid = a.atttypid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where {VISIBLE} and a.attnum > 0 and not a.attisdropped
          and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
          and {_not_of_extension("pg_class", "c.oid")}""",
    "constraint": f"""
        select format('%s %I %s%s', coalesce(c.conrelid::regclass::text,
          c.contypid::regtype::text), c.conname, pg_get_constraintdef(c.oid),
          case when c.convalidated then '' else ' not validated' end)
        from pg_constraint c join pg_namespace n on n.oid = c.connamespace
        where {VISIBLE} and c.contype <> 'n'
          and {_not_of_extension("pg_constraint", "c.oid")}
          and {_not_of_extension("pg_class", "c.conrelid")}""",
    "index": f"""
        select format('%s valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
        from pg_index i join pg_class c on c.oid = i.indexrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {VISIBLE} and {_not_of_extension("pg_class", "i.indrelid")}""",
    "view": f"""
        select format('%I.%I %s', n.nspname, c.relname,
          md5(pg_get_viewdef(c.oid)))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {VISIBLE} and c.relkind in ('v', 'm')
          and {_not_of_extension("pg_class", "c.oid")}""",
    "policy": f"""
        select format('%I on %I.%I %s %s to %s using %s check %s', p.policyname,
          p.schemaname, p.tablename, p.permissive, p.cmd, p.roles, p.qual, p.with_check)
        from pg_policies p join pg_namespace n on n.nspname = p.schemaname
        where {VISIBLE}""",
    "rule": f"""
        select pg_get_ruledef(r.oid)
        from pg_rewrite r join pg_class c on c.oid = r.ev_class
        join pg_namespace n on n.oid = c.relnamespace
        where {VISIBLE} and r.rulename <> '_RETURN'""",
    "function": f"""
        select format('%s owner %s definition %s acl %s', p.oid::regprocedure,
          pg_get_userbyid(p.proowner),
          md5(case when p.prokind = 'a' then '' else pg_get_functiondef(p.oid) end),
          {_acl("p.proacl", "f", "p.proowner")})
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where {VISIBLE} and {_not_of_extension("pg_proc", "p.oid")}""",
    "trigger": f"""
        select format('%s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {VISIBLE} and not t.tgisinternal""",
    "type": f"""
        select format('%I.%I %s owner %s labels %s base %s%s acl %s', n.nspname,
          t.typname, t.typtype, pg_get_userbyid(t.typowner),
          (select string_agg(quote_literal(e.enumlabel), ',' order by e.enumsortorder)
            from pg_enum e where e.enumtypid = t.oid),
          nullif(t.typbasetype, 0)::regtype,
          case when t.typnotnull then ' not null' else '' end,
          {_acl("t.typacl", "T", "t.typowner")})
        from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where {VISIBLE} and t.typtype in ('e', 'd', 'c', 'r')
          and (t.typrelid = 0
            or (select k.relkind from pg_class k where k.oid = t.typrelid) = 'c')
          and {_not_of_extension("pg_type", "t.oid")}""",
    "publication": """
        select format('%I owner %s all %s insert %s update %s delete %s truncate %s'
          ' root %s', p.pubname, pg_get_userbyid(p.pubowner), p.puballtables,
          p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot)
        from pg_publication p""",
    "published": """
        select format('%I table %I.%I columns %s where %s', t.pubname, t.schemaname,
          t.tablename, t.attnames, t.rowfilter)
        from pg_publication_tables t""",
    "event trigger": """
        select format('%I on %s %s tags %s enabled %s', e.evtname, e.evtevent,
          e.evtfoid::regproc, e.evttags, e.evtenabled)
        from pg_event_trigger e
        where not exists (select from pg_depend x where x.deptype = 'e'
          and x.classid = 'pg_event_trigger'::regclass and x.objid = e.oid)""",
    "extension": """
        select format('%I %s in %I', e.extname, e.extversion, n.nspname)
        from pg_extension e join pg_namespace n on n.oid = e.extnamespace""",
    "default privileges": f"""
        select format('of %s in %s for %s acl %s', pg_get_userbyid(d.defaclrole),
          coalesce(n.nspname, 'any schema'), d.defaclobjtype,
          {_acl("d.defaclacl", "r", "d.defaclrole")})
        from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace""",
    "role": """
        select format('%I super %s inherit %s createrole %s createdb %s login %s'
          ' replication %s bypassrls %s member of %s', r.rolname, r.rolsuper,
          r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
          r.rolreplication, r.rolbypassrls,
          (select string_agg(pg_get_userbyid(m.roleid)
              || case when m.admin_option then '*' else '' end, ','
              order by pg_get_userbyid(m.roleid))
            from pg_auth_members m where m.member = r.oid))
        from pg_roles r where r.rolname !~ '^pg_'""",
    "setting": """
        select format('of %s: %s', coalesce(pg_get_userbyid(nullif(s.setrole, 0)),
          'the database'), c.setting)
        from pg_db_role_setting s, unnest(s.setconfig) as c (setting)
        where s.setdatabase in (0, (select d.oid from pg_database d
          where d.datname = current_database()))""",
    "comment": f"""
        select format('on %s: %s', i.identity, d.description)
        from pg_description d,
          pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        join pg_namespace n on n.nspname = i.schema
        where {VISIBLE} and {_not_of_extension("pg_class", "d.objoid")}
          and {_not_of_extension("pg_proc", "d.objoid")}
          and {_not_of_extension("pg_type", "d.objoid")}""",
}
BUCKETS = """
    select format('%s %s', b.id,
      to_jsonb(b) - 'id' - 'created_at' - 'updated_at')
    from storage.buckets b"""


async def fingerprint(connection: Connection) -> str:
    """Return the catalog as sorted lines; two equal texts mean equal catalogs.

    The reader should be a superuser, so that nothing is hidden from it.
    """
    lines: list[str] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # Without a search path every name is written with its schema.
        await connection.execute("set local search_path = pg_catalog")
        queries = dict(QUERIES)
        if await connection.fetchval("select to_regclass('storage.buckets')"):
            queries["bucket"] = BUCKETS
        for kind, query in queries.items():
            rows = await connection.fetch(query)
            lines += (f"{kind} {_one_line(row[0])}" for row in rows)
    return "\n".join(sorted(lines)) + "\n"


def fingerprint_digest(text: str) -> str:
    """Return a short name for a fingerprint."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def catalog_diff(before: str, after: str) -> tuple[str, ...]:
    """Return the lines that differ, ``-`` for gone and ``+`` for new, sorted."""
    old, new = set(before.splitlines()), set(after.splitlines())
    changes = [f"-{line}" for line in old - new] + [f"+{line}" for line in new - old]
    return tuple(sorted(changes, key=lambda line: (line[1:], line[0])))


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
