"""Compares settings: buckets, the publication, TRUNCATE, sequences.

Also lists what only one version has, and constraints that came or went.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.db.catalog import API_ROLES, Bucket, Catalog, Function, Relation
from harness.db.catalog_reading import PLATFORM_SCHEMAS
from harness.policies.decisions import Decisions
from harness.policies.diff_changes import SETTINGS_SCOPE, Change, Direction
from harness.policies.diff_world import Pair

__all__ = ["compare_settings", "new_objects"]


async def compare_settings(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return the changes of settings that change what is visible or accepted."""
    return [
        *_buckets(pair),
        *_published(pair, decisions),
        *_truncate(pair),
        *await _sequences(pair),
    ]


def _change(
    subject: str, command: str, *, wider: bool, who: str, detail: str = ""
) -> Change:
    direction: Direction = "widened" if wider else "narrowed"
    return Change(
        object=subject,
        command=command,
        direction=direction,
        who=who,
        scope=SETTINGS_SCOPE,
        detail=detail,
    )


def _buckets(pair: Pair) -> Iterator[Change]:
    before = {bucket.id: bucket for bucket in pair.base.catalog.buckets}
    for bucket in pair.head.catalog.buckets:
        old = before.get(bucket.id)
        if old is None:
            continue
        name = f"storage bucket {bucket.id}"
        if old.public != bucket.public:
            yield _change(name, "download from", wider=bucket.public, who="anyone")
        if old.file_size_limit != bucket.file_size_limit:
            yield _change(
                name,
                "upload larger files to",
                wider=_size(bucket) > _size(old),
                who="uploaders",
                detail=f"{old.file_size_limit} -> {bucket.file_size_limit} bytes",
            )
        yield from _types(name, old, bucket)


def _size(bucket: Bucket) -> float:
    limit = bucket.file_size_limit
    return float("inf") if limit is None else float(limit)


def _types(name: str, old: Bucket, new: Bucket) -> Iterator[Change]:
    # No list accepts every type.
    before, after = set(old.allowed_mime_types), set(new.allowed_mime_types)
    command = "upload other types to"
    if before and (not after or after - before):
        told = ", ".join(sorted(after - before)) or "every type"
        yield _change(name, command, wider=True, who="uploaders", detail=told)
    if after and (not before or before - after):
        told = ", ".join(sorted(before - after)) or "types not listed"
        yield _change(name, command, wider=False, who="uploaders", detail=told)


def _published(pair: Pair, decisions: Decisions) -> Iterator[Change]:
    for relation in pair.tables:
        name = relation.name
        before, after = (
            side.catalog.published(name) for side in (pair.base, pair.head)
        )
        guarded = pair.head.catalog.relations[name].rls
        if before == after or (after and guarded):
            # Under RLS, Realtime shows a row only to those who may read it anyway.
            continue
        readers = {
            persona.role
            for persona in pair.personas
            if persona.kind != "service"
            and (
                decisions.allowed.get((persona.name, "SELECT", name))
                or pair.visible.get((persona.name, name))
            )
        }
        for role in sorted(readers):
            yield _change(str(name), "follow changes of", wider=after, who=role)


def _truncate(pair: Pair) -> Iterator[Change]:
    for relation in pair.tables:
        for role in API_ROLES:
            before, after = (
                side.catalog.relations[relation.name].may(role, "TRUNCATE")
                for side in (pair.base, pair.head)
            )
            if before != after:
                yield _change(str(relation.name), "TRUNCATE", wider=after, who=role)


SEQUENCES = """
select n.nspname || '.' || c.relname as name, r.role, u.command
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 cross join unnest($1::text[]) r (role)
 cross join (values ('nextval', 'USAGE,UPDATE'), ('setval', 'UPDATE'))
       u (command, privileges)
 where c.relkind = 'S' and n.nspname <> all($2::text[]) and n.nspname !~ '^pg_'
   and has_sequence_privilege(r.role, c.oid, u.privileges)
"""


async def _sequences(pair: Pair) -> list[Change]:
    """Compare who may draw from, and reset, the sequences of both versions."""
    held, known = [], []
    for side in (pair.base, pair.head):
        connection = side.prober.connection
        rows = await connection.fetch(SEQUENCES, API_ROLES, PLATFORM_SCHEMAS)
        held.append({(row["name"], row["command"], row["role"]) for row in rows})
        rows = await connection.fetch(
            "select n.nspname || '.' || c.relname as name from pg_class c"
            " join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S'"
        )
        known.append({row["name"] for row in rows})
    return [
        _change(name, command, wider=(name, command, role) in held[1], who=role)
        for name, command, role in sorted(held[0] ^ held[1])
        if name in known[0] & known[1]
    ]


def new_objects(pair: Pair) -> Iterator[tuple[str, str]]:
    """Yield (object, sentence) of what only one version has."""
    base, head = pair.base.catalog, pair.head.catalog
    for name, relation in head.relations.items():
        old = base.relations.get(name)
        if old is None:
            guarded = "" if relation.rls or not relation.is_table else " without RLS"
            yield str(name), f"new {relation.kind}{guarded}, judged as a check does"
            continue
        if head.published(name) and not base.published(name):
            yield str(name), "published: its readers can follow its changes"
        for told in _structure(old, relation):
            yield str(name), told
    for name, relation in base.relations.items():
        if name not in head.relations:
            yield str(name), f"{relation.kind} is gone"
    yield from _new_functions(base, head)
    before, after = ({b.id: b for b in side.buckets} for side in (base, head))
    for bucket in after.keys() - before.keys():
        public = "public " if after[bucket].public else ""
        yield f"storage bucket {bucket}", f"new {public}bucket"
    for bucket in before.keys() - after.keys():
        yield f"storage bucket {bucket}", "bucket is gone"


def _structure(old: Relation, new: Relation) -> Iterator[str]:
    """Yield what a table has more or less that no policy decides."""
    added = [c.name for c in new.columns if not old.has_column(c.name)]
    if added:
        yield f"new columns: {', '.join(added)}"
    gone = [c.name for c in old.columns if not new.has_column(c.name)]
    if gone:
        yield f"columns are gone: {', '.join(gone)}"
    before, after = ({c.expression for c in side.checks} for side in (old, new))
    for expression in sorted(before - after):
        yield f"a check is gone: {expression}"
    keys, kept = (
        {(k.columns, str(k.target)) for k in side.foreign_keys} for side in (old, new)
    )
    for columns, target in sorted(keys - kept):
        yield f"a foreign key is gone: {', '.join(columns)} to {target}"


def _new_functions(base: Catalog, head: Catalog) -> Iterator[tuple[str, str]]:
    before, after = (
        {f.signature: roles for f in side.functions if (roles := _callers(f))}
        for side in (base, head)
    )
    known = {f.signature for f in base.functions}
    for signature, roles in after.items():
        if signature not in known:
            told = f"new function, callable by {', '.join(roles)}"
            yield signature, f"{told}, judged as a check does"
    for signature in before:
        if signature not in after:
            yield signature, "function can be called no more"


def _callers(function: Function) -> list[str]:
    """Return the API roles that can call a function."""
    return (
        [] if function.is_trigger else sorted(function.executable_by & set(API_ROLES))
    )
