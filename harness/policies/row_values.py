"""Fills in the values of a planned row: owners, parents, tenants, paths, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.db.catalog import Column, Name, Relation
from harness.policies.clan_claims import PlannedRow
from harness.policies.comparisons import Col
from harness.policies.kept_apart import agree
from harness.policies.mining import Mined
from harness.policies.ownership import Attribute, Ownership, Part, TableOwnership
from harness.policies.personas import Cast, User
from harness.policies.storage_paths import PathMaker
from harness.policies.values import Values
from harness.policies.variants import Variants

__all__ = ["RowFiller", "is_granted_by_row"]

RowValues = Mapping[str, str | None]
RowKey = tuple[str | None, ...]


@dataclass
class RowFiller:
    """Gives every column of a row its value; ``by_table`` holds the rows so far."""

    mined: Mined
    ownership: Ownership
    cast: Cast
    variants: Variants
    values: Values
    paths: PathMaker
    by_table: Mapping[Name, Sequence[PlannedRow]]
    tenant_values: dict[tuple[str, str], str | None] = field(default_factory=dict)
    pooled: dict[tuple[Name, str], int] = field(default_factory=dict)
    numbers: dict[tuple[Name, str], list[str | None]] = field(default_factory=dict)
    numbered: dict[tuple[Name, RowKey], int] = field(default_factory=dict)

    def row(
        self,
        relation: Relation,
        clan: str,
        user: User | None,
        variant: RowValues,
        parents: Mapping[str, str | None],
    ) -> dict[str, str | None]:
        """Return the values of a row of ``user`` (None for nobody) in ``clan``."""
        owned = self.ownership.of(relation.name)
        values: dict[str, str | None] = {}
        for column in relation.columns:
            name, col = column.name, Col(relation.name, column.name)
            if column.generated:
                continue
            if name in variant and (variant[name] is None or not _is_key(owned, name)):
                values[name] = variant[name]
            elif parents.get(name) is not None:
                values[name] = parents[name]
            elif owned.part_of(name) is not None:
                values[name] = self._user_value(relation, name, clan, user, values)
            elif name in parents:
                values[name] = parents[name]
            elif name in owned.tenants or self._is_tenant_key(relation, clan, name):
                values[name] = self._tenant(clan, relation, name)
            elif _begins_anew(relation, column):
                values[name] = self._numbered(relation, column, parents)
            elif (
                name in relation.primary_key
                or column.identity
                or not column.default
                or (column.base_type in ("json", "jsonb") and not self._is_read(col))
            ):
                values[name] = self.values.fresh(relation, column)
        self._attributes(relation, user, values)
        self._differ(relation, values)
        return values

    def _numbered(
        self,
        relation: Relation,
        column: Column,
        parents: Mapping[str, str | None],
    ) -> str | None:
        """Return the next value of a key's part; they begin anew in every parent.

        A policy that forgot the other part of the key then meets rows of others.
        """
        rest = tuple(
            parents.get(name) for name in relation.primary_key if name != column.name
        )
        if None in rest:
            return self.values.fresh(relation, column)
        drawn = self.numbers.setdefault((relation.name, column.name), [])
        place = self.numbered.get((relation.name, rest), 0)
        self.numbered[relation.name, rest] = place + 1
        if place == len(drawn):
            drawn.append(self.values.fresh(relation, column))
        return drawn[place]

    def _is_read(self, column: Col) -> bool:
        """Say whether policies, checks or helpers look into a document."""
        read = {*self.mined.constants, *self.mined.policy_columns}
        return any((c.table, c.column) == (column.table, column.column) for c in read)

    def _differ(self, relation: Relation, values: dict[str, str | None]) -> None:
        """Give columns that must differ from row to row a value not used yet."""
        for (table, name), pool in self.variants.pools.items():
            if table == relation.name and values.get(name) is not None:
                used = self.pooled.setdefault((table, name), 0)
                if used < len(pool):
                    values[name] = pool[used]
                    self.pooled[table, name] = used + 1

    def _user_value(
        self,
        relation: Relation,
        column: str,
        clan: str,
        user: User | None,
        values: Mapping[str, str | None],
    ) -> str | None:
        if user is None:
            return None
        owned = self.ownership.of(relation.name)
        peers = [peer.id for peer in self.cast.clan(clan) if peer.rows]
        others = [peer for peer in peers if peer != user.id] or peers
        if owned.part_of(column) is Part.REFERENCE:
            references = [u.column for u in owned.users if u.part is Part.REFERENCE]
            place = references.index(column) % len(others)
            turned = [*others[place:], *others[:place]]
        else:
            turned = [user.id, *others]
        fitting = (i for i in turned if agree(relation, {**values, column: i}))
        return next(fitting, turned[0])

    def _attributes(
        self, relation: Relation, user: User | None, values: dict[str, str | None]
    ) -> None:
        for attribute in self.ownership.attributes:
            if attribute.table != relation.name or user is None:
                continue
            key = (attribute.table, attribute.column)
            if key in user.attributes:
                if not attribute.is_row:
                    values[attribute.column] = user.attributes[key]
            elif is_granted_by_row(relation, attribute):
                values[attribute.column] = None
                values[attribute.user_column] = None

    def _tenant(self, clan: str, relation: Relation, column: str) -> str | None:
        """Return the clan's value for a tenant column, one for all that mean the same.

        Columns mean the same when they are compared with the same claim, else when
        they have the same name.
        """
        col = Col(relation.name, column)
        paths = [p for p, cols in self.mined.claim_columns.items() if col in cols]
        key = (clan, "/".join(paths[0]) if paths else column)
        if key not in self.tenant_values:
            fresh = self.values.fresh(relation, relation.column(column))
            self.tenant_values[key] = fresh
        return self.tenant_values[key]

    def _is_tenant_key(self, relation: Relation, clan: str, column: str) -> bool:
        """Say whether this is the first row of a tenant that a claim names."""
        if not clan or relation.primary_key != (column,):
            return False
        col = Col(relation.name, column)
        named = any(
            col in cols
            for path, cols in self.mined.claim_columns.items()
            if path != ("role",)
        )
        return named and not any(r.clan == clan for r in self.by_table[relation.name])


def is_granted_by_row(relation: Relation, attribute: Attribute) -> bool:
    """Say whether having a row at all is what grants the attribute's value."""
    return attribute.is_row or any(
        {attribute.user_column, attribute.column} == set(key.columns)
        for key in relation.unique_keys
    )


def _begins_anew(relation: Relation, column: Column) -> bool:
    """Say whether ``column`` is the part of a key that people number or name."""
    whole = relation.primary_key
    return (
        len(whole) > 1
        and column.name in whole
        and not (column.identity or column.default or column.base_type == "uuid")
        and all(
            set(whole) <= set(key.columns)
            for key in relation.unique_keys
            if column.name in key.columns
        )
    )


def _keys(owned: TableOwnership) -> set[str]:
    return {column for parent in owned.parents for column in parent.columns}


def _is_key(owned: TableOwnership, name: str) -> bool:
    return owned.part_of(name) is not None or name in _keys(owned)
