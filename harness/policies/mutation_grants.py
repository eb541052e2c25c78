"""Faults of access below policies: row level security off, grants widened."""

from __future__ import annotations

from collections.abc import Iterator

from harness.db.catalog import Catalog, Function, Name, Relation
from harness.policies.mutant import Mutant

__all__ = ["grant_mutants"]

ROLES = ("anon", "authenticated")
ROW_COMMANDS = ("SELECT", "INSERT", "UPDATE", "DELETE")
PLATFORM_TABLES = ("storage", "realtime")


def grant_mutants(catalog: Catalog) -> Iterator[Mutant]:
    """Yield the mutants of row level security and of grants."""
    for relation in catalog.relations.values():
        if relation.name.schema in PLATFORM_TABLES or relation.partition_of:
            continue
        if relation.rls:
            yield Mutant(
                operator="rls_disabled",
                where=str(relation.name),
                sql=f"alter table {relation.name.sql} disable row level security",
                means="no policy of the table is asked",
            )
        for role in ROLES:
            if catalog.reaches(role, (relation.name.schema,)):
                yield from _of_relation(relation, role)
    for function in catalog.functions:
        yield from _of_function(function, catalog)


def _of_relation(relation: Relation, role: str) -> Iterator[Mutant]:
    held = relation.privileges.get(role)
    granted = held.table if held is not None else frozenset[str]()
    commands = ROW_COMMANDS if relation.is_table else ("SELECT",)
    missing = [command for command in commands if command not in granted]
    if missing:
        yield _granted(relation.name, ", ".join(missing).lower(), role)
    if relation.is_table and "TRUNCATE" not in granted:
        yield _granted(relation.name, "truncate", role)
    for column in relation.columns:
        for command in ("SELECT", "UPDATE"):
            partly = held is not None and held.may(command) and command not in granted
            if partly and not relation.may(role, command, column.name):
                sql = f"{command.lower()} ({column.sql})"
                yield _granted(relation.name, sql, role, "column_grant_widened")


def _granted(
    table: Name, what: str, role: str, operator: str = "table_grant_widened"
) -> Mutant:
    return Mutant(
        operator=operator,
        where=str(table),
        sql=f"grant {what} on {table.sql} to {role}",
        means=f"{role} holds {what.upper() if '(' not in what else what}",
    )


def _of_function(function: Function, catalog: Catalog) -> Iterator[Mutant]:
    if function.kind not in ("f", "p") or function.is_trigger:
        return
    for role in ROLES:
        reached = catalog.reaches(role, (function.name.schema,))
        if reached and role not in function.executable_by:
            yield Mutant(
                operator="function_grant_widened",
                where=f"function {function.signature}",
                sql=f"grant execute on routine {function.signature} to {role}",
                means=f"{role} may call it",
            )
