"""Which tables hang on which: what belongs to somebody, and what to insert first."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.db.catalog import Catalog, Name, Relation
from harness.policies.mining import Mined
from harness.policies.ownership import Ownership
from harness.policies.storage_paths import OBJECTS

__all__ = ["BARRING_NAME", "SKIPPED", "insertion_order", "rooted_tables"]

# A table whose rows take rights away from the user that they name.
BARRING_NAME = re.compile(
    r"(^|_)(bans?|banned|block(s|ed|list)|suspensions?|mutes?|muted|kicks?|sanctions?|"
    r"restrictions?|strikes?|penalt(y|ies)|lockouts?|blacklist)(_|$)"
)
# Tables that worlds leave as they are.
SKIPPED = (Name("storage", "buckets"), Name("realtime", "messages"))


def rooted_tables(
    catalog: Catalog, mined: Mined, ownership: Ownership
) -> frozenset[Name]:
    """Return the tables whose rows belong to somebody, directly or through a parent."""
    rooted = {t.table for t in ownership.tables.values() if t.users or t.tenants}
    for table in ownership.tables.values():
        if table.membership:
            rooted |= {parent.target for parent in table.parents}
    rooted |= {
        col.table
        for path, cols in mined.claim_columns.items()
        for col in cols
        if path not in (("role",), ("email",))
    }
    rooted -= set(SKIPPED)
    grown = True
    while grown:
        children = {
            table.table
            for table in ownership.tables.values()
            if any(
                parent.target in rooted and parent.target != table.table
                for parent in table.parents
            )
        }
        grown = not children <= rooted
        rooted |= children
    return frozenset(rooted)


def insertion_order(catalog: Catalog) -> list[Relation]:
    """Return tables so that what rows refer to comes first, as far as cycles allow."""
    pending = {relation.name: relation for relation in catalog.tables}
    ordered: list[Relation] = []
    while pending:
        ready = [
            relation
            for relation in pending.values()
            if not any(
                _blocks(key.target, relation, pending, key.columns)
                for key in relation.foreign_keys
            )
        ] or [min(pending.values(), key=lambda r: _weight(r, pending))]
        ordered += [pending.pop(relation.name) for relation in ready]
    return [r for r in ordered if r.name != OBJECTS] + [
        r for r in ordered if r.name == OBJECTS
    ]


def _blocks(
    target: Name,
    relation: Relation,
    pending: Mapping[Name, Relation],
    columns: tuple[str, ...],
) -> bool:
    return target in pending and target != relation.name and bool(columns)


def _weight(relation: Relation, pending: Mapping[Name, Relation]) -> tuple[int, str]:
    """Prefer breaking a cycle at the table with the fewest NOT NULL references."""
    needed = sum(
        key.target in pending
        and all(relation.column(name).not_null for name in key.columns)
        for key in relation.foreign_keys
    )
    return needed, str(relation.name)
