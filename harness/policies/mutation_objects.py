"""Faults in functions, triggers, views, buckets and publications."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.db.catalog import Bucket, Catalog, Function, quote_identifier
from harness.db.catalog_reading import PLATFORM_SCHEMAS
from harness.policies.mutant import Mutant
from harness.policies.mutation_expressions import statement_variations
from harness.policies.values import literal

__all__ = ["object_mutants"]

CALLER = r"auth\.(?:uid|jwt|role|email)\s*\(\)"
# `if <something of the caller> then raise ...; end if;`, with one statement inside.
REFUSAL = re.compile(
    rf"\bif\b(?:(?!\bthen\b|;).)*?{CALLER}(?:(?!\bthen\b|;).)*?\bthen\s+raise\b[^;]*;"
    r"\s*end\s+if\s*;",
    re.IGNORECASE | re.DOTALL,
)
CALLED = re.compile(r"\bperform\s+((?:\w+\.)?\w+)\s*\([^;]*;", re.IGNORECASE)
PUBLICATION = "supabase_realtime"


def object_mutants(catalog: Catalog) -> Iterator[Mutant]:
    """Yield the mutants of functions, triggers, views, buckets and publications."""
    for function in catalog.functions:
        if function.kind in ("f", "p"):
            yield from _of_function(function)
            yield from _of_body(function, catalog)
    yield from _triggers(catalog)
    yield from _views(catalog)
    for bucket in catalog.buckets:
        yield from _of_bucket(bucket)
    yield from _publications(catalog)


# -- functions -------------------------------------------------------------------------


def _of_function(function: Function) -> Iterator[Mutant]:
    alter = f"alter routine {function.signature}"
    rights = "invoker" if function.security_definer else "definer"
    yield _function_mutant(
        function,
        "definer_toggled",
        f"{alter} security {rights}",
        f"it runs with the rights of its {_WHOSE[rights]}",
    )
    if "search_path" in function.settings:
        yield _function_mutant(
            function,
            "search_path_reset",
            f"{alter} reset search_path",
            "the caller's search_path says what its names mean",
        )


_WHOSE = {"invoker": "caller", "definer": "owner"}


def _of_body(function: Function, catalog: Catalog) -> Iterator[Mutant]:
    if function.language == "sql" and function.source.strip():
        for found in statement_variations(function.source, catalog):
            yield _with_body(function, found.operator, found.sql, found.change)
    if function.language == "plpgsql":
        for match in _caller_checks(function, catalog):
            start, end = match.span()
            body = f"{function.source[:start]}null;{function.source[end:]}"
            told = " ".join(match.group().split())
            yield _with_body(function, "caller_check_removed", body, f"without: {told}")


def _caller_checks(function: Function, catalog: Catalog) -> Iterator[re.Match[str]]:
    """Yield the statements that refuse a caller, directly or through a helper."""
    yield from REFUSAL.finditer(function.source)
    helpers = {
        name
        for f in catalog.functions
        if f.returns == "void" and re.search(CALLER, f.source)
        for name in (str(f.name), f.name.name)
    }
    for match in CALLED.finditer(function.source):
        if match.group(1) in helpers:
            yield match


def _with_body(function: Function, operator: str, body: str, means: str) -> Mutant:
    changed = function.definition.replace(function.source, f"\n{body}\n", 1)
    return _function_mutant(function, operator, changed.rstrip(), means)


def _function_mutant(function: Function, operator: str, sql: str, means: str) -> Mutant:
    where = f"function {function.signature}"
    return Mutant(operator=operator, where=where, sql=sql, means=means)


# -- triggers and views ----------------------------------------------------------------


def _triggers(catalog: Catalog) -> Iterator[Mutant]:
    for relation in catalog.relations.values():
        if relation.partition_of is not None:
            continue
        for trigger in relation.triggers:
            if trigger.function.schema in PLATFORM_SCHEMAS:
                continue
            name = quote_identifier(trigger.name)
            yield Mutant(
                operator="trigger_dropped",
                where=f"{relation.name} trigger {trigger.name}",
                sql=f"drop trigger {name} on {relation.name.sql}",
                means=f"{trigger.function} is not run any more",
            )


def _views(catalog: Catalog) -> Iterator[Mutant]:
    for view in catalog.views.values():
        if view.security_invoker:
            yield Mutant(
                operator="security_invoker_reset",
                where=f"view {view.name}",
                sql=f"alter view {view.name.sql} reset (security_invoker)",
                means="it reads with the rights of its owner",
            )


# -- buckets and publications ----------------------------------------------------------


def _of_bucket(bucket: Bucket) -> Iterator[Mutant]:
    changes = []
    if not bucket.public:
        changes.append(("bucket_made_public", "public = true", "anybody may download"))
    if bucket.file_size_limit is not None:
        told = "files of any size are taken"
        changes.append(("bucket_limit_removed", "file_size_limit = null", told))
    if bucket.allowed_mime_types:
        told = "files of any type are taken"
        changes.append(("bucket_limit_removed", "allowed_mime_types = null", told))
    for operator, change, means in changes:
        yield Mutant(
            operator=operator,
            where=f"bucket {bucket.id}",
            sql=f"update storage.buckets set {change} where id = {literal(bucket.id)}",
            means=means,
        )


def _publications(catalog: Catalog) -> Iterator[Mutant]:
    if not any(p.name == PUBLICATION for p in catalog.publications):
        return
    partly = {
        r.partition_of for r in catalog.relations.values() if catalog.published(r.name)
    }
    for relation in catalog.tables:
        name = relation.name
        if name.schema in PLATFORM_SCHEMAS or catalog.published(name) or name in partly:
            continue
        yield Mutant(
            operator="table_published",
            where=str(name),
            sql=f"alter publication {PUBLICATION} add table {name.sql}",
            means="its changes are sent to subscribers",
        )
