"""Faults in policies: in their conditions, their roles, their command, their kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.db.catalog import Catalog, Policy, quote_identifier
from harness.policies.mutant import Mutant
from harness.policies.mutation_expressions import variations
from harness.policies.syntax import Scope

__all__ = ["policy_mutants"]

CLAUSES = {"using": "using", "check": "with check"}


def policy_mutants(catalog: Catalog) -> Iterator[Mutant]:
    """Yield the mutants of every policy."""
    for policy in catalog.policies:
        yield from _conditions(policy, catalog)
        yield from _clauses(policy)
        yield from _roles(policy)
        yield from _kind(policy)


def _conditions(policy: Policy, catalog: Catalog) -> Iterator[Mutant]:
    scope = Scope({policy.table.name: policy.table})
    for field, clause in CLAUSES.items():
        text = getattr(policy, field)
        for found in variations(text, scope, catalog) if text else ():
            yield _mutant(
                policy,
                found.operator,
                f"{_alter(policy)} {clause} ({found.sql})",
                f"in {clause.upper()}, {found.change}",
            )


def _clauses(policy: Policy) -> Iterator[Mutant]:
    for field, clause in CLAUSES.items():
        if getattr(policy, field) not in ("", "true"):
            yield _mutant(
                policy,
                f"{clause.replace(' ', '_')}_true",
                f"{_alter(policy)} {clause} (true)",
                f"{clause.upper()} lets every row pass",
            )
    if policy.check and policy.using and policy.check != policy.using:
        yield _recreated(
            policy,
            replace(policy, check=""),
            "with_check_dropped",
            "new rows are held to USING only",
        )


def _roles(policy: Policy) -> Iterator[Mutant]:
    if not policy.roles:
        return
    yield _mutant(
        policy,
        "roles_widened",
        f"{_alter(policy)} to public",
        f"it holds for everybody, not only {', '.join(policy.roles)}",
    )
    if "anon" not in policy.roles and policy.table.schema != "realtime":
        roles = ", ".join(map(quote_identifier, (*policy.roles, "anon")))
        yield _mutant(
            policy, "roles_widened", f"{_alter(policy)} to {roles}", "it holds for anon"
        )


def _kind(policy: Policy) -> Iterator[Mutant]:
    kind = "restrictive" if policy.permissive else "permissive"
    yield _mutant(policy, "policy_dropped", _drop(policy), "the policy is gone")
    yield _recreated(
        policy,
        replace(policy, permissive=not policy.permissive),
        "permissive_swapped",
        f"it is {kind}",
    )
    if policy.command in ("SELECT", "INSERT", "UPDATE"):
        condition = policy.using or policy.check
        yield _recreated(
            policy,
            replace(policy, command="ALL", using=condition, check=policy.check),
            "command_widened",
            f"it holds for every command, not only {policy.command}",
        )


def _recreated(policy: Policy, changed: Policy, operator: str, means: str) -> Mutant:
    sql = f"{_drop(policy)};\n{_create(changed)}"
    return _mutant(policy, operator, sql, means)


def _mutant(policy: Policy, operator: str, sql: str, means: str) -> Mutant:
    where = policy.told
    return Mutant(operator=operator, where=where, sql=sql, means=means)


def _alter(policy: Policy) -> str:
    return f"alter policy {_on_table(policy)}"


def _drop(policy: Policy) -> str:
    return f"drop policy {_on_table(policy)}"


def _create(policy: Policy) -> str:
    kind = "permissive" if policy.permissive else "restrictive"
    roles = ", ".join(map(quote_identifier, policy.roles)) or "public"
    using = f" using ({policy.using})" if policy.using else ""
    check = f" with check ({policy.check})" if policy.check else ""
    return (
        f"create policy {_on_table(policy)} as {kind} for {policy.command.lower()}"
        f" to {roles}{using}{check}"
    )


def _on_table(policy: Policy) -> str:
    return f"{quote_identifier(policy.name)} on {policy.table.sql}"
