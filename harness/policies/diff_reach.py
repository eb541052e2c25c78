"""What a change of a schema can reach: objects whose decisions may differ at all.

Every object is read as text: its definition, grants, policies, constraints and
triggers.  An object depends on every object whose bare name occurs as a word in that
text, whatever the schema, so that function bodies count as much as what PostgreSQL
tracks.  What changed, and everything that depends on it, is compared by execution; the
rest says the same in both versions word for word, down to all it uses.

Where words cannot tell (dynamic SQL, catalog look-ups, other languages, settings,
operators) an object is taken to depend on everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.db.address import Connection

__all__ = ["Definitions", "Reach", "reach_of", "read_definitions"]

WORD = re.compile(r"[^\W\d][\w$]*")
EVERYTHING = "*"
# Defaults that draw another value in every database.
DRAWN = r"(now\(|timestamp|current_date|random|uuid_generate)"
BODY = "#"
# Look-ups by computed name, and functions that answer by what the catalog holds.
OPAQUE = re.compile(
    r"\bexecute\b(?!\s+(function|procedure)\b)|\bquery_to_|\btable_to_|\bschema_to_|"
    r"\bdatabase_to_|\bcursor_to_|\bdblink|\binformation_schema\b|\bto_reg|"
    r"\bhas_\w+_privilege|\brow_security_active\b|\bpg_(?!catalog\b|temp\b|typeof\b|"
    r"sleep\b|advisory|column_size\b|notify\b|trigger_depth\b|has_role\b|backend_pid\b|"
    r"input_is_valid\b)\w+",
    re.IGNORECASE,
)
OURS = """n.nspname !~ '^pg_'
  and n.nspname not in ('information_schema', 'harness_probe', 'supabase_migrations')
  and not exists (select from pg_depend e where e.deptype = 'e'
    and e.classid = '{catalog}'::regclass and e.objid = {oid})"""
RELATIONS = OURS.format(catalog="pg_class", oid="c.oid")
FUNCTIONS = OURS.format(catalog="pg_proc", oid="p.oid")
TYPES = OURS.format(catalog="pg_type", oid="t.oid")

# Each row: the bare name, how to read the fact (see Definitions.add), and the fact.
QUERY = f"""
with relation as (
  select c.*, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and {RELATIONS}
)
select c.relname::text as name,
       case when c.relkind in ('v', 'm') then 'source' else 'text' end as kind,
       concat_ws(' ', c.nspname, c.relkind, pg_get_userbyid(c.relowner),
         c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
         coalesce(c.relacl, acldefault(
           case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))::text,
         case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end,
         pg_get_expr(c.relpartbound, c.oid)) as fact
  from relation c
union all
select c.relname, 'body', concat_ws(' ', a.attname,
         format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
         a.attgenerated, a.attacl::text,
         nullif(a.attcollation, 0)::regcollation, pg_get_expr(d.adbin, d.adrelid))
  from relation c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relkind <> 'S'
union all
select c.relname, 'source', concat_ws(' ', p.cmd, p.permissive,
         array(select r from unnest(p.roles) r order by 1), p.qual, '/', p.with_check)
  from relation c
  join pg_policies p on p.schemaname = c.nspname and p.tablename = c.relname
union all
select c.relname, case k.contype when 'f' then 'mute' else 'body' end,
         concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated)
  from pg_constraint k join relation c on c.oid = k.conrelid
 where k.contype <> 'n'
union all
select f.relname, 'cascade', c.relname
  from pg_constraint k
  join relation c on c.oid = k.conrelid join relation f on f.oid = k.confrelid
union all
-- Its owner passes a table's policies, and so do foreign keys, but for FORCE.
select c.relname, 'forced', ''
  from relation c where c.relforcerowsecurity
union all
select c.relname, 'body', regexp_replace(pg_get_indexdef(i.indexrelid),
         '^CREATE UNIQUE INDEX .* ON ', 'unique ')
  from relation c join pg_index i on i.indrelid = c.oid and i.indisunique
union all
select c.relname, 'body', concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
  from relation c join pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal
union all
select c.relname, 'body', pg_get_ruledef(r.oid)
  from relation c join pg_rewrite r on r.ev_class = c.oid and r.rulename <> '_RETURN'
union all
select unnest(array[c.relname, f.relname]), 'body',
       concat_ws(' ', 'inherits', c.relname, f.relname)
  from pg_inherits h
  join relation c on c.oid = h.inhrelid join relation f on f.oid = h.inhparent
