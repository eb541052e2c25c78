"""Finds the smallest database that still shows a fault, by asking the database.

Starts from the rows a case names and what they refer to, widens only if that does not
show the fault, then drops rows, users and columns one by one as long as it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.db.catalog import Catalog, Name, Relation
from harness.policies.cases import Case, commands_of
from harness.policies.ownership import Ownership, Part
from harness.policies.personas import User
from harness.policies.population import (
    Population,
    StoredRow,
    insert_statement,
    row_key,
    user_insert,
)
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt, Prober
from harness.policies.storage_paths import OBJECTS
from harness.policies.worlds import insertion_order

__all__ = ["Shrinker", "ShrunkCase"]

MAX_CLOSURE = 200
SMALL_ROWS = 3
BUCKETS = Name("storage", "buckets")
SMALL_IDENTITIES = 2
# Stands for whoever a row names without a part in the fault.
NOBODY = "00000000-0000-4000-8000-000000000000"
DROPPED_OBJECT_COLUMNS = ("path_tokens", "created_at", "updated_at", "last_accessed_at")


@dataclass(frozen=True)
class ShrunkCase:
    """A case with the setup that it needs, nothing more."""

    case: Case
    users: tuple[User, ...]
    rows: tuple[tuple[Name, Mapping[str, str | None]], ...]
    triggers: bool = True
    reproduced: bool = True
    known: frozenset[str] = frozenset()

    @property
    def identities(self) -> int:
        """How many different users and roles take part, named in rows or acting."""
        named = {user.id for user in self.users}
        named |= {v for _, row in self.rows for v in row.values() if v in self.known}
        named |= {accomplice.sub for accomplice in self.case.accomplices}
        return len(named - {self.case.persona.sub}) + 1

    @property
    def is_small(self) -> bool:
        """Whether it fits into a glance."""
        return len(self.rows) <= SMALL_ROWS and self.identities <= SMALL_IDENTITIES

    @property
    def why_large(self) -> str:
        """Say what a witness of many rows consists of ('' for a small one)."""
        if len(self.rows) <= SMALL_ROWS or not self.reproduced:
            return ""
        tables = ", ".join(dict.fromkeys(str(table) for table, _ in self.rows))
        return f"each of its {len(self.rows)} rows is needed ({tables})"


def _size(shrunk: ShrunkCase) -> tuple[bool, int, int]:
    return not shrunk.is_small, len(shrunk.rows), shrunk.identities


@dataclass(frozen=True)
class _Setup:
    users: tuple[User, ...]
    rows: tuple[tuple[Name, Mapping[str, str | None]], ...]
    triggers: bool = True


@dataclass
class Shrinker:
    """Shrinks cases on a database without any world in it."""

    prober: Prober
    catalog: Catalog
    ownership: Ownership
    population: Population

    def __post_init__(self) -> None:
        """Know the order in which rows can be inserted."""
        ordered = insertion_order(self.catalog)
        self._order = {relation.name: i for i, relation in enumerate(ordered)}

    async def shrink(self, case: Case) -> ShrunkCase:
        """Return the smallest setup under which ``case`` still shows its fault."""
        found: ShrunkCase | None = None
        for rows in self._widening(case):
            for triggers in (True, False):
                setup = self._setup(case, rows, triggers)
                if not await self._shows(case, setup):
                    continue
                shrunk = await self._minimise(case, setup)
                if found is None or _size(shrunk) < _size(found):
                    found = shrunk
                if found.is_small:
                    return found
            if found is not None:
                return found
        setup = self._setup(case, self._closure(case.rows), True)
        return replace(self._shrunk(case, setup), reproduced=False)

    def _widening(self, case: Case) -> Iterable[list[StoredRow]]:
        yield self._closure(case.rows)
        clan = case.persona.clan
        # A statement without a WHERE would reach the caller's own rows as well.
        aimed = case.steps[-1].target if self._victims(case) else None
        own = [
            row
            for rows in self.population.tables.values()
            for row in rows
            if clan and row.clan == clan and row.table not in (OBJECTS, aimed)
        ]
        yield self._closure([*case.rows, *own])
        victims = {row.clan for row in case.rows if row.clan}
        theirs = [
            row
            for rows in self.population.tables.values()
            for row in rows
            if row.clan in victims
        ]
        yield self._closure([*case.rows, *own, *theirs])

    def _closure(self, rows: Sequence[StoredRow]) -> list[StoredRow]:
        """Return ``rows`` and what they refer to, in insertion order."""
        found = {(row.table, row.at): row for row in rows}
        waiting = list(found.values())
        while waiting and len(found) <= MAX_CLOSURE:
            row = waiting.pop()
            relation = self.catalog.relations[row.table]
            for parent in self._parents(relation, row):
                if (parent.table, parent.at) not in found:
                    found[parent.table, parent.at] = parent
                    waiting.append(parent)
        kept = [row for row in found.values() if not self._is_seed(row)]
        return sorted(kept, key=lambda row: self._order.get(row.table, 0))

    def _is_seed(self, row: StoredRow) -> bool:
        """Say whether the schema itself brings the row, here as in any database."""
        if row.table == BUCKETS:
            return True
        relation = self.catalog.relations[row.table]
        texts = {column.name: row.text(column.name) for column in relation.columns}
        return (row.table, row_key(relation, texts)) in self.population.seeds

    def _parents(self, relation: Relation, row: StoredRow) -> Iterable[StoredRow]:
        for key in relation.foreign_keys:
            wanted = [row.values.get(column) for column in key.columns]
            if None in wanted:
                continue
            for candidate in self.population.of(key.target):
                if [candidate.values.get(c) for c in key.target_columns] == wanted:
                    yield candidate

    def _setup(self, case: Case, rows: Sequence[StoredRow], triggers: bool) -> _Setup:
        cast = self.population.world.cast
        named = [u for u in cast.users if any(u.id in row.users for row in rows)]
        acting = [persona.user for persona in (case.persona, *case.accomplices)]
        named += [user for user in acting if user is not None and not user.ghost]
        wanted = {user.id: user for user in named}
        stored = tuple((row.table, self._values(row)) for row in rows)
        return _Setup(tuple(wanted.values()), stored, triggers)

    def _values(self, row: StoredRow) -> Mapping[str, str | None]:
        relation = self.catalog.relations[row.table]
        return {
            column.name: row.text(column.name)
            for column in relation.columns
            if not column.generated
            and row.values.get(column.name) is not None
            and not (row.table == OBJECTS and column.name in DROPPED_OBJECT_COLUMNS)
        }

    async def _minimise(self, case: Case, setup: _Setup) -> ShrunkCase:
        setup = await self._drop_rows(case, setup, self._victims(case))
        setup = await self._drop_users(case, setup)
        case, setup = await self._merge_users(case, setup)
        setup = await self._drop_columns(case, setup)
        if len(setup.rows) > SMALL_ROWS:
            # What a column referred to that has gone may go as well.
            setup = await self._drop_rows(case, setup, self._victims(case))
        case = await self._drop_claims(case, setup)
        case = await self._drop_values(case, setup)
        return self._shrunk(case, setup)

    async def _drop_claims(self, case: Case, setup: _Setup) -> Case:
        """Keep of the token only what the fault needs."""
        persona = case.persona
        for name in persona.claims:
            if name in ("sub", "role"):
                continue
            claims = {k: v for k, v in case.persona.claims.items() if k != name}
            tried = replace(case, persona=replace(case.persona, claims=claims))
            if await self._shows(tried, setup):
                case = tried
        return case

    def _telling(self, table: Name) -> set[str]:
        """Return the columns that say whose a row is, without which it says nothing."""
        if table == OBJECTS:
            return {"bucket_id", "name"}
        owned = self.ownership.of(table)
        parents = {column for parent in owned.parents for column in parent.columns}
        return {*owned.user_names, *owned.tenants, *parents}

    async def _drop_values(self, case: Case, setup: _Setup) -> Case:
        """Leave out of an INSERT what neither the fault nor its reader needs."""
        for index, step in enumerate(case.steps):
            if step.action != "insert" or step.target is None:
                continue
            for name in sorted(set(step.values) - self._telling(step.target)):
                shorter = case.steps[index].without(name)
                steps = (*case.steps[:index], shorter, *case.steps[index + 1 :])
                tried = replace(case, steps=steps)
                if shorter.values and await self._shows(tried, setup):
                    case = tried
        return case

    def _shrunk(self, case: Case, setup: _Setup) -> ShrunkCase:
        known = frozenset(user.id for user in self.population.world.cast.users)
        return ShrunkCase(case, setup.users, setup.rows, setup.triggers, known=known)

    def _victims(self, case: Case) -> list[tuple[Name, Mapping[str, str | None]]]:
        """Return the rows that a statement without a WHERE is there to reach."""
        last = case.steps[-1]
        changes = last.action in ("update", "delete") and not last.filters
        if case.expectation.kind != "affects" or not changes:
            return []
        rows = [row for row in case.rows if row.table == last.target]
        return [(row.table, self._values(row)) for row in rows]

    async def _drop_rows(
        self,
        case: Case,
        setup: _Setup,
        victims: list[tuple[Name, Mapping[str, str | None]]],
    ) -> _Setup:
        size = max(1, len(setup.rows) // 2)
        while setup.rows:
            shrunk = False
            start = len(setup.rows) - size
            while start > -size:
                kept = setup.rows[: max(start, 0)] + setup.rows[start + size :]
                tried = replace(setup, rows=kept)
                fewer = len(kept) < len(setup.rows)
                aimed = all(victim in kept for victim in victims)
                if fewer and aimed and await self._shows(case, tried):
                    setup, shrunk = tried, True
                start -= size
            if size == 1 and not shrunk:
                break
            size = max(1, size // 2)
        return setup

    async def _drop_users(self, case: Case, setup: _Setup) -> _Setup:
        for user in setup.users:
            kept = tuple(u for u in setup.users if u != user)
            tried = replace(setup, users=kept)
            if await self._shows(case, tried):
                setup = tried
        return setup

    async def _merge_users(self, case: Case, setup: _Setup) -> tuple[Case, _Setup]:
        """Let one user stand for several, where the fault does not mind."""
        cast = [user.id for user in self.population.world.cast.users]
        named = {value for _, row in setup.rows for value in row.values()}
        named |= {value for step in case.steps for value in step.values.values()}
        acting = {persona.sub for persona in (case.persona, *case.accomplices)}
        others = [u for u in cast if u in named and u not in acting]
        merged: set[str] = set()
        for kept, gone in itertools.combinations(others, 2):
            if merged & {kept, gone}:
                continue
            tried = case.renamed(gone, kept), self._renamed(setup, gone, kept)
            if await self._shows(*tried):
                case, setup = tried
                merged.add(gone)
        left = [user for user in others if user not in merged]
        for gone in left[1:]:
            stand_ins = [NOBODY]
            if self._only_referred(case, gone):
                stand_ins.append(case.persona.sub)
            for kept in stand_ins:
                tried = case.renamed(gone, kept), self._renamed(setup, gone, kept)
                if await self._shows(*tried):
                    case, setup = tried
                    break
        return case, setup

    def _only_referred(self, case: Case, user: str) -> bool:
        """Say whether a row to insert names the user, but not as whose it is."""
        last = case.steps[-1]
        if last.action != "insert" or last.target is None or not case.persona.sub:
            return False
        owned = self.ownership.of(last.target)
        named = [column for column, value in last.values.items() if value == user]
        parts = {owned.part_of(column) for column in named}
        return parts == {Part.REFERENCE}

    def _renamed(self, setup: _Setup, gone: str, kept: str) -> _Setup:
        """Return the setup with another user in place of one; each key stays once."""
        rows: dict[tuple[object, ...], tuple[Name, Mapping[str, str | None]]] = {}
        for number, (table, values) in enumerate(setup.rows):
            row = {k: kept if v == gone else v for k, v in values.items()}
            key = tuple(row.get(c) for c in self.catalog.relations[table].primary_key)
            if key != (NOBODY,):
                rows.setdefault((table, *key) if key else (number,), (table, row))
        users = tuple(user for user in setup.users if user.id != gone)
        return replace(setup, users=users, rows=tuple(rows.values()))

    async def _drop_columns(self, case: Case, setup: _Setup) -> _Setup:
        for index, (table, values) in enumerate(setup.rows):
            relation = self.catalog.relations[table]
            for name in list(values):
                if relation.column(name).required:
                    continue
                less = {k: v for k, v in setup.rows[index][1].items() if k != name}
                rows = list(setup.rows)
                rows[index] = (table, less)
                tried = replace(setup, rows=tuple(rows))
                if await self._shows(case, tried):
                    setup = tried
        return setup

    async def _shows(self, case: Case, setup: _Setup) -> bool:
        prepared = setup_statements(case, setup, self.catalog)
        answer = await self.prober.attempt(case_attempt(case, prepared))
        if not case.expectation.holds(answer):
            return False
        for shorter in case.without_one() if case.dependent else ():
            answer = await self.prober.attempt(case_attempt(shorter, prepared))
            if case.expectation.holds(answer):
                return False
        return True


def setup_statements(
    case: Case, setup: _Setup | ShrunkCase, catalog: Catalog
) -> tuple[str, ...]:
    """Return the statements that build the database of a case, as superuser."""
    inserts = [user_insert(user) for user in setup.users]
    for table, values in setup.rows:
        identity = any(c.identity for c in catalog.relations[table].columns)
        inserts.append(insert_statement(table, values, identity=identity))
    if not setup.triggers and inserts:
        inserts = [WITHOUT_TRIGGERS, *inserts, WITH_TRIGGERS]
    return (*case.repairs, *inserts)


def case_attempt(case: Case, setup: tuple[str, ...] = ()) -> Attempt:
    """Return the attempt that runs a case after ``setup``."""
    statements = list(commands_of(case.steps, case.persona))
    fetch = observe = ""
    if case.expectation.kind == "returns" or case.steps[-1].action == "call":
        last = statements.pop()
        fetch = f"select coalesce(jsonb_agg(to_jsonb(x)), '[]') from ({last}) x"
    if case.expectation.kind == "observed":
        observe = f"select to_jsonb({case.expectation.query})"
    return Attempt(
        persona=case.persona,
        commands=tuple(statements),
        fetch=fetch,
        observe=observe,
        setup=setup,
        settings=case.settings,
    )
