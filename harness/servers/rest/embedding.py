"""Which relationship an embedded resource means, and what to say when none or many do.

A target is the name of a table, of a foreign key, or of a foreign key column of the
origin; a hint narrows it by foreign key, column or junction table.

Source: PostgREST v14, "Resource Embedding".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.protocols.postgrest_errors import RestError
from harness.servers.rest.hints import closest
from harness.servers.rest.schema import (
    QualifiedName,
    Relationship,
    SchemaCache,
)

__all__ = ["find_relationship"]

# The order in which several choices are told.
CARDINALITIES = (
    "one-to-many",
    "many-to-one",
    "one-to-one",
    "many-to-many",
    "computed",
)


def find_relationship(
    cache: SchemaCache, origin: QualifiedName, target: str, hint: str | None
) -> Relationship:
    """Return the one relationship from ``origin`` that fits, or raise ``RestError``."""
    candidates = [
        rel
        for rel in cache.relationships.get(origin, ())
        if rel.target.schema == origin.schema and _exposed(cache, rel)
    ]
    found = [rel for rel in candidates if _fits(cache, rel, target, hint)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _none_found(cache, origin, target, hint, candidates)
    raise _many_found(origin, target, found)


def _exposed(cache: SchemaCache, rel: Relationship) -> bool:
    return rel.junction is None or rel.junction.table in cache.tables


def _fits(cache: SchemaCache, rel: Relationship, target: str, hint: str | None) -> bool:
    if rel.function is not None:
        return rel.function.name == target
    if rel.is_self:
        return _fits_self(rel, target, hint)
    if hint is not None:
        return target == rel.target.name and _hinted(rel, hint)
    if target == rel.target.name:
        return True
    table = cache.tables.get(rel.target)
    if table is not None and table.is_view:
        return False  # a key or column names its table, never a view upon it
    return target in (rel.constraint, _own_column(rel))


def _fits_self(rel: Relationship, target: str, hint: str | None) -> bool:
    # One key of a table to itself is two relationships; by convention the table's
    # name means the many side and the column's name the one side.
    named = target == rel.target.name
    if hint is None:
        if rel.cardinality == "many-to-one":
            return target == _own_column(rel)
        return named and rel.cardinality == "one-to-many"
    if rel.cardinality == "many-to-many":
        return named and _hinted(rel, hint)
    return (
        named
        and rel.cardinality == "one-to-many"
        and hint
        in (
            _target_column(rel),
            rel.constraint,
        )
    )


def _hinted(rel: Relationship, hint: str) -> bool:
    if rel.junction is not None:
        return hint == rel.junction.table.name
    return hint in (rel.constraint, _own_column(rel), _target_column(rel))


def _own_column(rel: Relationship) -> str | None:
    return rel.columns[0][0] if len(rel.columns) == 1 else None


def _target_column(rel: Relationship) -> str | None:
    return rel.columns[0][1] if len(rel.columns) == 1 else None


def _none_found(
    cache: SchemaCache,
    origin: QualifiedName,
    target: str,
    hint: str | None,
    candidates: Sequence[Relationship],
) -> RestError:
    using = f"' using the hint '{hint}" if hint is not None else ""
    return RestError(
        400,
        "PGRST200",
        f"Could not find a relationship between '{origin.name}' and '{target}' in the "
        "schema cache",
        details="Searched for a foreign key relationship between "
        f"'{origin.name}' and '{target}{using}' in the schema '{origin.schema}', but "
        "no matches were found.",
        hint=_suggestion(cache, origin, target, candidates),
    )


def _suggestion(
    cache: SchemaCache,
    origin: QualifiedName,
    target: str,
    candidates: Iterable[Relationship],
) -> str | None:
    if origin in cache.relationships:
        meant = closest(target, (rel.target.name for rel in candidates))
        wrong = target
    else:
        names = (n.name for n in cache.relationships if n.schema == origin.schema)
        meant = closest(origin.name, names)
        wrong = origin.name
    if meant is None or meant == wrong:
        return None
    return f"Perhaps you meant '{meant}' instead of '{wrong}'."


def _many_found(
    origin: QualifiedName, target: str, found: Sequence[Relationship]
) -> RestError:
    found = sorted(found, key=lambda rel: CARDINALITIES.index(rel.cardinality))
    choices = ", ".join(f"'{rel.target.name}!{_distinction(rel)}'" for rel in found)
    return RestError(
        300,
        "PGRST201",
        "Could not embed because more than one relationship was found for "
        f"'{origin.name}' and '{target}'",
        details=[_described(rel) for rel in found],
        hint=f"Try changing '{target}' to one of the following: {choices}. Find the "
        "desired relationship in the 'details' key.",
    )


def _distinction(rel: Relationship) -> str:
    return rel.junction.table.name if rel.junction is not None else rel.constraint


def _described(rel: Relationship) -> dict[str, Any]:
    if rel.junction is not None:
        junction = rel.junction
        first = _listed(own for _, own in junction.source_columns)
        second = _listed(own for _, own in junction.target_columns)
        relationship = (
            f"{junction.table.name} using {junction.source_constraint}{first} and "
            f"{junction.target_constraint}{second}"
        )
    else:
        own = _listed(column for column, _ in rel.columns)
        other = _listed(column for _, column in rel.columns)
        relationship = (
            f"{rel.constraint} using {rel.table.name}{own} and {rel.target.name}{other}"
        )
    return {
        "cardinality": rel.cardinality,
        "embedding": f"{rel.table.name} with {rel.target.name}",
        "relationship": relationship,
    }


def _listed(columns: Iterable[str]) -> str:
    return f"({', '.join(columns)})"
