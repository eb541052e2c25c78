"""Fields, filters and casts as SQL: names from the schema cache, values as parameters.

A value is sent as text of unknown type, so PostgreSQL reads it as the type of what it
is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.protocols.postgrest_errors import RestError, nul_in_value
from harness.protocols.postgrest_filters import (
    PLAIN_OPERATORS,
    QUANTIFIED_OPERATORS,
    TEXT_SEARCH_FUNCTIONS,
    Filter,
    Literal,
    Logic,
    Operation,
)
from harness.protocols.postgrest_scanner import Field
from harness.servers.rest.plan import column_undefined
from harness.servers.rest.schema import Table, quote_identifier

__all__ = [
    "Params",
    "cast_sql",
    "condition_sql",
    "encoded",
    "field_sql",
    "filter_sql",
]

JSON_TYPES = ("json", "jsonb")
IS_KEYWORDS = {
    "null": "NULL",
    "not_null": "NOT NULL",
    "true": "TRUE",
    "false": "FALSE",
    "unknown": "UNKNOWN",
}

# How a filter on an embedded resource's presence is put; None for other fields.
NullTest = Callable[[Filter], str | None]


class Params:
    """The parameters of one statement, numbered as they are added.

    ``slots`` tells which of them are values that differ between requests of one shape.
    """

    __slots__ = ("slots", "values")

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.slots: dict[int, int] = {}

    def text(self, value: str) -> str:
        """Add a text value and return its placeholder."""
        if isinstance(value, Literal):
            self.slots[len(self.values)] = value.slot
        self.values.append(encoded(value))
        return f"${len(self.values)}"

    def raw(self, value: bytes | None) -> str:
        """Add bytes as they are and return the placeholder."""
        if value is not None and b"\0" in value:
            raise nul_in_value()
        self.values.append(value)
        return f"${len(self.values)}"


def encoded(value: str) -> bytes:
    """Return a text value as a parameter; raises for what text cannot hold."""
    if "\0" in value:
        raise nul_in_value()
    return value.encode()


def field_sql(params: Params, alias: str, table: Table, field: Field) -> str:
    """Return a column of ``alias``, or the JSON value that a path finds in it."""
    base = _base_type(table, field.name)
    column = f"{alias}.{quote_identifier(field.name)}"
    if not field.path:
        return column
    sql = column if base in JSON_TYPES else f"to_jsonb({column})"
    for step in field.path:
        kind = "int" if step.is_index else "text"
        sql += f"{step.arrow}{params.text(step.key)}::{kind}"
    return sql


def _base_type(table: Table, name: str) -> str:
    column = table.columns.get(name)
    if column is not None:
        return column.base_type
    base = table.computed.get(name)
    if base is None:
        raise column_undefined(table, name)
    return base


def cast_sql(types: Mapping[str, str], sql: str, cast: str | None) -> str:
    """Return ``sql`` cast to a type that exists, or raise PostgreSQL's own error."""
    if cast is None:
        return sql
    form = types.get(" ".join(cast.lower().split()))
    if form is None:
        raise RestError(400, "42704", f'type "{cast}" does not exist')
    return f"CAST({sql} AS {form})"


def filter_sql(
    params: Params,
    alias: str,
    table: Table,
    condition: Filter | Logic,
    null_test: NullTest | None = None,
) -> str:
    """Return a filter or logic tree as a boolean expression."""
    if isinstance(condition, Logic):
        joined = f" {condition.connective.upper()} ".join(
            filter_sql(params, alias, table, operand, null_test)
            for operand in condition.operands
        )
        return f"NOT ({joined})" if condition.negated else f"({joined})"
    if null_test is not None:
        sql = null_test(condition)
        if sql is not None:
            return sql
    field, operation = condition
    subject = field_sql(params, alias, table, field)
    if operation.operator in TEXT_SEARCH_FUNCTIONS:
        tsvector = not field.path and _base_type(table, field.name) == "tsvector"
        sql = _text_search(params, subject, operation, tsvector=tsvector)
    else:
        sql = condition_sql(params, subject, operation)
    return f"NOT ({sql})" if operation.negated else sql


def condition_sql(params: Params, subject: str, operation: Operation) -> str:
    """Return ``subject`` compared as ``operation`` says, negation left out."""
    name, value = operation.operator, operation.value
    if name == "in":
        # One array parameter keeps the statement the same for any number of values.
        return f"{subject} = ANY ({params.text(value)})"
    if name == "is":
        return f"{subject} IS {IS_KEYWORDS[value]}"
    if name == "isdistinct":
        return f"{subject} IS DISTINCT FROM {params.text(value)}"
    plain = PLAIN_OPERATORS.get(name)
    if plain is not None:
        return f"{subject} {plain} {params.text(value)}"
    operator, placeholder = QUANTIFIED_OPERATORS[name], params.text(value)
    if operation.quantifier is not None:
        return f"{subject} {operator} {operation.quantifier.upper()} ({placeholder})"
    return f"{subject} {operator} {placeholder}"


def _text_search(
    params: Params, subject: str, operation: Operation, *, tsvector: bool
) -> str:
    language = ""
    if operation.language is not None:
        if operation.language.isdigit():
            # PostgreSQL would take a number for an OID and fail inside.
            message = f'text search configuration "{operation.language}" does not exist'
            raise RestError(400, "42704", message)
        language = f"{params.text(operation.language)}::regconfig, "
    document = subject if tsvector else f"to_tsvector({language}{subject})"
    function = TEXT_SEARCH_FUNCTIONS[operation.operator]
    words = params.text(operation.value)
    return f"{document} @@ {function}({language}{words}::text)"
