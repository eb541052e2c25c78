"""The errors of the PostgREST protocol: code, message, details, hint and HTTP status.

One exception class carries them all; the functions below build the documented ones
(``PGRST1xx`` for the request, ``PGRST2xx`` for the schema cache, ``PGRST3xx`` for the
token).  Errors of PostgreSQL itself are mapped in :mod:`harness.servers.rest.failures`.

Source: PostgREST v14, "Errors" reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import RemoteProtocolError

__all__ = [
    "RestError",
    "aggregates_not_allowed",
    "body_invalid",
    "column_not_found",
    "filters_not_primary_key",
    "max_affected_exceeded",
    "max_affected_needs_set",
    "media_type_unavailable",
    "method_not_allowed_on_rpc",
    "method_unsupported",
    "not_embedded",
    "not_singular",
    "nul_in_value",
    "operator_on_embed",
    "order_not_to_one",
    "path_invalid",
    "preferences_invalid",
    "put_key_mismatch",
    "put_with_limit",
    "query_unreadable",
    "range_unsatisfiable",
    "response_headers_invalid",
    "response_status_invalid",
    "schema_not_exposed",
    "table_not_found",
    "token_rejected",
]


class RestError(RemoteProtocolError):
    """An answer other than success; ``payload`` is its JSON body.

    ``reason`` is the phrase of the status line, if it is not the usual one.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Any = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.details = details
        self.headers = dict(headers or {})
        self.reason = reason

    @property
    def payload(self) -> dict[str, Any]:
        """Return the body as PostgREST words it."""
        return {
            "code": self.code,
            "details": self.details,
            "hint": self.hint,
            "message": self.message,
        }


def query_unreadable(message: str, details: str) -> RestError:
    """Return the error for a query parameter that does not parse."""
    return RestError(400, "PGRST100", message, details=details)


def method_not_allowed_on_rpc(method: str) -> RestError:
    """Return the error for a method that functions do not take."""
    return RestError(405, "PGRST101", f"Cannot use the {method} method on RPC")


def body_invalid(message: str) -> RestError:
    """Return the error for a body that cannot be read."""
    return RestError(400, "PGRST102", message)


def range_unsatisfiable(details: str) -> RestError:
    """Return the error for a range that makes no sense or lies past the end."""
    return RestError(
        416, "PGRST103", "Requested range not satisfiable", details=details
    )


def filters_not_primary_key() -> RestError:
    """Return the error for a PUT whose filters are not exactly the primary key."""
    return RestError(
        405,
        "PGRST105",
        "Filters must include all and only primary key columns with 'eq' operators",
    )


def schema_not_exposed(schema: str, exposed: Iterable[str]) -> RestError:
    """Return the error for a profile that names a schema that is not exposed."""
    return RestError(
        406,
        "PGRST106",
        f"Invalid schema: {schema}",
        hint=f"Only the following schemas are exposed: {', '.join(exposed)}",
    )


def media_type_unavailable(accepted: Iterable[str]) -> RestError:
    """Return the error for an ``Accept`` that nothing here can produce."""
    return RestError(
        406,
        "PGRST107",
        f"None of these media types are available: {', '.join(accepted)}",
    )


def not_embedded(resource: str) -> RestError:
    """Return the error for a filter or order on what ``select`` does not embed."""
    return RestError(
        400,
        "PGRST108",
        f"'{resource}' is not an embedded resource in this request",
        hint=f"Verify that '{resource}' is included in the 'select' query parameter.",
    )


def response_headers_invalid() -> RestError:
    """Return the error for a ``response.headers`` setting that is not as agreed."""
    return RestError(
        500,
        "PGRST111",
        "response.headers guc must be a JSON array composed of objects with a single "
        "key and a string value",
    )


def response_status_invalid() -> RestError:
    """Return the error for a ``response.status`` setting that is no status."""
    return RestError(500, "PGRST112", "response.status guc must be a valid status code")


def put_with_limit() -> RestError:
    """Return the error for a PUT with ``limit`` or ``offset``."""
    return RestError(
        400,
        "PGRST114",
        "limit/offset querystring parameters are not allowed for PUT",
    )


def put_key_mismatch() -> RestError:
    """Return the error for a PUT whose body has another key than its URL."""
    return RestError(
        400,
        "PGRST115",
        "Payload values do not match URL in primary key column(s)",
    )


def not_singular(rows: int) -> RestError:
    """Return the error for a single object that is none or many."""
    return RestError(
        406,
        "PGRST116",
        "Cannot coerce the result to a single JSON object",
        details=f"The result contains {rows} rows",
    )


def method_unsupported(method: str) -> RestError:
    """Return the error for a method that no resource takes."""
    return RestError(405, "PGRST117", f"Unsupported HTTP method: {method}")


def order_not_to_one(origin: str, target: str) -> RestError:
    """Return the error for ordering by an embedded resource that is many."""
    return RestError(
        400,
        "PGRST118",
        f"A related order on '{target}' is not possible",
        details=f"'{origin}' and '{target}' do not form a many-to-one or "
        "one-to-one relationship",
    )


def operator_on_embed(target: str) -> RestError:
    """Return the error for a filter on an embedded resource other than null."""
    return RestError(
        400,
        "PGRST120",
        f"Bad operator on the '{target}' embedded resource",
        details="Only is null or not is null filters are allowed on embedded resources",
    )


def preferences_invalid(preferences: Iterable[str]) -> RestError:
    """Return the error for unknown preferences under ``handling=strict``."""
    return RestError(
        400,
        "PGRST122",
        "Invalid preferences given with handling=strict",
        details=f"Invalid preferences: {', '.join(preferences)}",
    )


def aggregates_not_allowed() -> RestError:
    """Return the error for an aggregate while they are off."""
    return RestError(400, "PGRST123", "Use of aggregate functions is not allowed")


def max_affected_exceeded(rows: int) -> RestError:
    """Return the error for a write that touched more rows than allowed."""
    return RestError(
        400,
        "PGRST124",
        "Query result exceeds max-affected preference constraint",
        details=f"The query affects {rows} rows",
    )


def path_invalid() -> RestError:
    """Return the error for a path that is neither a table nor a function."""
    return RestError(404, "PGRST125", "Invalid path specified in request URL")


def max_affected_needs_set() -> RestError:
    """Return the error for ``max-affected`` on a function that returns no set."""
    return RestError(
        400,
        "PGRST128",
        "Function must return SETOF or TABLE when max-affected preference is used "
        "with handling=strict",
    )


def column_not_found(table: str, column: str) -> RestError:
    """Return the error for a column to write that the table does not have."""
    return RestError(
        400,
        "PGRST204",
        f"Could not find the '{column}' column of '{table}' in the schema cache",
    )


def table_not_found(schema: str, table: str, hint: str | None) -> RestError:
    """Return the error for a table or view that the schema does not have."""
    return RestError(
        404,
        "PGRST205",
        f"Could not find the table '{schema}.{table}' in the schema cache",
        hint=hint,
    )


def token_rejected(code: str, message: str) -> RestError:
    """Return the 401 for a token that is not trusted, with its challenge."""
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return RestError(401, code, message, headers={"WWW-Authenticate": challenge})


def nul_in_value() -> RestError:
    """Return PostgreSQL's own error for a NUL character, which text cannot hold."""
    return RestError(400, "22021", 'invalid byte sequence for encoding "UTF8": 0x00')
