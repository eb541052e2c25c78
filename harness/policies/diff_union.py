"""The union of two versions of a schema: what a world must be to fit both.

A row that satisfies the union's checks, keys and types can be stored in either version,
and values mined from its policies and functions reach the branches of both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from harness.db.catalog import (
    Bucket,
    Catalog,
    Column,
    Function,
    Policy,
    Privileges,
    Relation,
)

__all__ = ["common_catalog", "common_relation", "union_catalog"]

Item = TypeVar("Item")


def union_catalog(base: Catalog, head: Catalog) -> Catalog:
    """Return everything that either version has, with the stricter columns."""
    relations = dict(base.relations)
    for name, relation in head.relations.items():
        old = base.relations.get(name)
        relations[name] = relation if old is None else _union(old, relation)
    return replace(
        head,
        relations=relations,
        views={**base.views, **head.views},
        functions=_union_functions(base.functions, head.functions),
        buckets=_union_buckets(base.buckets, head.buckets),
    )


def common_catalog(base: Catalog, head: Catalog) -> Catalog:
    """Return the tables of both versions with the columns of both, as ``head`` has."""
    relations = {
        name: common_relation(base.relations[name], relation)
        for name, relation in head.relations.items()
        if name in base.relations
    }
    return replace(head, relations=relations)


def common_relation(base: Relation, head: Relation) -> Relation:
    """Return ``head`` without the columns that ``base`` lacks."""
    shared = tuple(c for c in head.columns if base.has_column(c.name))
    return replace(head, columns=shared)


def _union(base: Relation, head: Relation) -> Relation:
    columns = [
        _stricter(base.column(column.name), column)
        if base.has_column(column.name)
        else column
        for column in head.columns
    ]
    columns += [column for column in base.columns if not head.has_column(column.name)]
    return replace(
        head,
        columns=tuple(columns),
        checks=_distinct((*head.checks, *base.checks), "expression"),
        foreign_keys=_distinct((*head.foreign_keys, *base.foreign_keys), "columns"),
        unique_keys=_distinct((*head.unique_keys, *base.unique_keys), "columns"),
        policies=_union_policies(base.policies, head.policies),
        triggers=_distinct((*head.triggers, *base.triggers), "name"),
        privileges={
            role: _either(base.privileges.get(role), head.privileges.get(role))
            for role in {**base.privileges, **head.privileges}
        },
    )


def _stricter(base: Column, head: Column) -> Column:
    lengths = [n for n in (base.max_length, head.max_length) if n is not None]
    labels = tuple(label for label in head.labels if label in base.labels)
    return replace(
        head,
        not_null=base.not_null or head.not_null,
        default=head.default if base.default else "",
        generated=base.generated or head.generated,
        identity=base.identity or head.identity,
        labels=labels or head.labels,
        domain_checks=tuple(dict.fromkeys((*head.domain_checks, *base.domain_checks))),
        max_length=min(lengths) if lengths else None,
    )


def _distinct(items: tuple[Item, ...], attribute: str) -> tuple[Item, ...]:
    kept: dict[object, Item] = {}
    for item in items:
        kept.setdefault(getattr(item, attribute), item)
    return tuple(kept.values())


def _union_policies(
    base: tuple[Policy, ...], head: tuple[Policy, ...]
) -> tuple[Policy, ...]:
    """Return the policies of both, each condition once, names and order aside."""
    kept: dict[object, Policy] = {}
    for policy in (*base, *head):
        what = (policy.command, policy.permissive, policy.using, policy.check)
        kept.setdefault(what, policy)
    return tuple(kept[what] for what in sorted(kept, key=str))


def _either(base: Privileges | None, head: Privileges | None) -> Privileges:
    base, head = base or Privileges(), head or Privileges()
    columns = {
        name: base.columns.get(name, frozenset()) | head.columns.get(name, frozenset())
        for name in {**base.columns, **head.columns}
    }
    return Privileges(base.table | head.table, columns)


def _union_functions(
    base: tuple[Function, ...], head: tuple[Function, ...]
) -> tuple[Function, ...]:
    kept: dict[tuple[str, str], Function] = {}
    for function in (*head, *base):
        kept.setdefault((function.signature, function.source), function)
    return tuple(kept[key] for key in sorted(kept))


def _union_buckets(
    base: tuple[Bucket, ...], head: tuple[Bucket, ...]
) -> tuple[Bucket, ...]:
    kept = {bucket.id: bucket for bucket in (*base, *head)}
    return tuple(kept[key] for key in sorted(kept))
