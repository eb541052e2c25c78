"""PostgreSQL's errors and bad tokens as HTTP answers."""

from __future__ import annotations

import json

import pytest

from harness.db.pipeline import ConnectionLostError, PoolTimeoutError, StatementError
from harness.protocols.jwt import BadTokenError
from harness.servers.rest.failures import (
    connection_failure,
    statement_failure,
    token_failure,
)


def refused(
    sqlstate: str, message: str = "m", detail: str | None = None
) -> StatementError:
    return StatementError(sqlstate, message, detail=detail, hint="h")


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        ("23505", 409),
        ("23503", 409),
        ("23502", 400),
        ("22P02", 400),
        ("25006", 405),
        ("42883", 404),
        ("42P01", 404),
        ("42P17", 500),
        ("42703", 400),
        ("57014", 500),
        ("57P01", 503),
        ("53300", 503),
        ("53400", 500),
        ("40001", 500),
        ("P0001", 400),
        ("P0002", 500),
        ("XX000", 500),
        ("08006", 503),
        ("28000", 403),
        ("PT402", 402),
        ("PTabc", 500),
    ],
)
def test_statement_failure_gives_each_sqlstate_its_status(
    sqlstate: str, status: int
) -> None:
    failure = statement_failure(refused(sqlstate, detail="d"), anonymous=False)
    assert failure.status == status
    assert failure.payload == {
        "code": sqlstate,
        "message": "m",
        "details": "d",
        "hint": "h",
    }


def test_statement_failure_of_a_missing_privilege_depends_on_who_asks() -> None:
    anonymous = statement_failure(refused("42501"), anonymous=True)
    known = statement_failure(refused("42501"), anonymous=False)
    assert (anonymous.status, anonymous.headers) == (
        401,
        {"WWW-Authenticate": "Bearer"},
    )
    assert (known.status, known.headers) == (403, {})


def test_statement_failure_of_an_unknown_role_is_about_the_token() -> None:
    unknown = refused("22023", 'role "x" does not exist')
    assert statement_failure(unknown, anonymous=False).status == 401
    assert statement_failure(refused("22023"), anonymous=False).status == 400


def test_statement_failure_of_a_missing_where_is_the_clients() -> None:
    safe = refused("21000", "DELETE requires a WHERE clause")
    assert statement_failure(safe, anonymous=False).status == 400
    assert statement_failure(refused("21000"), anonymous=False).status == 500


def test_statement_failure_raised_as_pgrst_is_the_answer_it_describes() -> None:
    message = json.dumps(
        {"code": "123", "message": "Pay", "hint": "Do", "details": "X"}
    )
    detail = json.dumps({"status": 402, "headers": {"X-Powered-By": "Nerd"}})
    failure = statement_failure(refused("PGRST", message, detail), anonymous=False)
    assert failure.status == 402
    assert failure.headers == {"X-Powered-By": "Nerd"}
    assert failure.payload == {
        "code": "123",
        "message": "Pay",
        "details": "X",
        "hint": "Do",
    }


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("not json", "{}"),
        ('{"code":"1"}', '{"status":400,"headers":{}}'),
        ('{"code":"1","message":"m"}', None),
        ('{"code":"1","message":"m"}', "[]"),
        ('{"code":"1","message":"m"}', '{"status":"400","headers":{}}'),
        ('{"code":"1","message":"m"}', '{"status":99,"headers":{}}'),
        ('{"code":"1","message":"m"}', '{"status":400}'),
    ],
)
def test_statement_failure_raised_as_broken_pgrst_says_so(
    message: str, detail: str | None
) -> None:
    failure = statement_failure(refused("PGRST", message, detail), anonymous=False)
    assert (failure.status, failure.code) == (500, "PGRST121")


def test_connection_failure_tells_a_full_pool_from_a_lost_server() -> None:
    assert connection_failure(PoolTimeoutError("x")).status == 504
    assert connection_failure(ConnectionLostError("x")).code == "PGRST001"


@pytest.mark.parametrize(
    ("reason", "message", "token", "code", "told"),
    [
        ("malformed", "", "abc", "PGRST301", "Expected 3 parts in JWT; got 1"),
        ("signature", "", "a.b.c", "PGRST301", "No suitable key or wrong key type"),
        (
            "algorithm",
            "",
            "a.b.c",
            "PGRST301",
            "Wrong or unsupported encoding algorithm",
        ),
        ("expired", "", "a.b.c", "PGRST303", "JWT expired"),
        ("claims", "token is not valid yet", "a.b.c", "PGRST303", "JWT not yet valid"),
        (
            "claims",
            "claim exp is not a number",
            "a.b.c",
            "PGRST303",
            "The JWT 'exp' claim must be a number",
        ),
    ],
)
def test_token_failure_names_the_reason(
    reason: str, message: str, token: str, code: str, told: str
) -> None:
    failure = token_failure(BadTokenError(reason, message), token)
    assert (failure.status, failure.code, failure.message) == (401, code, told)
    challenge = failure.headers["WWW-Authenticate"]
    assert challenge == f'Bearer error="invalid_token", error_description="{told}"'
