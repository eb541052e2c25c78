"""What variables of PL/pgSQL bodies stand for."""

from __future__ import annotations

from harness.policies.syntax import body_variables, deparse


def variables(body: str) -> dict[str, str]:
    definition = f"create function f() returns boolean as $$ {body} $$ language plpgsql"
    return {name: deparse(node) for name, node in body_variables("plpgsql", definition)}


def test_defaults_assignments_and_lone_selects_are_told() -> None:
    found = variables(
        "declare a uuid := auth.uid(); b text; c public.kind;"
        " begin b := auth.role(); select auth.jwt() ->> 'kind' into c; return true; end"
    )
    assert found == {
        "a": "auth.uid()",
        "b": "auth.role()",
        "c": "auth.jwt() ->> 'kind'",
    }


def test_what_is_read_from_a_table_stands_for_nothing() -> None:
    body = "declare r text; begin select x.r into r from public.x; return true; end"
    assert variables(body) == {}
    assert body_variables("sql", "create function f() ...") == ()