union all
select c.relname, 'text', concat_ws(' ', 'published', p.pubname, p.attnames,
         p.rowfilter)
  from relation c
  join pg_publication_tables p on p.schemaname = c.nspname and p.tablename = c.relname
union all
-- The platform's own functions look up no object of a project by computed name.
select p.proname, case when pg_get_userbyid(p.proowner) ~ '^supabase_'
           or l.lanname in ('c', 'internal') then 'text'
         when l.lanname in ('sql', 'plpgsql') then 'source' else 'opaque' end,
       concat_ws(' ', pg_get_userbyid(p.proowner),
         coalesce(p.proacl, acldefault('f', p.proowner))::text,
         case when p.prokind in ('a', 'w')
           then concat_ws(' ', p.oid::regprocedure, a.*::text)
           else pg_get_functiondef(p.oid) end)
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  join pg_language l on l.oid = p.prolang
  left join pg_aggregate a on a.aggfnoid = p.oid
 where {FUNCTIONS}
union all
select t.typname, 'text', concat_ws(' ', n.nspname, t.typtype, t.typnotnull,
         t.typdefault, nullif(t.typbasetype, 0)::regtype, t.typacl::text,
         array(select e.enumlabel from pg_enum e where e.enumtypid = t.oid
                order by e.enumsortorder),
         array(select pg_get_constraintdef(k.oid) from pg_constraint k
                where k.contypid = t.oid order by 1),
         array(select concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod))
                 from pg_attribute a
                where a.attrelid = t.typrelid and a.attnum > 0 order by a.attnum))
  from pg_type t join pg_namespace n on n.oid = t.typnamespace
 where t.typtype in ('e', 'd', 'c', 'r', 'm') and {TYPES}
   and (t.typrelid = 0
     or (select k.relkind from pg_class k where k.oid = t.typrelid) = 'c')
union all
select n.nspname, 'text', concat_ws(' ', 'schema', pg_get_userbyid(n.nspowner),
         n.nspacl::text)
  from pg_namespace n
 where n.nspname !~ '^pg_' and n.nspname <> 'harness_probe'
union all
select '{EVERYTHING}', 'text', concat_ws(' ', 'setting', s.setrole, unnest(s.setconfig))
  from pg_db_role_setting s
 where s.setdatabase in
   (0, (select d.oid from pg_database d where d.datname = current_database()))
union all
select '{EVERYTHING}', 'text', concat_ws(' ', 'extension', e.extname, e.extversion)
  from pg_extension e
union all
select '{EVERYTHING}', 'text', concat_ws(' ', 'operator', o.oid::regoperator, o.oprcode)
  from pg_operator o join pg_namespace n on n.oid = o.oprnamespace
 where {OURS.format(catalog="pg_operator", oid="o.oid")}
union all
select '{EVERYTHING}', 'text', concat_ws(' ', 'cast', c.castsource::regtype,
         c.casttarget::regtype, c.castfunc::regprocedure, c.castcontext, c.castmethod)
  from pg_cast c where c.oid >= 16384
"""

# What a schema's own rows hold.  When they were stored, and ids drawn at random, differ
# between any two databases and are no difference of the schemas.
CONTENTS = f"""
create or replace function pg_temp.contents() returns table (name text, digest text)
language plpgsql as $$
declare
  relation record;
begin
  for relation in
    select n.nspname, c.relname,
           array(select a.attname from pg_attribute a
                   join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
                  where a.attrelid = c.oid and pg_get_expr(d.adbin, d.adrelid)
                        ~* '{DRAWN}') as drawn
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and {RELATIONS}
  loop
    name := relation.relname;
    execute format(
      'select md5(string_agg(r.fact, chr(10) order by r.fact))'
      ' from (select (to_jsonb(t.*) - %L::text[])::text as fact from %I.%I t) r',
      relation.drawn, relation.nspname, relation.relname) into digest;
    if digest is not null then
      return next;
    end if;
  end loop;
