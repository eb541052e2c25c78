"""Relationships between tables and views, derived from foreign keys.

A foreign key gives a many-to-one (or one-to-one) relationship and its inverse.  A view
takes part where its columns show those of the key.  A table whose primary key contains
two foreign keys makes a many-to-many relationship.  A function from a row to rows makes
a computed one, which overrides what was derived under its name.

Source: PostgREST v14, "Resource Embedding".
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.servers.rest.schema import (
    ColumnPairs,
    Junction,
    QualifiedName,
    Relationship,
    Table,
)

__all__ = ["ForeignKey", "ViewColumns", "derive_relationships", "view_primary_key"]


class ForeignKey(NamedTuple):
    """A foreign key; ``unique`` if its columns are also a key of their table."""

    table: QualifiedName
    target: QualifiedName
    constraint: str
    columns: ColumnPairs
    unique: bool


class ViewColumns(NamedTuple):
    """Which columns of a view show a column of ``table``, by that column's name."""

    view: QualifiedName
    table: QualifiedName
    shown: Mapping[str, Sequence[str]]


class _Side(NamedTuple):
    """A table, or a view that shows the key's columns under names of its own."""

    name: QualifiedName
    columns: tuple[str, ...]
    is_view: bool


def derive_relationships(
    keys: Iterable[ForeignKey],
    views: Iterable[ViewColumns],
    tables: Mapping[QualifiedName, Table],
    computed: Iterable[Relationship],
) -> dict[QualifiedName, list[Relationship]]:
    """Return the relationships of every table and view, by its name."""
    shown: dict[QualifiedName, list[ViewColumns]] = defaultdict(list)
    for view in views:
        shown[view.table].append(view)
    forward = [rel for key in keys for rel in _forward(key, shown)]
    derived = [
        *forward,
        *(_inverse(rel) for rel in forward),
        *_many_to_many(forward, tables),
    ]
    by_pair: dict[tuple[QualifiedName, QualifiedName], list[Relationship]] = (
        defaultdict(list)
    )
    for rel in derived:
        by_pair[rel.table, rel.target].append(rel)
    for rel in computed:
        if rel.function is not None:
            # The function's name stands where a table's name would.
            by_pair[rel.table, rel.function] = [rel]
    found: dict[QualifiedName, list[Relationship]] = defaultdict(list)
    for (table, _), rels in by_pair.items():
        found[table].extend(rels)
    return dict(found)


def view_primary_key(
    view: QualifiedName,
    views: Iterable[ViewColumns],
    primary_keys: Mapping[QualifiedName, Sequence[str]],
) -> tuple[str, ...]:
    """Return the columns by which a view shows a whole primary key, or none."""
    found: list[str] = []
    for columns in views:
        key = primary_keys.get(columns.table, ())
        if columns.view == view and key and all(c in columns.shown for c in key):
            found.extend(columns.shown[c][0] for c in key)
    return tuple(found)


def _forward(
    key: ForeignKey, shown: Mapping[QualifiedName, Sequence[ViewColumns]]
) -> list[Relationship]:
    own = tuple(pair[0] for pair in key.columns)
    referenced = tuple(pair[1] for pair in key.columns)
    sources = [_Side(key.table, own, False), *_view_sides(shown, key.table, own)]
    targets = [
        _Side(key.target, referenced, False),
        *_view_sides(shown, key.target, referenced),
    ]
    return [
        Relationship(
            source.name,
            target.name,
            "one-to-one" if key.unique else "many-to-one",
            key.constraint,
            tuple(zip(source.columns, target.columns, strict=True)),
        )
        for source, target in itertools.product(sources, targets)
    ]


def _view_sides(
    shown: Mapping[QualifiedName, Sequence[ViewColumns]],
    table: QualifiedName,
    columns: tuple[str, ...],
) -> list[_Side]:
    return [
        _Side(view.view, names, True)
        for view in shown.get(table, ())
        if all(column in view.shown for column in columns)
        for names in itertools.product(*(view.shown[column] for column in columns))
    ]


def _inverse(rel: Relationship) -> Relationship:
    return Relationship(
        rel.target,
        rel.table,
        "one-to-one" if rel.cardinality == "one-to-one" else "one-to-many",
        rel.constraint,
        tuple((target, own) for own, target in rel.columns),
    )


def _many_to_many(
    forward: Sequence[Relationship], tables: Mapping[QualifiedName, Table]
) -> list[Relationship]:
    by_table: dict[QualifiedName, list[Relationship]] = defaultdict(list)
    for rel in forward:
        if rel.cardinality == "many-to-one":
            by_table[rel.table].append(rel)
    found: list[Relationship] = []
    for name, rels in by_table.items():
        table = tables.get(name)
        key = set(table.primary_key) if table is not None else set()
        for first, second in itertools.permutations(rels, 2):
            used = {own for own, _ in (*first.columns, *second.columns)}
            if first.constraint != second.constraint and used <= key:
                found.append(_through(name, first, second))
    return found


def _through(
    name: QualifiedName, first: Relationship, second: Relationship
) -> Relationship:
    junction = Junction(
        name,
        first.constraint,
        second.constraint,
        tuple((target, own) for own, target in first.columns),
        tuple((target, own) for own, target in second.columns),
    )
    return Relationship(
        first.target,
        second.target,
        "many-to-many",
        junction=junction,
    )
