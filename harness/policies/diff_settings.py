"""Compares settings that show or accept more: buckets, the publication, TRUNCATE.

Also lists what only the new version has; whether that is right is for a check to say.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.db.catalog import API_ROLES, Bucket, Function
from harness.policies.decisions import Decisions
from harness.policies.diff_changes import SETTINGS_SCOPE, Change, Direction
from harness.policies.diff_world import Pair

__all__ = ["compare_settings", "new_objects"]


async def compare_settings(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return the changes of settings that change what is visible or accepted."""
    return [*_buckets(pair), *_published(pair, decisions), *_truncate(pair)]


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


def new_objects(pair: Pair) -> Iterator[tuple[str, str]]:
    """Yield (object, sentence) of what only one version has."""
    base, head = pair.base.catalog, pair.head.catalog
    for name, relation in head.relations.items():
        old = base.relations.get(name)
        if old is None:
            guarded = "" if relation.rls or not relation.is_table else " without RLS"
            yield (
                str(name),
                f"new {relation.kind}{guarded}: judge it with harness check",
            )
            continue
        if head.published(name) and not base.published(name):
            yield str(name), "published: its readers can follow its changes"
        added = [c.name for c in relation.columns if not old.has_column(c.name)]
        if added:
            yield str(name), f"new columns: {', '.join(added)}"
    for name, relation in base.relations.items():
        if name not in head.relations:
            yield str(name), f"{relation.kind} is gone"
    before, after = (
        {f.signature: roles for f in side.functions if (roles := _callers(f))}
        for side in (base, head)
    )
    for signature, roles in after.items():
        if signature not in before:
            told = f"new function, callable by {', '.join(roles)}"
            yield signature, f"{told}: judge it with harness check"
    for signature in before:
        if signature not in after:
            yield signature, "function can be called no more"


def _callers(function: Function) -> list[str]:
    """Return the API roles that can call a function."""
    return (
        [] if function.is_trigger else sorted(function.executable_by & set(API_ROLES))
    )