end $$
"""


@dataclass
class Definitions:
    """One version as text: facts by key, what uses what, and what words cannot tell.

    The key of an object is its bare name.  A table's *body*, its columns, constraints
    and triggers, has a key of its own: that is what a foreign key's action meets.
    """

    facts: dict[str, list[str]] = field(default_factory=dict)
    uses: dict[str, set[str]] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)

    def add(self, name: str, kind: str, fact: str) -> None:
        """Take in a fact about ``name``.

        ``kind`` is ``text``, ``source`` (of a function, policy or default), ``opaque``,
        ``body`` (of a table), ``mute`` (body without words), ``cascade`` (the fact is
        a table that refers to this one) or ``forced`` (policies bind the owner).
        """
        key = _key(name)
        body = f"{key}{BODY}"
        if kind == "forced":
            self.uses.setdefault(body, set()).add(key)
            return
        if kind == "cascade":
            self.uses.setdefault(body, set()).add(f"{_key(fact)}{BODY}")
            return
        mute = kind == "mute" or key == EVERYTHING
        words = set() if mute else set(WORD.findall(fact.lower()))
        if kind in ("body", "mute"):
            self.uses.setdefault(key, set()).add(body)
            # A trigger says which table it stands on; that is no use of its policies.
            words.discard(key)
            key = body
        self.facts.setdefault(key, []).append(fact)
        self.uses.setdefault(key, set()).update(words)
        looks_up = kind in ("source", "body") and OPAQUE.search(fact)
        if kind == "opaque" or looks_up:
            self.opaque.add(key)


@dataclass(frozen=True, slots=True)
class Reach:
    """The bare names of what may decide otherwise in the two versions.

    ``causes`` tells, by name, which differences reach it; ``used`` are the names that
    what differs uses, the nearest first; ``near`` those that it names itself.
    """

    names: frozenset[str]
    total: bool = False
    causes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    near: frozenset[str] = frozenset()

    @property
    def changed(self) -> list[str]:
        """The names of what differs."""
        keys = {key for found in self.causes.values() for key in found}
        return sorted({key.removesuffix(BODY) for key in keys})

    def includes(self, name: str) -> bool:
        """Say whether decisions about the object called ``name`` may differ."""
        return self.total or _key(name) in self.names

    def why(self, name: str) -> list[str]:
        """Return the names of what changed and has a say about ``name``."""
        keys = self.causes.get(_key(name), frozenset())
        return sorted({key.removesuffix(BODY) for key in keys} - {_key(name)})

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not self.total and not self.names


async def read_definitions(connection: Connection) -> Definitions:
    """Read a database as text; needs a superuser."""
    found = Definitions()
    # An empty search path makes PostgreSQL write every name with its schema.
    for row in await connection.fetch(QUERY):
        found.add(row["name"], row["kind"], row["fact"] or "")
    await connection.execute(CONTENTS)
    for row in await connection.fetch("select name, digest from pg_temp.contents()"):
        found.add(row["name"], "mute", row["digest"])
    return found


def reach_of(base: Definitions, head: Definitions) -> Reach:
    """Return what the differences of two versions reach."""
    differing = {
        key
        for key in base.facts.keys() | head.facts.keys()
        if sorted(base.facts.get(key, [])) != sorted(head.facts.get(key, []))
    }
    if EVERYTHING in differing:
        return Reach(frozenset(), total=True)
    users = _users(base, head)
    causes: dict[str, set[str]] = {}
    for cause in sorted(differing):
        for key in _reached(cause, users):
            causes.setdefault(key, set()).add(cause)
    reached = set(causes)
    for key in base.opaque | head.opaque if differing else ():
        reached |= _reached(key, users)
    told = {key: frozenset(found) for key, found in causes.items()}
    near = {
        key.removesuffix(BODY)
        for cause in differing
        for version in (base, head)
        for key in version.uses.get(cause, ())
    }
    return Reach(
        frozenset(reached),
        causes=told,
        used=_used(sorted(differing), base, head),
        near=frozenset(near),
    )


def _used(starts: Sequence[str], *versions: Definitions) -> tuple[str, ...]:
    """Return the names of what ``starts`` use, at any distance, the nearest first."""
    found: dict[str, None] = {}
    waiting = list(starts)
    while waiting:
        nearest = dict.fromkeys(key for key in waiting if key not in found)
        found |= nearest
        waiting = [
            used
            for key in nearest
            for version in versions
            for used in sorted(version.uses.get(key, ()))
            if used in version.facts
        ]
    return tuple(dict.fromkeys(key.removesuffix(BODY) for key in found))


def _reached(start: str, users: Mapping[str, set[str]]) -> set[str]:
    """Return ``start`` and everything that uses it, at any distance."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += users.get(key, ())
    return reached


def _users(*versions: Definitions) -> Mapping[str, set[str]]:
    """Return, by key, the keys of what uses it."""
    users: dict[str, set[str]] = {}
    for version in versions:
        for user, used in version.uses.items():
            for key in used:
                users.setdefault(key, set()).add(user)
    return users


def _key(name: str) -> str:
    """Return the word by which an object is found: the first of an unusual name."""
    if name == EVERYTHING:
        return name
    found = WORD.search(name.lower())
    return found[0] if found else EVERYTHING
