"""The plan of a read: the select tree with its filters, orders and ranges in place.

Each node is a table (or the rows of a write or function) and what to return of it; a
child node is an embedded resource with the relationship that joins it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.protocols.postgrest import EVERYTHING, Query, RowRange
from harness.protocols.postgrest_errors import (
    RestError,
    aggregates_not_allowed,
    not_embedded,
    table_not_found,
)
from harness.protocols.postgrest_filters import Filter, Logic, Path
from harness.protocols.postgrest_order import OrderTerm
from harness.protocols.postgrest_select import ALL_COLUMNS, SelectEmbed, SelectField
from harness.servers.rest.embedding import find_relationship
from harness.servers.rest.hints import closest
from harness.servers.rest.schema import (
    QualifiedName,
    Relationship,
    SchemaCache,
    Table,
)

__all__ = [
    "ReadNode",
    "column_undefined",
    "counts_rows",
    "find_table",
    "needed_columns",
    "output_name",
    "plan_read",
]


@dataclass(slots=True)
class ReadNode:
    """One resource of a read; ``embed`` and ``relationship`` are unset at the root."""

    table: Table
    fields: list[SelectField]
    children: list[ReadNode] = field(default_factory=list)
    filters: list[Filter | Logic] = field(default_factory=list)
    order: tuple[OrderTerm, ...] = ()
    rows: RowRange = EVERYTHING
    embed: SelectEmbed | None = None
    relationship: Relationship | None = None

    @property
    def name(self) -> str:
        """The name under which the parent shows and addresses it."""
        if self.embed is None:
            return self.table.name.name
        return self.embed.alias or self.embed.name

    @property
    def spread(self) -> bool:
        """Whether its fields go into the parent's."""
        return self.embed is not None and self.embed.spread

    @property
    def inner(self) -> bool:
        """Whether a parent without a related row is left out."""
        return self.embed is not None and self.embed.join == "inner"

    @property
    def to_one(self) -> bool:
        """Whether there is at most one row for each parent."""
        return self.relationship is not None and self.relationship.to_one

    @property
    def aggregated(self) -> bool:
        """Whether a field, or one that a to-one spread brings up, is an aggregate."""
        return any(item.aggregate for item in self.fields) or any(
            child.spread and child.to_one and child.aggregated
            for child in self.children
        )

    @property
    def shows_nothing(self) -> bool:
        """Whether it was embedded only to filter by it: ``clients()``."""
        return not self.fields and all(child.shows_nothing for child in self.children)

    def child(self, name: str) -> ReadNode | None:
        """Return the embedded resource shown or named ``name``."""
        for node in self.children:
            if node.embed is not None and name in (node.embed.alias, node.embed.name):
                return node
        return None


def find_table(cache: SchemaCache, name: QualifiedName) -> Table:
    """Return the table or view ``name``, or raise ``RestError``."""
    table = cache.tables.get(name)
    if table is not None:
        return table
    names = (n.name for n in cache.tables if n.schema == name.schema)
    meant = closest(name.name, names)
    hint = f"Perhaps you meant the table '{name.schema}.{meant}'" if meant else None
    raise table_not_found(name.schema, name.name, hint)


def plan_read(
    cache: SchemaCache,
    table: Table,
    query: Query,
    *,
    filter_root: bool = True,
    max_rows: int | None = None,
    aggregates: bool = False,
) -> ReadNode:
    """Return the plan of reading ``table`` as ``query`` asks.

    ``filter_root`` is off after a write, whose filters chose the rows already.
    """
    root = _node(cache, table, query.select)
    if not aggregates and _uses_aggregates(root):
        raise aggregates_not_allowed()
    for path, condition in query.filters:
        if path or filter_root:
            _at(root, path).filters.append(condition)
    for path, tree in query.logic:
        if path or filter_root:
            _at(root, path).filters.append(tree)
    for path, terms in query.orders.items():
        _at(root, path).order = terms
    for path, rows in query.ranges.items():
        if path:
            _at(root, path).rows = rows
    if max_rows is not None:
        _limit(root, max_rows)
    return root


def _node(
    cache: SchemaCache, table: Table, items: Sequence[SelectField | SelectEmbed]
) -> ReadNode:
    node = ReadNode(table, [item for item in items if isinstance(item, SelectField)])
    for item in items:
        if isinstance(item, SelectEmbed):
            rel = find_relationship(cache, table.name, item.name, item.hint)
            target = cache.tables.get(rel.target)
            if target is None:
                raise table_not_found(rel.target.schema, rel.target.name, None)
            child = _node(cache, target, item.items)
            child.embed, child.relationship = item, rel
            node.children.append(child)
    return node


def _at(node: ReadNode, path: Path) -> ReadNode:
    for name in path:
        child = node.child(name)
        if child is None:
            raise not_embedded(name)
        node = child
    return node


def _limit(node: ReadNode, max_rows: int) -> None:
    limit = node.rows.limit
    if limit is None or limit > max_rows:
        node.rows = node.rows._replace(limit=max_rows)
    for child in node.children:
        _limit(child, max_rows)


def _uses_aggregates(node: ReadNode) -> bool:
    return any(item.aggregate for item in node.fields) or any(
        _uses_aggregates(child) for child in node.children
    )


def output_name(item: SelectField) -> str:
    """Return the key under which a field appears in the answer."""
    if item.alias is not None:
        return item.alias
    if item.aggregate is not None:
        return item.aggregate
    for step in reversed(item.field.path):
        if not step.is_index:
            return step.key
    return item.field.name


def counts_rows(table: Table, item: SelectField) -> bool:
    """Tell whether a field is ``count`` without being a column.

    PostgreSQL reads ``row.count`` as ``count(row)``, and applications rely on it:
    ``select=name,cities(count)`` works while aggregates are off.
    """
    return (
        item.field.name == "count"
        and not item.field.path
        and item.aggregate is None
        and "count" not in table.columns
        and "count" not in table.computed
    )


def needed_columns(node: ReadNode) -> list[str]:
    """Return the columns of a written row that the answer is made of, ``*`` for all.

    Asking for no more matters: a role may read some columns and not others.
    """
    names = dict.fromkeys(
        item.field.name for item in node.fields if not counts_rows(node.table, item)
    )
    for term in node.order:
        if term.relation is None:
            names[term.field.name] = None
    for child in node.children:
        rel = child.relationship
        if rel is None:
            continue
        if rel.function is not None:
            return [ALL_COLUMNS]  # the function takes the whole row
        pairs = rel.columns if rel.junction is None else rel.junction.source_columns
        names.update(dict.fromkeys(own for own, _ in pairs))
    return [ALL_COLUMNS] if ALL_COLUMNS in names else list(names)


def column_undefined(table: Table, column: str) -> RestError:
    """Return PostgreSQL's own error for a column that is not there."""
    meant = closest(column, table.columns)
    label = table.name.name
    hint = None
    if meant is not None:
        hint = f'Perhaps you meant to reference the column "{label}.{meant}".'
    return RestError(400, "42703", f"column {label}.{column} does not exist", hint=hint)
