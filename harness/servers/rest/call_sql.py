"""A function call as SQL: named arguments out of the body or the query string."""

from __future__ import annotations

from collections.abc import Sequence

from harness.protocols.postgrest_filters import array_literal
from harness.protocols.postgrest_payload import Payload
from harness.servers.rest.filter_sql import Params
from harness.servers.rest.schema import Parameter, Routine, quote_identifier

__all__ = ["SCALAR", "call_sql"]

SCALAR = "pgrst_scalar"  # the column that a value without a name is put in


def call_sql(
    params: Params,
    routine: Routine,
    payload: Payload | None,
    pairs: Sequence[tuple[str, str]],
) -> str:
    """Return the SELECT that calls ``routine``.

    Arguments come from the JSON ``payload``, or else from ``pairs`` (a query string or
    form), where a name given twice is a list for a variadic parameter.
    """
    parameters = routine.parameters
    if len(parameters) == 1 and not parameters[0].name:
        return _call(routine, _whole_body(params, parameters[0], payload), "")
    if payload is None:
        given = [p for p in parameters if any(name == p.name for name, _ in pairs)]
        arguments = ", ".join(_argument(params, p, pairs) for p in given)
        return _call(routine, arguments, "")
    given = [p for p in parameters if p.name in payload.keys]
    if not given:
        return _call(routine, "", "")
    typed = ", ".join(f"{quote_identifier(p.name)} {p.type}" for p in given)
    # One row: a call takes the first object of an array, as PostgREST does.
    function = "json_to_record" if payload.is_object else "json_to_recordset"
    source = f"{function}({params.raw(payload.text)}::json) AS r({typed})"
    arguments = ", ".join(
        f"{_prefix(p)}{quote_identifier(p.name)} := "
        f"arguments.{quote_identifier(p.name)}"
        for p in given
    )
    rows = f"(SELECT * FROM {source} LIMIT 1) AS arguments"
    return _call(routine, arguments, rows)


def _call(routine: Routine, arguments: str, rows: str) -> str:
    call = f"{routine.name.sql}({arguments})"
    if not routine.composite:
        source = f" FROM {rows}" if rows else ""
        return f"SELECT {call} AS {SCALAR}{source}"
    source = f"{rows}, LATERAL {call}" if rows else call
    return f"SELECT called.* FROM {source} AS called"


def _whole_body(params: Params, parameter: Parameter, payload: Payload | None) -> str:
    text = None if payload is None else payload.text
    if parameter.type == "bytea" and text is not None:
        return f"decode({params.raw(text.hex().encode())}, 'hex')"
    return f"{params.raw(text)}::{parameter.type}"


def _argument(
    params: Params, parameter: Parameter, pairs: Sequence[tuple[str, str]]
) -> str:
    values = [value for name, value in pairs if name == parameter.name]
    value = array_literal(values) if parameter.variadic else values[-1]
    return (
        f"{_prefix(parameter)}{quote_identifier(parameter.name)} := "
        f"{params.text(value)}::{parameter.type}"
    )


def _prefix(parameter: Parameter) -> str:
    return "VARIADIC " if parameter.variadic else ""
