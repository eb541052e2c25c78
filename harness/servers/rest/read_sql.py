"""A read plan as one SELECT: embedded resources are lateral joins that give JSON.

A to-one resource joins as a row and is shown as an object; a to-many one joins as an
aggregated array; a spread one gives its fields to the parent, as values or arrays.
Aliases (``t0``, ``e1``) are made here, so that no name of the schema shadows another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.protocols.postgrest import EVERYTHING
from harness.protocols.postgrest_errors import (
    not_embedded,
    nul_in_value,
    operator_on_embed,
    order_not_to_one,
    query_unreadable,
)
from harness.protocols.postgrest_filters import Filter, Logic
from harness.protocols.postgrest_order import OrderTerm
from harness.protocols.postgrest_select import ALL_COLUMNS, SelectField
from harness.servers.rest.filter_sql import Params, cast_sql, field_sql, filter_sql
from harness.servers.rest.plan import ReadNode, counts_rows, output_name
from harness.servers.rest.schema import (
    ColumnPairs,
    Relationship,
    SchemaCache,
    quote_identifier,
)

__all__ = ["ReadWriter"]

SPREAD_COUNT = "pgrst_spread_count"
ORDER_KEY = "pgrst_order_"  # of keys that sort the parent but are not shown


class _Output(NamedTuple):
    """One column of a select list; ``aggregate`` is left to a parent to apply."""

    sql: str
    name: str
    grouped: bool = True
    aggregate: str | None = None
    aggregate_cast: str | None = None


class _Joined(NamedTuple):
    """An embedded resource as joined: its alias, columns and hidden sort keys."""

    node: ReadNode
    alias: str
    outputs: Sequence[_Output]
    hidden: Mapping[OrderTerm, str]

    @property
    def absent(self) -> str:
        """The condition that there is no related row."""
        if self.node.to_one:
            return f"{self.alias}.* IS NOT DISTINCT FROM NULL"
        if self.node.spread:
            return f"{self.alias}.{SPREAD_COUNT} = 0"
        return f"{self.alias}.r IS NULL"


class _Source(NamedTuple):
    """What a node's rows are read from, and what ties them to the parent's row."""

    sql: str
    join: str = ""
    conditions: Sequence[str] = ()


class ReadWriter:
    """Writes the statements of one request, sharing its parameters."""

    def __init__(self, cache: SchemaCache, params: Params) -> None:
        self._types = cache.types
        self._params = params
        self._aliases = 0

    def rows(self, node: ReadNode, source: str | None = None) -> str:
        """Return the SELECT that gives the rows of ``node``.

        ``source`` is what to read instead of the table: the rows of a write or call.
        """
        read_from = _Source(source or node.table.name.sql)
        return self._select(node, self._alias("t"), read_from)[0]

    def matching(self, node: ReadNode, source: str | None = None) -> str:
        """Return the FROM and WHERE that give every row of ``node``, for counting."""
        alias = self._alias("t")
        joined = [
            self._join(child, node, alias)
            for child in node.children
            if child.inner or _filters_name(node.filters, child.name)
        ]
        where = self._where(node, alias, [entry for entry, _ in joined], ())
        joins = "".join(sql for _, sql in joined)
        return f"FROM {source or node.table.name.sql} AS {alias}{joins}{where}"

    def _alias(self, prefix: str) -> str:
        self._aliases += 1
        return f"{prefix}{self._aliases - 1}"

    def _select(
        self,
        node: ReadNode,
        alias: str,
        source: _Source,
        hidden: Mapping[OrderTerm, str] | None = None,
        *,
        hoist: bool = False,
    ) -> tuple[str, Sequence[_Output]]:
        outputs, joined, joins = self._outputs(node, alias, hoist=hoist)
        columns = [f"{o.sql} AS {_label(o.name)}" for o in outputs]
        if not columns:
            columns = [f"{alias}.*"]
        elif _is_all(node):
            # The commonest select; the star is shorter to send and to parse.
            columns = [f"{alias}.*", *columns[len(node.table.columns) :]]
        for term, name in (hidden or {}).items():
            key = field_sql(self._params, alias, node.table, term.field)
            columns.append(f"{key} AS {name}")
        sql = (
            f"SELECT {', '.join(columns)} FROM {source.sql} AS {alias}"
            f"{source.join}{joins}"
            f"{self._where(node, alias, joined, source.conditions)}"
            f"{'' if hoist or not node.aggregated else _group_by(outputs)}"
            f"{self._order_by(node, alias, joined)}{self._range(node)}"
        )
        return sql, outputs

    def _outputs(
        self, node: ReadNode, alias: str, *, hoist: bool
    ) -> tuple[list[_Output], list[_Joined], str]:
        outputs: list[_Output] = []
        for item in node.fields:
            outputs.extend(self._field(node, alias, item, hoist=hoist))
        joined: list[_Joined] = []
        joins = ""
        for child in node.children:
            entry, sql = self._join(child, node, alias)
            joined.append(entry)
            joins += sql
            if child.spread:
                outputs.extend(self._spread(entry, node, hoist=hoist))
            elif not child.shows_nothing:
                shown = _embedded(entry, as_jsonb=node.aggregated)
                outputs.append(_Output(shown, child.name))
        return outputs, joined, joins

    def _field(
        self, node: ReadNode, alias: str, item: SelectField, *, hoist: bool
    ) -> list[_Output]:
        if item.field.name == ALL_COLUMNS:
            if item.aggregate is None:
                return [
                    _Output(f"{alias}.{quote_identifier(name)}", name)
                    for name in node.table.columns
                ]
            value = f"ROW({alias}.*)" if hoist else "*"
        elif counts_rows(node.table, item):
            value = cast_sql(self._types, f"count({alias}.*)", item.cast)
            return [_Output(value, output_name(item), grouped=False)]
        else:
            value = field_sql(self._params, alias, node.table, item.field)
            value = cast_sql(self._types, value, item.cast)
        name = output_name(item)
        if item.aggregate is None:
            return [_Output(value, name)]
        if hoist:
            return [_Output(value, name, True, item.aggregate, item.aggregate_cast)]
        return [_Output(self._aggregate(value, item), name, grouped=False)]

    def _aggregate(self, value: str, item: SelectField | _Output) -> str:
        return cast_sql(self._types, f"{item.aggregate}({value})", item.aggregate_cast)

    def _join(
        self, child: ReadNode, parent: ReadNode, parent_alias: str
    ) -> tuple[_Joined, str]:
        alias, inner_alias = self._alias("e"), self._alias("t")
        source = self._related(child, parent, parent_alias, inner_alias)
        hidden = _hidden_keys(child, parent)
        hoist = child.spread and child.to_one
        select, outputs = self._select(child, inner_alias, source, hidden, hoist=hoist)
        present = "TRUE"
        if not child.to_one:
            select = _collected(child, select, outputs)
            if child.inner and child.spread:
                present = f"{alias}.{SPREAD_COUNT} > 0"
            elif child.inner:
                present = f"{alias}.r IS NOT NULL"
        kind = "INNER" if child.inner else "LEFT"
        join = f" {kind} JOIN LATERAL ({select}) AS {alias} ON {present}"
        return _Joined(child, alias, outputs, hidden), join

    def _related(
        self, child: ReadNode, parent: ReadNode, parent_alias: str, alias: str
    ) -> _Source:
        rel = child.relationship
        if rel is None:
            return _Source(child.table.name.sql)
        if rel.function is not None:
            row = f"({parent_alias}.*)::{parent.table.name.sql}"
            return _Source(f"{rel.function.sql}({row})")
        if rel.junction is None:
            pairs = _matching(rel.columns, parent_alias, alias)
            return _Source(child.table.name.sql, "", pairs)
        return self._through(rel, parent_alias, alias)

    def _through(self, rel: Relationship, parent_alias: str, alias: str) -> _Source:
        junction = rel.junction
        if junction is None:
            return _Source(rel.target.sql)
        between = self._alias("j")
        on = " AND ".join(_matching(junction.target_columns, alias, between))
        return _Source(
            rel.target.sql,
            f" INNER JOIN {junction.table.sql} AS {between} ON {on}",
            _matching(junction.source_columns, parent_alias, between),
        )

    def _spread(
        self, entry: _Joined, parent: ReadNode, *, hoist: bool
    ) -> list[_Output]:
        outputs: list[_Output] = []
        for item in entry.outputs:
            value = f"{entry.alias}.{quote_identifier(item.name)}"
            if not entry.node.to_one:
                value = f"COALESCE({value}, '[]'::json)"
                if parent.aggregated:
                    value = f"({value})::jsonb"
                outputs.append(_Output(value, item.name))
            elif item.aggregate is None:
                outputs.append(_Output(value, item.name))
            elif hoist:
                outputs.append(item._replace(sql=value))
            else:
                sql = self._aggregate(value, item)
                outputs.append(_Output(sql, item.name, grouped=False))
        return outputs

    def _where(
        self,
        node: ReadNode,
        alias: str,
        joined: Sequence[_Joined],
        conditions: Sequence[str],
    ) -> str:
        def null_test(condition: Filter) -> str | None:
            return _null_test(node, joined, condition)

        tested = null_test if joined else None
        parts = [
            *conditions,
            *(
                filter_sql(self._params, alias, node.table, condition, tested)
                for condition in node.filters
            ),
        ]
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def _order_by(self, node: ReadNode, alias: str, joined: Sequence[_Joined]) -> str:
        if not node.order:
            return ""
        keys: list[str] = []
        for term in node.order:
            if term.relation is None:
                key = field_sql(self._params, alias, node.table, term.field)
            else:
                key = _related_key(node, joined, term)
            keys.append(" ".join(filter(None, (key, term.direction, term.nulls))))
        return f" ORDER BY {', '.join(keys)}"

    def _range(self, node: ReadNode) -> str:
        if node.rows == EVERYTHING:
            return ""
        offset, limit = node.rows
        sql = ""
        if limit is not None:
            sql += f" LIMIT {self._params.text(str(limit))}"
        if offset:
            sql += f" OFFSET {self._params.text(str(offset))}"
        return sql


def _label(name: str) -> str:
    """Return a name that the client chose as an identifier."""
    if "\0" in name:
        raise nul_in_value()
    if not name:
        raise query_unreadable("a name in the answer cannot be empty", name)
    return quote_identifier(name)


def _is_all(node: ReadNode) -> bool:
    if node.aggregated or len(node.fields) != 1:
        return False
    return node.fields[0].field.name == ALL_COLUMNS


def _collected(node: ReadNode, select: str, outputs: Sequence[_Output]) -> str:
    """Return the rows of a to-many resource as one row of arrays, or of one array."""
    if not node.spread:
        return f"SELECT json_agg(r.*) AS r FROM ({select}) AS r"
    names = [quote_identifier(output.name) for output in outputs]
    arrays = "".join(f"json_agg(r.{name}) AS {name}, " for name in names)
    return f"SELECT {arrays}count(*) AS {SPREAD_COUNT} FROM ({select}) AS r"


def _embedded(entry: _Joined, *, as_jsonb: bool) -> str:
    if not entry.node.to_one:
        sql = f"COALESCE({entry.alias}.r, '[]'::json)"
    elif entry.hidden:
        names = ", ".join(f"'{name}'" for name in entry.hidden.values())
        return f"to_jsonb({entry.alias}.*) - ARRAY[{names}]"
    else:
        sql = f"row_to_json({entry.alias}.*)"
    # json has no equality, which GROUP BY needs.
    return f"({sql})::jsonb" if as_jsonb else sql


def _matching(pairs: ColumnPairs, left: str, right: str) -> list[str]:
    return [
        f"{right}.{quote_identifier(other)} = {left}.{quote_identifier(own)}"
        for own, other in pairs
    ]


def _group_by(outputs: Sequence[_Output]) -> str:
    # By position: a name could mean a column of the table as well.
    positions = [str(i) for i, output in enumerate(outputs, 1) if output.grouped]
    return f" GROUP BY {', '.join(positions)}" if positions else ""


def _shows(node: ReadNode, term: OrderTerm) -> bool:
    """Tell whether a related sort key is among the related row's own columns."""
    if term.field.path or (node.aggregated and not (node.spread and node.to_one)):
        return False
    return any(
        item.field.name == ALL_COLUMNS
        or (
            item.field == term.field
            and item.alias is None
            and item.cast is None
            and item.aggregate is None
        )
        for item in node.fields
    )


