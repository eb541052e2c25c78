"""INSERT, UPDATE and DELETE from a JSON payload, which PostgreSQL reads itself.

The payload is one parameter; ``json_to_recordset`` gives its values the types of the
columns, so a number keeps every digit and a wrong type is PostgreSQL's own error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.protocols.postgrest_errors import column_not_found
from harness.protocols.postgrest_filters import Filter, Logic
from harness.protocols.postgrest_payload import Payload
from harness.protocols.postgrest_select import ALL_COLUMNS
from harness.servers.rest.filter_sql import Params, filter_sql
from harness.servers.rest.plan import column_undefined
from harness.servers.rest.schema import Column, Table, quote_identifier

__all__ = ["INSERTED_SETTING", "Conflict", "delete_sql", "insert_sql", "update_sql"]

TARGET = "target"  # the alias of the table written to
INSERTED_SETTING = "pgrst.inserted"  # counts the rows that an upsert inserted
_COUNT = (
    "set_config('pgrst.inserted', (coalesce("
    "nullif(current_setting('pgrst.inserted', true), '')::int, 0) {step})::text, true)"
)
COUNT_UP = _COUNT.format(step="+ 1")
COUNT_DOWN = _COUNT.format(step="- 1")


class Conflict(NamedTuple):
    """What an insert does with a row whose key exists."""

    columns: Sequence[str]
    merge: bool


def insert_sql(
    params: Params,
    table: Table,
    payload: Payload,
    returning: Sequence[str],
    *,
    conflict: Conflict | None = None,
    use_defaults: bool = False,
    key_filters: Sequence[Filter] = (),
) -> str:
    """Return the INSERT; ``key_filters`` are those a PUT's body must satisfy."""
    columns = [_writable(table, key) for key in payload.keys]
    names = ", ".join(quote_identifier(column.name) for column in columns)
    rows = _body(params, payload, columns, use_defaults=use_defaults)
    conditions = [filter_sql(params, "body", table, f) for f in key_filters]
    if conflict is not None and conflict.merge:
        # Counted up for every row here and down again for each that was there.
        conditions.insert(0, f"{COUNT_UP} <> '0'")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    into = f"INSERT INTO {table.name.sql} AS {TARGET}"
    listed = f" ({names})" if columns else ""
    select = ", ".join(f"body.{quote_identifier(c.name)}" for c in columns)
    return (
        f"{into}{listed} SELECT {select} FROM {rows} AS body{where}"
        f"{_on_conflict(table, conflict, columns)}{_returning(table, returning)}"
    )


def update_sql(
    params: Params,
    table: Table,
    payload: Payload,
    conditions: Sequence[Filter | Logic],
    returning: Sequence[str],
    *,
    use_defaults: bool = False,
) -> str:
    """Return the UPDATE of the rows that satisfy ``conditions``."""
    columns = [_writable(table, key) for key in payload.keys]
    if not columns:
        shown = _names(table, returning) if returning else "1"
        return f"SELECT {shown} FROM {table.name.sql} AS {TARGET} WHERE false"
    rows = _body(params, payload, columns, use_defaults=use_defaults)
    values = ", ".join(
        f"{quote_identifier(c.name)} = body.{quote_identifier(c.name)}" for c in columns
    )
    return (
        f"UPDATE {table.name.sql} AS {TARGET} SET {values} "
        f"FROM (SELECT * FROM {rows} AS rows LIMIT 1) AS body"
        f"{_where(params, table, conditions)}{_returning(table, returning)}"
    )


def delete_sql(
    params: Params,
    table: Table,
    conditions: Sequence[Filter | Logic],
    returning: Sequence[str],
) -> str:
    """Return the DELETE of the rows that satisfy ``conditions``."""
    return (
        f"DELETE FROM {table.name.sql} AS {TARGET}"
        f"{_where(params, table, conditions)}{_returning(table, returning)}"
    )


def _writable(table: Table, name: str) -> Column:
    column = table.columns.get(name)
    if column is None:
        raise column_not_found(table.name.name, name)
    return column


def _body(
    params: Params, payload: Payload, columns: Sequence[Column], *, use_defaults: bool
) -> str:
    """Return a FROM item with one row for each object of the payload."""
    if not columns:
        if payload.is_object:
            return "(SELECT)"
        return f"(SELECT FROM json_array_elements({params.raw(payload.text)}::json))"
    typed = ", ".join(f"{quote_identifier(c.name)} {c.type}" for c in columns)
    if not use_defaults:
        function = "json_to_record" if payload.is_object else "json_to_recordset"
        names = ", ".join(f"r.{quote_identifier(c.name)}" for c in columns)
        source = f"{function}({params.raw(payload.text)}::json)"
        return f"(SELECT {names} FROM {source} AS r({typed}))"
    return _body_with_defaults(params, payload, columns, typed)


def _body_with_defaults(
    params: Params, payload: Payload, columns: Sequence[Column], typed: str
) -> str:
    placeholder = f"{params.raw(payload.text)}::jsonb"
    each = placeholder if payload.is_object else "elements.value"
    elements = (
        ""
        if payload.is_object
        else f"jsonb_array_elements({placeholder}) AS elements, "
    )
    # Default expressions are the table's own, read from the catalog.
    pairs = ", ".join(
        f"{params.text(c.name)}::text, {c.default}"
        for c in columns
        if c.default is not None
    )
    names = ", ".join(f"r.{quote_identifier(c.name)}" for c in columns)
    return (
        f"(SELECT {names} FROM {elements}"
        f"jsonb_to_record(jsonb_build_object({pairs}) || {each}) AS r({typed}))"
    )


def _on_conflict(
    table: Table, conflict: Conflict | None, columns: Sequence[Column]
) -> str:
    if conflict is None or not conflict.columns:
        return ""
    for name in conflict.columns:
        if name not in table.columns:
            raise column_undefined(table, name)
    target = ", ".join(quote_identifier(name) for name in conflict.columns)
    if not conflict.merge or not columns:
        return f" ON CONFLICT ({target}) DO NOTHING"
    values = ", ".join(
        f"{quote_identifier(c.name)} = EXCLUDED.{quote_identifier(c.name)}"
        for c in columns
    )
    counted = f"{COUNT_DOWN} <> '-1'"
    return f" ON CONFLICT ({target}) DO UPDATE SET {values} WHERE {counted}"


def _where(params: Params, table: Table, conditions: Sequence[Filter | Logic]) -> str:
    parts = [filter_sql(params, TARGET, table, condition) for condition in conditions]
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def _returning(table: Table, names: Sequence[str]) -> str:
    return f" RETURNING {_names(table, names)}" if names else " RETURNING 1"


def _names(table: Table, names: Sequence[str]) -> str:
    parts: list[str] = []
    for name in names:
        if name == ALL_COLUMNS:
            parts.append(f"{TARGET}.*")
        elif name in table.columns or name in table.computed:
            quoted = quote_identifier(name)
            parts.append(f"{TARGET}.{quoted} AS {quoted}")
        else:
            raise column_undefined(table, name)
    return ", ".join(parts)
