"""What properties are judged on: one stored world with the decisions made in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.db.catalog import Catalog, Name, Relation, quote_identifier
from harness.policies.cases import Step, Violation
from harness.policies.decisions import Decisions, row_filter
from harness.policies.mining import Mined
from harness.policies.ownership import Ownership
from harness.policies.personas import Persona
from harness.policies.population import Population, StoredRow, insert_statement
from harness.policies.probing import Prober
from harness.policies.values import Values, literal

__all__ = ["Judgement", "Trial"]


@dataclass
class Judgement:
    """What one property found: violations, and what it could not decide (by object)."""

    violations: list[Violation] = field(default_factory=list)
    undecided: dict[str, str] = field(default_factory=dict)

    def extend(self, other: Judgement) -> None:
        """Add what another judgement found."""
        self.violations += other.violations
        self.undecided.update(other.undecided)


@dataclass
class Trial:
    """A stored world, the schema it follows, and who may do what in it."""

    catalog: Catalog
    mined: Mined
    ownership: Ownership
    population: Population
    decisions: Decisions
    prober: Prober
    values: Values
    called: list[Any] | None = None
    # Relation, command and persona of what is a finding already.
    told: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def personas(self) -> tuple[Persona, ...]:
        """Everybody in the cast."""
        return self.population.world.cast.personas

    @property
    def outsiders(self) -> Iterator[Persona]:
        """Personas to be kept out of other clans: no service and no manager."""
        return (persona for persona in self.personas if not persona.manages)

    def tables(self, *, guarded: bool = True) -> Iterator[Relation]:
        """Yield project tables; with ``guarded`` only those under RLS."""
        for relation in self.catalog.tables:
            if relation.name.schema == "realtime":
                continue
            if relation.rls or not guarded:
                yield relation

    def foreign_rows(self, persona: Persona, table: Name) -> list[StoredRow]:
        """Return the rows that belong to a clan other than the persona's."""
        return [
            row
            for row in self.population.of(table)
            if row.clan and row.clan != persona.clan
        ]

    # -- steps ---------------------------------------------------------------------

    def row_step(self, action: str, relation: Relation, row: StoredRow) -> Step:
        """Return a SELECT or DELETE of one row, by its key."""
        names = relation.primary_key or ()
        if relation.name == Name("storage", "objects"):
            names = ("bucket_id", "name")
        filters = {name: row.text(name) for name in names}
        where = _where(filters) if filters else row_filter(relation, row)
        head = "select *" if action == "select" else "delete"
        return Step(
            sql=f"{head} from {relation.name.sql} where {where}",
            action="select" if action == "select" else "delete",
            target=relation.name,
            filters=filters,
        )

    def update_step(
        self,
        relation: Relation,
        changes: Mapping[str, str | None],
        row: StoredRow | None = None,
    ) -> Step:
        """Return an UPDATE of one row by its key, or of all rows."""
        filters: dict[str, str | None] = {}
        where = ""
        if row is not None:
            names = relation.primary_key
            if relation.name == Name("storage", "objects"):
                names = ("bucket_id", "name")
            filters = {name: row.text(name) for name in names}
            where = (
                f" where {_where(filters) if filters else row_filter(relation, row)}"
            )
        assignments = ", ".join(
            f"{relation.column(name).sql} = {literal(value)}"
            for name, value in changes.items()
        )
        return Step(
            sql=f"update {relation.name.sql} set {assignments}{where}",
            action="update",
            target=relation.name,
            values=changes,
            filters=filters,
        )

    def insert_step(self, relation: Relation, values: Mapping[str, str | None]) -> Step:
        """Return the INSERT of one row."""
        return Step(
            sql=insert_statement(relation.name, values),
            action="insert",
            target=relation.name,
            values=values,
        )


def _where(filters: Mapping[str, str | None]) -> str:
    return " and ".join(
        f"{_column(name)} is null"
        if value is None
        else f"{_column(name)} = {literal(value)}"
        for name, value in filters.items()
    )


def _column(name: str) -> str:
    return quote_identifier(name)
