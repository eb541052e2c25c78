"""Decisions by execution: what each persona may really do to each stored row.

SELECT, UPDATE and DELETE are asked of all rows of a table in one statement without a
WHERE clause (reading no column, so that SELECT policies cannot hide a fault), and row
by row only after an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.db.catalog import Catalog, Column, Name, Relation, quote_identifier
from harness.policies.ownership import Ownership
from harness.policies.personas import Persona
from harness.policies.population import Population, StoredRow
from harness.policies.probing import (
    WITH_TRIGGERS,
    WITHOUT_TRIGGERS,
    Answer,
    Attempt,
    Prober,
)
from harness.policies.storage_paths import OBJECTS
from harness.policies.syntax import Tree, deparse, disjuncts, parse_condition
from harness.policies.values import (
    FUTURE,
    INTEGER_TYPES,
    NUMBER_TYPES,
    SHAPES,
    TEXT_TYPES,
    literal,
)

__all__ = [
    "Decisions",
    "Fault",
    "decide",
    "harmless_change",
    "row_filter",
    "statement_settings",
]

COMMANDS = ("SELECT", "UPDATE", "DELETE")
# ON DELETE NO ACTION and RESTRICT, as pg_constraint spells them.
RESTRICTING = ("a", "r")
CONSTANT = r"(?:CAST\()?('[^']*')(?: AS [\w. \"]+\))?"
DEMAND = re.compile(rf"(?:CAST\()?\"?(\w+)\"?(?: AS [\w. \"]+\))? = {CONSTANT}")
PROGRAMMING_ERRORS = ("42P17", "54001", "0A000")


@dataclass(frozen=True, slots=True)
class Fault:
    """A command that raised something other than a refusal."""

    persona: Persona
    table: Name
    command: str
    statement: str
    answer: Answer


@dataclass
class Decisions:
    """Which rows each persona may see, change and remove; raised errors."""

    allowed: dict[tuple[str, str, Name], frozenset[str]] = field(default_factory=dict)
    statements: dict[tuple[str, str, Name], str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def may(self, persona: Persona, command: str, row: StoredRow) -> bool:
        """Say whether ``persona`` was seen doing ``command`` to ``row``."""
        return row.at in self.allowed.get((persona.name, command, row.table), ())

    def rows(
        self, persona: Persona, command: str, population: Population, table: Name
    ) -> list[StoredRow]:
        """Return the rows that ``persona`` may do ``command`` to."""
        return [r for r in population.of(table) if self.may(persona, command, r)]


async def decide(
    prober: Prober,
    catalog: Catalog,
    ownership: Ownership,
    population: Population,
    personas: Sequence[Persona],
) -> Decisions:
    """Execute every command of every persona on every table."""
    decisions = Decisions()
    for relation in catalog.tables:
        if relation.name.schema == "realtime" or not population.of(relation.name):
            continue
        for persona in personas:
            await _decide_table(
                prober, catalog, ownership, population, relation, persona, decisions
            )
    return decisions


async def _decide_table(
    prober: Prober,
    catalog: Catalog,
    ownership: Ownership,
    population: Population,
    relation: Relation,
    persona: Persona,
    decisions: Decisions,
) -> None:
    rows = population.of(relation.name)
    asked: list[tuple[str, str, Attempt]] = []
    for command in COMMANDS:
        statement = _whole_table(command, relation, ownership, persona)
        if statement:
            asked.append(
                (command, statement, _attempt(persona, relation, command, statement))
            )
    answers = await prober.attempt_all([attempt for _, _, attempt in asked])
    for (command, statement, _), answer in zip(asked, answers, strict=True):
        key = (persona.name, command, relation.name)
        decisions.statements[key] = statement
        if answer.ok:
            decisions.allowed[key] = _allowed(command, relation, persona, answer, rows)
            continue
        if not answer.denied and not answer.sqlstate.startswith("23"):
            decisions.faults.append(
                Fault(persona, relation.name, command, statement, answer)
            )
        if command == "DELETE" and answer.sqlstate.startswith("23"):
            answer = await _delete_unreferenced(prober, catalog, persona, relation)
            if answer.ok:
                allowed = _allowed(command, relation, persona, answer, rows)
                decisions.allowed[key] = allowed
                continue
        if command != "SELECT":
            decisions.allowed[key] = await _row_by_row(
                prober, relation, persona, statement, rows
            )
    prober.decisions += len(rows) * len(asked)


def _attempt(
    persona: Persona, relation: Relation, command: str, statement: str
) -> Attempt:
    settings = statement_settings(relation.name, command)
    if command == "SELECT":
        return Attempt(persona=persona, fetch=statement, settings=settings)
    return Attempt(
        persona=persona,
        commands=(statement,),
        observe=(
            "select coalesce(jsonb_agg(t.tableoid::oid || t.ctid::text), '[]')"
            f" from {relation.name.sql} t"
        ),
        settings=settings,
    )


def statement_settings(table: Name, command: str) -> Mapping[str, str]:
    """Return the settings that the Storage API has in force for ``command``."""
    if table == OBJECTS and command == "DELETE":
        return {"storage.allow_delete_query": "true"}
    if table == OBJECTS and command == "UPDATE":
        return {"storage.operation": "storage.object.upload_update"}
    return {}


def _whole_table(
    command: str, relation: Relation, ownership: Ownership, persona: Persona
) -> str:
    """Return the statement over all rows, '' when no grant lets it begin."""
    if not relation.may(persona.role, command):
        return ""
    if command == "SELECT":
        return _visible_query(relation, persona)
    if command == "DELETE":
        return f"delete from {relation.name.sql}"
    change = harmless_change(relation, ownership, persona)
    return f"update {relation.name.sql} set {change}" if change else ""


def _visible_query(relation: Relation, persona: Persona) -> str:
    held = relation.privileges[persona.role]
    if "SELECT" in held.table:
        return (
            "select coalesce(jsonb_agg(t.tableoid::oid || t.ctid::text), '[]')"
            f" from {relation.name.sql} t"
        )
    columns = [c for c in relation.columns if held.may("SELECT", c.name)]
    pairs = ", ".join(f"{literal(c.name)}, t.{c.sql}" for c in columns)
    return (
        f"select coalesce(jsonb_agg(jsonb_build_object({pairs})), '[]')"
        f" from {relation.name.sql} t"
    )


def _allowed(
    command: str,
    relation: Relation,
    persona: Persona,
    answer: Answer,
    rows: Sequence[StoredRow],
) -> frozenset[str]:
    if command != "SELECT":
        left = set(answer.seen)
        return frozenset(row.at for row in rows if row.at not in left)
    if "SELECT" in relation.privileges[persona.role].table:
        return frozenset(answer.fetched)
    return frozenset(
        row.at
        for row in rows
        if any(
            all(row.values.get(name) == value for name, value in seen.items())
            for seen in answer.fetched
        )
    )


async def _delete_unreferenced(
    prober: Prober, catalog: Catalog, persona: Persona, relation: Relation
) -> Answer:
    """Ask again without the rows whose foreign keys forbid the deletion.

    The policies come first: what a foreign key refuses, they have let pass.
    """
    in_the_way = [
        f"delete from {other.name.sql}"
        for other in catalog.tables
        if other.name != relation.name
        for key in other.foreign_keys
        if key.target == relation.name and key.on_delete in RESTRICTING
    ]
    attempt = _attempt(persona, relation, "DELETE", f"delete from {relation.name.sql}")
    setup = (WITHOUT_TRIGGERS, *in_the_way, WITH_TRIGGERS)
    return await prober.attempt(replace(attempt, setup=setup))


async def _row_by_row(
    prober: Prober,
    relation: Relation,
    persona: Persona,
    statement: str,
    rows: Sequence[StoredRow],
) -> frozenset[str]:
    """Ask for each row alone; a constraint that refuses comes after the policies."""
    command = statement.split(" ", 1)[0].upper()
    asked = [(row, row_filter(relation, row)) for row in rows]
    answers = await prober.attempt_each(
        persona,
        [f"{statement} where {condition}" for _, condition in asked],
        statement_settings(relation.name, command),
    )
    return frozenset(
        row.at
        for (row, _), answer in zip(asked, answers, strict=True)
        if (answer.ok and answer.counts[0]) or answer.sqlstate.startswith("23")
    )


def row_filter(relation: Relation, row: StoredRow) -> str:
    """Return a condition that only ``row`` meets: its key, else all its values."""
    names = relation.primary_key or tuple(
        c.name for c in relation.columns if c.base_type not in ("json", "xml", "point")
    )
    parts = []
    for name in names:
        value = row.text(name)
        column = quote_identifier(name)
        parts.append(
            f"{column} is null" if value is None else f"{column} = {literal(value)}"
        )
    return " and ".join(parts)


def harmless_change(relation: Relation, ownership: Ownership, persona: Persona) -> str:
    """Return ``column = constant`` for a column whose change decides nothing else."""
    owned = ownership.of(relation.name)
    keys = {c for parent in owned.parents for c in parent.columns}
    keys |= set(owned.user_names) | set(owned.tenants)
    keys |= {c for key in relation.unique_keys for c in key.columns}
    checked = {c for check in relation.checks for c in check.columns}
    policy_text = " ".join(p.using + p.check for p in relation.policies)
    candidates = [
        column
        for column in relation.columns
        if not column.generated
        and not column.identity
        and relation.may(persona.role, "UPDATE", column.name)
    ]
    preferred = sorted(
        candidates,
        key=lambda c: (
            c.name in keys,
            c.name in checked or bool(c.domain_checks),
            c.name in policy_text,
            c.base_type not in TEXT_TYPES,
        ),
    )
    free = bool(preferred) and preferred[0].name not in policy_text
    demanded = _demanded(relation, persona, keys, free=free)
    if demanded:
        return demanded
    for column in preferred:
        value = _constant(column)
        if value is not None:
            return f"{column.sql} = {value}"
    return ""


def _demanded(
    relation: Relation, persona: Persona, keys: set[str], *, free: bool
) -> str:
    """Return a change that UPDATE policies demand: the state that rows move on to.

    Where there is a column to change that no policy reads (``free``), every way to
    pass must demand it.
    """
    found = []
    for policy in relation.policies:
        if not policy.permissive or not policy.applies_to("UPDATE", persona.role):
            continue
        node = parse_condition(policy.check)
        ways = disjuncts(node) if node is not None else [()]
        demands = [_demand(way, relation, persona, keys) for way in ways]
        met = all(demands) if free else any(demands)
        found.append(next(filter(None, demands)) if met else "")
    return found[0] if found and all(found) else ""


def _demand(
    way: Sequence[Tree], relation: Relation, persona: Persona, keys: set[str]
) -> str:
    """Return ``column = constant`` if a conjunction asks it of the new row."""
    for atom in way:
        match = DEMAND.fullmatch(deparse(atom))
        if match is None or match[1] in keys or not relation.has_column(match[1]):
            continue
        column = relation.column(match[1])
        if relation.may(persona.role, "UPDATE", column.name):
            return f"{column.sql} = {match[2]}"
    return ""


def _constant(column: Column) -> str | None:
    if not column.not_null and not column.domain_checks:
        fallback = "null"
    elif column.default and not column.domain_checks:
        fallback = "default"
    else:
        fallback = None
    kind = column.base_type
    if column.labels and not column.is_array:
        return literal(column.labels[0])
    if kind in TEXT_TYPES:
        text = "probed"[: column.max_length or 6]
        return literal(text)
    if kind in INTEGER_TYPES or kind in NUMBER_TYPES:
        return "1"
    if kind.startswith("timestamp"):
        return literal(FUTURE)
    if column.is_array:
        return "'{}'"
    if kind in SHAPES:
        return literal(SHAPES[kind][0])
    return fallback