def _hidden_keys(child: ReadNode, parent: ReadNode) -> dict[OrderTerm, str]:
    terms = [
        term
        for term in parent.order
        if term.relation == child.name and child.to_one and not _shows(child, term)
    ]
    return {term: f"{ORDER_KEY}{i}" for i, term in enumerate(terms)}


def _related_key(node: ReadNode, joined: Sequence[_Joined], term: OrderTerm) -> str:
    relation = term.relation or ""
    for entry in joined:
        if entry.node.name != relation:
            continue
        if not entry.node.to_one:
            raise order_not_to_one(node.name, relation)
        hidden = entry.hidden.get(term)
        return f"{entry.alias}.{hidden or quote_identifier(term.field.name)}"
    raise not_embedded(relation)


def _null_test(
    node: ReadNode, joined: Sequence[_Joined], condition: Filter
) -> str | None:
    name, operation = condition.field.name, condition.operation
    if condition.field.path:
        return None
    for entry in joined:
        if entry.node.name != name:
            continue
        if operation.operator != "is" or operation.value not in ("null", "not_null"):
            if name in node.table.columns:
                return None
            raise operator_on_embed(name)
        wanted = (operation.value == "null") != operation.negated
        return entry.absent if wanted else f"NOT ({entry.absent})"
    return None


def _filters_name(conditions: Sequence[Filter | Logic], name: str) -> bool:
    return any(
        _filters_name(condition.operands, name)
        if isinstance(condition, Logic)
        else condition.field.name == name
        for condition in conditions
    )
