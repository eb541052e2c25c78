"""PostgreSQL's errors as HTTP answers: which status each SQLSTATE gets.

``RAISE`` with ``PTnnn`` chooses the status; with ``PGRST`` the whole answer, its parts
being JSON in MESSAGE and DETAIL.  Source: PostgREST v14, "Errors".
"""

from __future__ import annotations

from typing import Any

import orjson

from harness.db.pipeline import ConnectionLostError, PoolTimeoutError, StatementError
from harness.protocols.jwt import BadTokenError
from harness.protocols.postgrest_errors import RestError, token_rejected

__all__ = [
    "connection_failure",
    "issued_in_future",
    "statement_failure",
    "token_failure",
]

EXACT = {
    "23503": 409,  # foreign key
    "23505": 409,  # unique
    "25006": 405,  # a write in a read-only transaction
    "42883": 404,  # no such function or operator
    "42P01": 404,  # no such table
    "42P17": 500,  # infinite recursion, of policies for one
    "53400": 500,
    "57P01": 503,  # the server is shutting down
    "P0001": 400,  # plain RAISE
}
BY_CLASS = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}
INSUFFICIENT_PRIVILEGE = "42501"
MESSAGE_HINT = (
    "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and "
    "optional keys: 'details', 'hint'."
)
DETAIL_HINT = (
    "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and "
    "optional key: 'status_text'."
)


def statement_failure(error: StatementError, *, anonymous: bool) -> RestError:
    """Return the answer for a refused statement.

    ``anonymous`` callers get 401 where others get 403: signing in might help.
    """
    if error.sqlstate == "PGRST":
        return _raised(error)
    status = _status(error, anonymous=anonymous)
    return RestError(
        status,
        error.sqlstate,
        error.message,
        details=error.detail,
        hint=error.hint,
        headers={"WWW-Authenticate": "Bearer"} if status == 401 else None,
        reason=error.message if error.sqlstate.startswith("PT") else None,
    )


def _status(error: StatementError, *, anonymous: bool) -> int:
    code, message = error.sqlstate, error.message
    if code == INSUFFICIENT_PRIVILEGE:
        return 401 if anonymous else 403
    if code == "21000":
        # The safeupdate extension speaks of the request, others of a view or function.
        return 400 if message.endswith("requires a WHERE clause") else 500
    if code == "22023":
        unknown_role = message.startswith("role") and message.endswith("does not exist")
        return 401 if unknown_role else 400
    if code.startswith("PT"):
        number = code[2:]
        return int(number) if number.isdigit() and int(number) >= 200 else 500
    return EXACT.get(code) or BY_CLASS.get(code[:2], 400)


def _raised(error: StatementError) -> RestError:
    message = _object(error.message)
    if message is None or not {"code", "message"} <= message.keys():
        told = f"Invalid JSON value for MESSAGE: '{error.message}'"
        return _unreadable(told, MESSAGE_HINT)
    if error.detail is None:
        return _unreadable("DETAIL is missing in the RAISE statement", DETAIL_HINT)
    detail = _object(error.detail)
    if (
        detail is None
        or not isinstance(detail.get("status"), int)
        or not 200 <= detail["status"] <= 599
        or not isinstance(detail.get("headers"), dict)
    ):
        told = f"Invalid JSON value for DETAIL: '{error.detail}'"
        return _unreadable(told, DETAIL_HINT)
    return RestError(
        detail["status"],
        str(message["code"]),
        str(message["message"]),
        details=message.get("details"),
        hint=message.get("hint"),
        headers={str(k): str(v) for k, v in detail["headers"].items()},
        reason=detail.get("status_text"),
    )


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _unreadable(details: str, hint: str) -> RestError:
    return RestError(
        500,
        "PGRST121",
        "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
        details=details,
        hint=hint,
    )


def connection_failure(error: ConnectionLostError | PoolTimeoutError) -> RestError:
    """Return the answer when PostgreSQL cannot be reached or has no room."""
    if isinstance(error, PoolTimeoutError):
        return RestError(
            504, "PGRST003", "Timed out acquiring connection from connection pool."
        )
    return RestError(
        503,
        "PGRST001",
        "Database client error. Retrying the connection.",
        details=error.message,
    )


def token_failure(error: BadTokenError, token: str) -> RestError:
    """Return the 401 for a token that was not verified."""
    parts = token.count(".") + 1
    if parts != 3:
        message = f"Expected 3 parts in JWT; got {parts}"
        return token_rejected("PGRST301", message)
    if error.reason == "expired":
        return token_rejected("PGRST303", "JWT expired")
    if error.reason == "claims":
        return token_rejected("PGRST303", _claims_message(error.message))
    if error.reason == "algorithm":
        message = "Wrong or unsupported encoding algorithm"
        return token_rejected("PGRST301", message)
    return token_rejected("PGRST301", "No suitable key or wrong key type")


def issued_in_future() -> RestError:
    """Return the 401 for a token that is signed later than now."""
    return token_rejected("PGRST303", "JWT issued at future")


def _claims_message(message: str) -> str:
    if "not valid yet" in message:
        return "JWT not yet valid"
    for name in ("exp", "nbf", "iat"):
        if message.startswith(f"claim {name} "):
            return f"The JWT '{name}' claim must be a number"
    return "Parsing claims failed"
