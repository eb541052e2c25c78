"""A write that both versions are asked to do: one statement of one persona."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.db.catalog import quote_identifier
from harness.policies.cases import Step
from harness.policies.decisions import statement_settings
from harness.policies.grid import Ask
from harness.policies.ownership import TableOwnership
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.values import literal

__all__ = ["Write", "bound_columns", "spread"]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Write:
    """One statement of one persona; ``row`` is what it copies or changes.

    ``command`` is what a change is told under; ``ending`` what follows the step's own
    statement (RETURNING, ON CONFLICT).
    """

    persona: Persona
    row: StoredRow
    step: Step
    command: str
    columns: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    detail: str = ""
    ending: str = ""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that the Storage API has in force."""
        return statement_settings(self.row.table, self.command)

    @property
    def done(self) -> Step:
        """The whole statement as a step."""
        if not self.ending:
            return self.step
        return replace(self.step, sql=f"{self.step.sql}{self.ending}", action="sql")

    def ask(self, *, observed: bool = False) -> Ask:
        """Return the question, with a look at what it changed if ``observed``."""
        shape, arguments = _shape(self.step)
        return Ask(
            persona=self.persona,
            commands=(f"{self.step.sql}{self.ending}",),
            shape=f"{shape}{self.ending}" if shape else "",
            arguments=arguments,
            aside=self.aside,
            settings=self.settings,
            observe="select harness_probe.changed()" if observed else "",
            mark=observed,
        )


def _shape(step: Step) -> tuple[str, tuple[str, ...]]:
    """Return a statement with parameters, and what stands for them."""
    assert step.target is not None
    values, table = list(step.values.items()), step.target.sql
    names = [quote_identifier(name) for name, _ in values]
    arguments = tuple(literal(value) for _, value in values)
    if step.action == "insert" and values:
        numbers = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        return f"insert into {table} ({', '.join(names)}) values ({numbers})", arguments
    filtered = " where " in step.sql
    if (
        step.action != "update"
        or not values
        or (filtered and not all(step.filters.values()))
    ):
        return "", ()
    changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(names, 1))
    where = " and ".join(
        f"{quote_identifier(name)} = ${n}"
        for n, name in enumerate(step.filters, len(values) + 1)
    )
    arguments += tuple(literal(value) for value in step.filters.values())
    return (
        f"update {table} set {changes}{f' where {where}' if where else ''}",
        arguments,
    )


def bound_columns(owned: TableOwnership) -> set[str]:
    """Return the columns that say whose a row is or what it hangs on."""
    columns = {c for parent in owned.parents for c in parent.columns}
    return columns | set(owned.user_names) | set(owned.tenants)


def spread(items: list[Item], limit: int) -> list[Item]:
    """Take up to ``limit`` items from all over the list."""
    if len(items) <= limit:
        return items
    return [items[i * len(items) // limit] for i in range(limit)]
