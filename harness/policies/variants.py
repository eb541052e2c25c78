"""Which combinations of values the rows of a table take, so that no branch is missed.

Columns that policies, helpers or checks look at take each value they are compared with,
and one they are not; CHECK constraints are solved by PostgreSQL itself, which filters
the candidates of the columns that each constraint reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from harness.db.address import Connection
from harness.db.catalog import Catalog, Column, Name, Relation
from harness.policies.comparisons import Col
from harness.policies.mining import Mined, domain_condition
from harness.policies.ownership import Ownership, Part
from harness.policies.values import FUTURE, PAST, SHAPES, Values, literal

__all__ = ["Variants", "solve_variants"]

MAX_VARIANTS = 12
MAX_LABELS = 8
MAX_CANDIDATES = 24
MAX_SOLUTIONS = 2000
POOL_SIZE = 40

Assignment = dict[str, str | None]


@dataclass(frozen=True)
class Variants:
    """The value combinations of each table; ``unsolved`` names checks without any.

    ``pools`` holds, for columns that must differ from row to row although a check
    reads them, values that the check accepts.
    """

    tables: Mapping[Name, tuple[Assignment, ...]]
    unsolved: Mapping[Name, str] = field(default_factory=dict)
    pools: Mapping[tuple[Name, str], tuple[str, ...]] = field(default_factory=dict)

    def of(self, relation: Relation) -> list[Assignment]:
        """Return the combinations of ``relation``, at least an empty one."""
        return list(self.tables.get(relation.name) or ({},))


async def solve_variants(
    connection: Connection,
    catalog: Catalog,
    mined: Mined,
    ownership: Ownership,
    values: Values,
) -> Variants:
    """Work out the combinations of every table."""
    tables: dict[Name, tuple[Assignment, ...]] = {}
    unsolved: dict[Name, str] = {}
    pools: dict[tuple[Name, str], tuple[str, ...]] = {}
    for relation in catalog.tables:
        if relation.name.schema in ("storage", "realtime"):
            continue
        solver = _Solver(relation, mined, ownership, values)
        factors = solver.free_factors()
        for group, checks in solver.components():
            solutions = await solver.solve(connection, group, checks)
            if not solutions:
                unsolved[relation.name] = " and ".join(checks)
            else:
                factors.append(solver.cover(solutions))
                for name in solver.differing(group):
                    fixed = {k: v for k, v in solutions[0].items() if k != name}
                    found = await solver.pool(connection, name, fixed, checks)
                    pools[relation.name, name] = found
        tables[relation.name] = tuple(_combine(factors))
    return Variants(tables, unsolved, pools)


@dataclass
class _Solver:
    relation: Relation
    mined: Mined
    ownership: Ownership
    values: Values
    dimensions: dict[str, list[str | None]] = field(init=False)

    def __post_init__(self) -> None:
        """Work out what each column should take."""
        self.dimensions = {
            column.name: found
            for column in self.relation.columns
            if not column.generated
            and (
                found := self._unlinked(column)
                if self._is_key(column.name)
                else self._dimension(column)
            )
        }

    def _is_key(self, name: str) -> bool:
        owned = self.ownership.of(self.relation.name)
        keys = {column for parent in owned.parents for column in parent.columns}
        return name in keys or name in owned.tenants or name in owned.user_names

    def _unlinked(self, column: Column) -> list[str | None]:
        """Return "none" and "some" for a link that policies want to be missing.

        Who owns a row, or which tenant, is never left out.
        """
        owned = self.ownership.of(self.relation.name)
        deciding = {*owned.tenants} | {
            user.column for user in owned.users if user.part is not Part.REFERENCE
        }
        tested = Col(self.relation.name, column.name) in self.mined.null_tests
        if not tested or column.not_null or column.name in deciding:
            return []
        return [None, self.values.fresh(self.relation, column)]

    def _dimension(self, column: Column) -> list[str | None]:
        col = Col(self.relation.name, column.name)
        mentioned = self.mined.constants.get(col, [])
        found: list[str | None] = []
        bounds = self.mined.bounds.get(col, [])
        if bounds:
            found = [*bounds[:MAX_LABELS], self.values.fresh(self.relation, column)]
        elif column.base_type == "boolean":
            if col in self.mined.truth_tests or mentioned:
                found = ["true", "false"]
        elif column.labels and not column.is_array:
            if mentioned or col in self.mined.policy_columns:
                found = list(column.labels[:MAX_LABELS])
        elif col in self.mined.clock_tests:
            dates = column.base_type == "date"
            found = [FUTURE[:10], PAST[:10]] if dates else [FUTURE, PAST]
        elif column.base_type in ("json", "jsonb"):
            found = list(self._documents(column))
        elif mentioned:
            found = self._mentioned(column, mentioned)
        if col in self.mined.null_tests and not column.not_null:
            found = [None, *(found or [self.values.fresh(self.relation, column)])]
        return found

    def _mentioned(self, column: Column, mentioned: Sequence[str]) -> list[str | None]:
        if column.is_array:
            return [*(f'{{"{value}"}}' for value in mentioned[:MAX_LABELS]), "{}"]
        candidates = self.values.candidates(self.relation, column)
        if column.base_type in SHAPES or column.base_type == "uuid":
            return list(mentioned)
        wanted = [v for v in candidates if v in mentioned]
        return [*wanted[:MAX_LABELS], self.values.fresh(self.relation, column)]

    def _documents(self, column: Column) -> Iterable[str]:
        """Yield a document for each constant that a JSON path is compared with."""
        paths = {
            col.path: found
            for col, found in self.mined.constants.items()
            if col.table == self.relation.name
            and col.column == column.name
            and col.path
        }
        for path, constants in paths.items():
            for value in constants:
                yield json.dumps(_document(path, value))
        if paths:
            yield "{}"

    # -- checks --------------------------------------------------------------------

    def components(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return groups of columns that checks tie together, with those checks."""
        groups: list[tuple[set[str], list[str]]] = []
        for columns, expression in self._checks():
            touched = [group for group in groups if group[0] & columns]
            merged = (set(columns), [expression])
            for group in touched:
                merged[0].update(group[0])
                merged[1].extend(group[1])
                groups.remove(group)
            groups.append(merged)
        return [(tuple(sorted(names)), tuple(checks)) for names, checks in groups]

    def _checks(self) -> Iterable[tuple[set[str], str]]:
        generated = {c.name for c in self.relation.columns if c.generated}
        for check in self.relation.checks:
            if check.columns and not set(check.columns) & generated:
                yield set(check.columns), check.expression
        for column in self.relation.columns:
            for text in column.domain_checks:
                yield {column.name}, domain_condition(text, column.sql)

    def free_factors(self) -> list[list[Assignment]]:
        """Return the values of the columns that no check reads."""
        checked = {name for columns, _ in self._checks() for name in columns}
        return [
            [{name: value} for value in found]
            for name, found in self.dimensions.items()
            if name not in checked
        ]

    def _candidates(self, name: str, checks: Sequence[str]) -> list[str | None]:
        column = self.relation.column(name)
        numbers = [n for text in checks for n in re.findall(r"-?\d+(?:\.\d+)?", text)]
        found = self.values.candidates(self.relation, column, numbers)
        fresh = self.values.fresh(self.relation, column)
        wanted = [*self.dimensions.get(name, ()), fresh, *found]
        if column.not_null:
            wanted = [value for value in wanted if value is not None]
        return list(dict.fromkeys(wanted))[:MAX_CANDIDATES]

    async def solve(
        self, connection: Connection, group: Sequence[str], checks: Sequence[str]
    ) -> list[Assignment]:
        """Return assignments that satisfy ``checks``, as PostgreSQL judges them."""
        return await self._solve(
            connection, {name: self._candidates(name, checks) for name in group}, checks
        )

    def differing(self, group: Sequence[str]) -> list[str]:
        """Return the columns that a unique key or exclusion wants to differ."""
        keys = {c for key in self.relation.unique_keys for c in key.columns}
        return [
            name
            for name in group
            if name in keys and not self._is_key(name) and not self.dimensions.get(name)
        ]

    async def pool(
        self,
        connection: Connection,
        name: str,
        fixed: Assignment,
        checks: Sequence[str],
    ) -> tuple[str, ...]:
        """Return different values of one column that satisfy ``checks``."""
        wanted: list[str | None] = [
            *self.values.many(self.relation, self.relation.column(name), POOL_SIZE)
        ]
        candidates = {n: [v] for n, v in fixed.items()} | {name: wanted}
        found = await self._solve(connection, candidates, checks)
        return tuple(v for row in found if (v := row[name]) is not None)

    async def _solve(
        self,
        connection: Connection,
        candidates: Mapping[str, Sequence[str | None]],
        checks: Sequence[str],
    ) -> list[Assignment]:
        group = list(candidates)
        sources = []
        for position, name in enumerate(group):
            column = self.relation.column(name)
            kind = column.type if not column.domain_checks else column.base_type
            rows = ", ".join(
                f"({literal(value)}::{kind})" for value in candidates[name]
            )
            sources.append(f"(values {rows}) as v{position}({column.sql})")
        condition = " and ".join(f"(({check}) is not false)" for check in checks)
        selected = ", ".join(f"{self.relation.column(n).sql}::text" for n in group)
        query = (
            f"select {selected} from {', '.join(sources)} where {condition}"
            f" limit {MAX_SOLUTIONS}"
        )
        try:
            rows = await connection.fetch(query)
        except asyncpg.PostgresError:
            # A check that no candidate can even be tried against stays unsolved; the
            # caller reports it.
            return []
        return [dict(zip(group, row.values(), strict=True)) for row in rows]

    def cover(self, solutions: Sequence[Assignment]) -> list[Assignment]:
        """Choose few solutions that show every wanted value."""
        chosen = [solutions[0]]
        for name in solutions[0]:
            for value in self.dimensions.get(name, ()):
                if any(s[name] == value for s in chosen):
                    continue
                match = next((s for s in solutions if s[name] == value), None)
                if match is not None:
                    chosen.append(match)
        return chosen[:MAX_VARIANTS]


def _document(path: tuple[str, ...], value: str) -> object:
    nested: object = {"true": True, "false": False}.get(value, value)
    for step in reversed(path):
        nested = {step: nested}
    return nested


def _combine(factors: Sequence[Sequence[Assignment]]) -> list[Assignment]:
    """Return the product of the factors, or a covering part of a large one."""
    total = 1
    for factor in factors:
        total *= len(factor)
    if total <= MAX_VARIANTS:
        combined: list[Assignment] = [{}]
        for factor in factors:
            combined = [left | right for left in combined for right in factor]
        return combined
    longest = max(len(factor) for factor in factors)
    return [
        {
            name: value
            for place, factor in enumerate(factors)
            for name, value in factor[(turn // (place + 1)) % len(factor)].items()
        }
        for turn in range(max(longest, MAX_VARIANTS))
    ]
