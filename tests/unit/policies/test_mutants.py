"""Mutants made from a catalogue written by hand: no database is needed."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pglast
import pytest

from harness.db.catalog import (
    Bucket,
    Catalog,
    Column,
    Function,
    Name,
    Policy,
    Privileges,
    Publication,
    Relation,
    Trigger,
)
from harness.policies.mutant import Mutant
from harness.policies.mutants import all_mutants, sampled
from harness.policies.mutation_expressions import variations
from harness.policies.syntax import Scope

NOTES = Name("public", "notes")
USING = "((owner_id = auth.uid()) AND (published OR (title = 'open'::text)))"


def column(name: str, kind: str) -> Column:
    return Column(name=name, type=kind, base_type=kind)


def notes(**changes: object) -> Relation:
    parts: dict[str, object] = {
        "name": NOTES,
        "kind": "table",
        "owner": "postgres",
        "rls": True,
        "columns": (
            column("id", "uuid"),
            column("owner_id", "uuid"),
            column("editor_id", "uuid"),
            column("title", "text"),
            column("published", "boolean"),
        ),
        "policies": (policy(),),
        "privileges": {"authenticated": Privileges(frozenset({"SELECT"}))},
        **changes,
    }
    return Relation(**parts)  # type: ignore[arg-type]  # a table of keyword arguments


def policy(**changes: object) -> Policy:
    parts: dict[str, object] = {
        "table": NOTES,
        "name": "own notes",
        "command": "SELECT",
        "permissive": True,
        "roles": ("authenticated",),
        "using": USING,
        "check": "",
        **changes,
    }
    return Policy(**parts)  # type: ignore[arg-type]  # a table of keyword arguments


def catalog_of(*relations: Relation, **parts: object) -> Catalog:
    return Catalog(
        relations={relation.name: relation for relation in relations},
        reachable_schemas={"public": frozenset({"anon", "authenticated"})},
        **parts,  # type: ignore[arg-type]  # a table of keyword arguments
    )


def by_operator(catalog: Catalog) -> Mapping[str, list[Mutant]]:
    found: dict[str, list[Mutant]] = {}
    for mutant in all_mutants(catalog):
        found.setdefault(mutant.operator, []).append(mutant)
    return found


def varied(text: str, catalog: Catalog | None = None) -> set[tuple[str, str]]:
    scope = Scope({"notes": NOTES})
    catalog = catalog or catalog_of(notes())
    return {(v.operator, v.sql) for v in variations(text, scope, catalog)}


@pytest.mark.parametrize(
    ("operator", "text", "sql"),
    [
        ("condition_negated", "published", "NOT published"),
        ("condition_negated", "a OR b", "a OR (NOT b)"),
        ("negation_dropped", "NOT published", "published"),
        ("conjunct_dropped", "a AND b", "a"),
        ("conjunct_dropped", "a AND b AND c", "a AND c"),
        ("disjunct_dropped", "a OR b", "b"),
        ("and_or_swapped", "a AND b", "a OR b"),
        ("and_or_swapped", "a AND (b OR c)", "a OR (b OR c)"),
        ("column_swapped", "owner_id = x()", "id = x()"),
        ("column_swapped", "x() = notes.owner_id", "x() = notes.editor_id"),
        ("compared_with_itself", "owner_id = auth.uid()", "owner_id = owner_id"),
        (
            "folder_index_moved",
            "(storage.foldername(name))[1] = 'a'",
            "(storage.foldername(name))[2] = 'a'",
        ),
        (
            "folder_index_moved",
            "split_part(name, '/', 2) = 'a'",
            "split_part(name, '/', 1) = 'a'",
        ),
        (
            "conjunct_dropped",
            "EXISTS (SELECT 1 FROM members m WHERE m.a = 1 AND m.b = 2)",
            "EXISTS (SELECT 1 FROM members AS m WHERE m.b = 2)",
        ),
    ],
)
def test_expression_is_varied_in_one_place(operator: str, text: str, sql: str) -> None:
    found = {normal(v) for o, v in varied(text) if o == operator}
    assert normal(sql) in found


def test_varied_expressions_parse_and_differ_from_the_original() -> None:
    found = varied(USING)
    assert len(found) >= 10
    for _, sql in found:
        assert normal(sql) != normal(USING)


def test_expression_that_does_not_parse_has_no_variation() -> None:
    assert not varied("owner_id ==== (")


def test_policy_is_dropped_widened_and_swapped() -> None:
    found = by_operator(catalog_of(notes()))
    assert found["policy_dropped"][0].sql == 'drop policy "own notes" on public.notes'
    assert found["using_true"][0].sql.endswith("using (true)")
    assert {m.sql.rpartition(" to ")[2] for m in found["roles_widened"]} == {
        "public",
        "authenticated, anon",
    }
    assert "as restrictive for select" in found["permissive_swapped"][0].sql
    assert "for all to authenticated" in found["command_widened"][0].sql


def test_with_check_is_dropped_only_where_using_differs() -> None:
    same = policy(command="UPDATE", check=USING)
    other = policy(command="UPDATE", check="true")
    assert "with_check_dropped" not in by_operator(catalog_of(notes(policies=(same,))))
    found = by_operator(catalog_of(notes(policies=(other,))))
    assert "with check" not in found["with_check_dropped"][0].sql


def test_grants_are_widened_to_what_is_missing() -> None:
    partly = Privileges(frozenset(), {"title": frozenset({"UPDATE"})})
    found = by_operator(catalog_of(notes(privileges={"authenticated": partly})))
    assert [m.sql for m in found["rls_disabled"]] == [
        "alter table public.notes disable row level security"
    ]
    assert "grant truncate on public.notes to anon" in {
        m.sql for m in found["table_grant_widened"]
    }
    assert {m.sql for m in found["column_grant_widened"]} == {
        f"grant update ({name}) on public.notes to authenticated"
        for name in ("id", "owner_id", "editor_id", "published")
    }


def test_function_loses_its_caller_check_in_one_place() -> None:
    source = """
