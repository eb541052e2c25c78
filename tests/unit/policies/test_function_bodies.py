"""Bodies of PL/pgSQL functions are read whatever their types are."""

from __future__ import annotations

import pytest

from harness.db.catalog import Function, Name
from harness.policies.syntax import body_statements, body_variables

HEAD = """CREATE OR REPLACE FUNCTION app.f({parameters})
 RETURNS {returns}
 LANGUAGE plpgsql
 SECURITY DEFINER
AS $function${body}$function$
"""


def function(parameters: str, returns: str, body: str) -> Function:
    definition = HEAD.format(parameters=parameters, returns=returns, body=body)
    return Function(
        name=Name("app", "f"),
        signature="app.f()",
        parameters=(),
        returns=returns,
        returns_set=returns.startswith("SETOF"),
        language="plpgsql",
        volatility="v",
        security_definer=True,
        owner="postgres",
        source=body,
        definition=definition,
    )


@pytest.mark.parametrize(
    ("parameters", "returns", "declared"),
    [
        ("a uuid", "void", "v text;"),
        ("a uuid, b app.role", "void", "v text;"),
        ("a uuid, b app.role DEFAULT 'x'::app.role", "void", "v text;"),
        ("a uuid, VARIADIC b role[]", "void", "v text;"),
        ("a uuid, VARIADIC b app.role[]", "void", "v text;"),
        ('a uuid, b "my app"."Role"', "void", "v text;"),
        ("a uuid", "SETOF app.members", "v text;"),
        ("a uuid", "app.role", "v text;"),
        ("a uuid", "void", "v app.role;"),
        ("a uuid", "void", "v role; -- and; another app.role\n  w app.role;"),
        ("a uuid", "void", "v constant app.role[] := array['x']::app.role[];"),
        ("a uuid, b app.role", "void", "v timestamp with time zone := now();"),
        ("a uuid, b app.role", "void", "v numeric(10, 2) not null default 1;"),
        ("a uuid", "void", "v app.members.role%type; w app.members%rowtype;"),
        ("a uuid", "void", "v record; w app.role;"),
    ],
)
def test_statements_are_found_behind_types_of_any_schema(
    parameters: str, returns: str, declared: str
) -> None:
    body = f"declare {declared} begin delete from app.members where id = f.a; end"
    (statement,) = body_statements(function(parameters, returns, body))[-1:]
    assert statement.relation.relname == "members"


def test_a_variable_of_an_unknown_type_takes_one_of_several_values() -> None:
    body = (
        "declare v_org uuid; v_role org_role;"
        " begin select m.org, m.role into v_org, v_role from app.members m; end"
    )
    (query,) = body_statements(function("a uuid", "void", body))
    assert [target.val.fields[-1].sval for target in query.targetList] == [
        "org",
        "role",
    ]


def test_variables_are_found_behind_types_of_any_schema() -> None:
    body = "declare v app.role; u uuid := auth.uid(); begin perform u; end"
    found = function("a uuid", "void", body)
    assert [name for name, _ in body_variables("plpgsql", found.definition)] == ["u"]


def test_a_body_that_is_no_function_has_no_statements() -> None:
    assert body_statements(function("a uuid", "void", "nonsense")) == ()