begin
  if p_user is distinct from auth.uid() then
    raise exception 'not yours' using errcode = '42501';
  end if;
  delete from public.notes where owner_id = p_user;
end;
"""
    definition = (
        f"create or replace function public.f() as $function${source}$function$"
    )
    function = Function(
        name=Name("public", "f"),
        signature="public.f(uuid)",
        parameters=(),
        returns="void",
        returns_set=False,
        language="plpgsql",
        volatility="v",
        security_definer=True,
        owner="postgres",
        source=source,
        definition=definition,
        settings={"search_path": '""'},
        executable_by=frozenset({"authenticated"}),
    )
    found = by_operator(catalog_of(functions=(function,)))
    unchecked = found["caller_check_removed"][0].sql
    assert "raise" not in unchecked
    assert "delete from public.notes" in unchecked
    assert found["definer_toggled"][0].sql.endswith("security invoker")
    assert found["search_path_reset"][0].sql.endswith("reset search_path")
    assert [m.sql for m in found["function_grant_widened"]] == [
        "grant execute on routine public.f(uuid) to anon"
    ]


def test_triggers_buckets_and_publications_are_mutated() -> None:
    trigger = Trigger("guard", Name("public", "guard"), "before", ("INSERT",), True)
    catalog = catalog_of(
        notes(triggers=(trigger,)),
        buckets=(
            Bucket("it's", public=False, file_size_limit=9, allowed_mime_types=()),
        ),
        publications=(Publication("supabase_realtime", (), True, True, True),),
    )
    found = by_operator(catalog)
    assert found["trigger_dropped"][0].sql == "drop trigger guard on public.notes"
    assert found["bucket_made_public"][0].sql.endswith("where id = 'it''s'")
    assert len(found["bucket_limit_removed"]) == 1
    assert found["table_published"][0].sql == (
        "alter publication supabase_realtime add table public.notes"
    )


def test_sample_is_of_the_seed_and_keeps_the_order() -> None:
    mutants = all_mutants(catalog_of(notes()))
    chosen = sampled(mutants, 5, Random(3))
    assert chosen == sampled(mutants, 5, Random(3))
    assert chosen != sampled(mutants, 5, Random(4))
    assert list(chosen) == [m for m in mutants if m in chosen]
    assert len(chosen) == 5
    assert sampled(mutants, None, Random(3)) == mutants


def test_mutants_are_unique_and_are_sql() -> None:
    mutants = all_mutants(catalog_of(notes()))
    assert len({m.id for m in mutants}) == len(mutants)
    for mutant in mutants:
        assert pglast.parse_sql(mutant.sql), mutant.sql


def normal(sql: str) -> str:
    """Return an expression as the parser's tree prints it, places left out."""
    return pglast.prettify(f"select {sql}")
