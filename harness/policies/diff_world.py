"""One world stored in two versions of a schema, row by row the same.

The world is planned from the union of both versions and stored in BASE with its
triggers on; what is there afterwards is copied as it is to HEAD, so that a row made by
a trigger is the same on both sides.  Rows are told apart by their key, not by place.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from harness.clock import seeded
from harness.db.address import Connection
from harness.db.catalog import Catalog, Name, Relation
from harness.db.catalog_reading import read_catalog
from harness.policies.decisions import Decisions
from harness.policies.diff_reach import (
    DRAWN,
    Definitions,
    Reach,
    reach_of,
    read_definitions,
)
from harness.policies.diff_union import common_catalog, union_catalog
from harness.policies.grid import Grid, install_grid
from harness.policies.mining import Mined, mine
from harness.policies.ownership import Ownership, infer_ownership
from harness.policies.personas import Persona, build_cast
from harness.policies.population import (
    Population,
    StoredRow,
    analyze,
    insert_statement,
    patiently,
    read_rows,
    read_seeds,
    row_insert,
    store_world,
    tables_without_rows,
)
from harness.policies.probing import Answer, Prober
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Trial
from harness.policies.values import Values
from harness.policies.variants import solve_variants
from harness.policies.worlds import USERS, Row, World, insertion_order, plan_world

__all__ = [
    "TIMED_OUT",
    "Pair",
    "Side",
    "Versions",
    "key_of",
    "match",
    "prepare_pair",
    "read_versions",
]

TIMED_OUT = "a statement ran into the time limit"
WITHOUT_TRIGGERS = "set local session_replication_role = replica"


@dataclass
class Side:
    """One version: its catalog, the probes into its copy, and what is stored there."""

    catalog: Catalog
    prober: Prober
    population: Population
    keys: Mapping[Name, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the way in which many questions are asked at once."""
        self.grid = Grid(self.prober)

    def trial(self, pair: Pair, decisions: Decisions) -> Trial:
        """Return what is stored here in the form that tells what a call changed."""
        return Trial(
            self.catalog,
            pair.mined,
            pair.ownership,
            self.population,
            decisions,
            self.prober,
            pair.values,
        )


@dataclass
class Pair:
    """Both versions with one world; ``common`` is what can be compared.

    ``rows`` are the same in both versions, key included; ``alike`` holds rows besides
    whose drawn ids differ.  ``visible`` tells, by persona and table, which rows are
    read in both versions.
    """

    base: Side
    head: Side
    common: Catalog
    union: Catalog
    mined: Mined
    ownership: Ownership
    values: Values
    reach: Reach
    rows: Mapping[Name, Mapping[str, StoredRow]] = field(default_factory=dict)
    alike: Mapping[Name, Mapping[str, StoredRow]] = field(default_factory=dict)
    visible: dict[tuple[str, Name], frozenset[str]] = field(default_factory=dict)
    undecided: dict[str, str] = field(default_factory=dict)

    @property
    def personas(self) -> tuple[Persona, ...]:
        """Everybody in the cast, the same on both sides."""
        return self.base.population.world.cast.personas

    @property
    def tables(self) -> tuple[Relation, ...]:
        """The tables that both versions have."""
        return tuple(r for r in self.common.tables if r.name.schema != "realtime")

    def begin(self) -> None:
        """Turn to another object on both sides."""
        for side in (self.base, self.head):
            side.grid.begin()

    def timed_out(self, where: str, *answers: Answer | None) -> bool:
        """Say whether an answer ran into the time limit, and note it for ``where``."""
        found = any(answer is not None and answer.timed_out for answer in answers)
        if found:
            self.undecided[where] = TIMED_OUT
        return found

    @property
    def compared_tables(self) -> tuple[Relation, ...]:
        """The tables that decisions may differ about."""
        return tuple(r for r in self.tables if self.reach.includes(r.name.name))

    def trial(self, decisions: Decisions) -> Trial:
        """Return the shared world in the form that plans calls and steps."""
        return Trial(
            self.union,
            self.mined,
            self.ownership,
            self.base.population,
            decisions,
            self.base.prober,
            self.values,
        )


def key_of(relation: Relation, values: Mapping[str, object]) -> str:
    """Return what tells a row from others in both versions."""
    names = relation.primary_key
    if not names or not all(relation.has_column(name) for name in names):
        names = tuple(sorted(column.name for column in relation.columns))
    return json.dumps([values.get(name) for name in names], default=str)


@dataclass(frozen=True, slots=True)
class Versions:
    """What both copies declare, and what their differences reach."""

    probers: tuple[Prober, Prober]
    catalogs: tuple[Catalog, Catalog]
    reach: Reach


async def read_versions(
    base: Prober, head: Prober, *, everything: bool = False
) -> Versions:
    """Read both versions; with ``everything``, no difference is taken for granted."""
    read = await asyncio.gather(_read(base), _read(head))
    reach = reach_of(*(definitions for _, definitions in read))
    if everything:
        reach = replace(reach, total=True)
    return Versions((base, head), (read[0][0], read[1][0]), reach)


async def prepare_pair(versions: Versions, seed: int) -> Pair:
    """Plan a world that fits both versions and store it in both."""
    base, head = versions.probers
    async with patiently(base.connection), patiently(head.connection):
        return await _prepared(versions, seed)


async def _prepared(versions: Versions, seed: int) -> Pair:
    base, head = versions.probers
    catalogs = versions.catalogs
    union = union_catalog(*catalogs)
    common = common_catalog(*catalogs)
    mined = mine(union)
    ownership = infer_ownership(union, mined, {})
    values = Values(mined, seeded(seed))
    variants = await solve_variants(head.connection, union, mined, ownership, values)
    seeds = [
        await read_seeds(prober.connection, catalog)
        for prober, catalog in zip((base, head), catalogs, strict=True)
    ]
    cast = build_cast(union, mined, ownership)
    planned = _with_crossed_folders(
        plan_world(
            union, mined, ownership, cast, variants, values, {**seeds[1], **seeds[0]}
        )
    )
    old = await read_rows(base.connection, catalogs[0], ownership, planned)
    stored = await store_world(
        base.connection, catalogs[0], ownership, _fitting(planned, catalogs[0])
    )
    # What triggers sent while the world was stored is not part of it.
    await base.connection.execute("delete from realtime.messages")
    copier = _Copier(head, catalogs[1], common, planned)
    await copier.copy(stored, old)
    await _level_sequences(base.connection, head.connection)
    tables = await read_rows(head.connection, catalogs[1], ownership, planned)
    sides = (
        Side(catalogs[0], base, replace(stored, world=planned)),
        Side(catalogs[1], head, Population(planned, tables)),
    )
    pair = Pair(*sides, common, union, mined, ownership, values, versions.reach)
    match(pair)
    return pair


async def _read(prober: Prober) -> tuple[Catalog, Definitions]:
    await install_grid(prober.connection)
    definitions = await read_definitions(prober.connection)
    return await read_catalog(prober.connection), definitions


SEQUENCES = """
select quote_ident(schemaname) || '.' || quote_ident(sequencename) as name,
       coalesce(last_value, 0) as last_value
  from pg_sequences where increment_by > 0
"""


async def _level_sequences(base: Connection, head: Connection) -> None:
    """Let both versions draw the same numbers from here on."""
    found = [
        {row["name"]: row["last_value"] for row in await connection.fetch(SEQUENCES)}
        for connection in (base, head)
    ]
    for name in found[0].keys() & found[1].keys():
        last = max(values[name] for values in found)
        for connection in (base, head) if last else ():
            await connection.execute(
                "select setval($1::text::regclass, $2)", name, last
            )


def _with_crossed_folders(world: World) -> World:
    """Add files whose folders name two clans, which tells which folder decides."""
    first: dict[tuple[str | None, str], Row] = {}
    for row in world.of(OBJECTS):
        if "/" in (row.values.get("name") or ""):
            first.setdefault((row.values.get("bucket_id"), row.clan), row)
    rows = list(world.rows)
    for bucket in dict.fromkeys(bucket for bucket, _ in first):
        pair = [row for (place, _), row in first.items() if place == bucket][:2]
        for row, other in zip(pair, reversed(pair), strict=True):
            outer, inner = (
                (r.values["name"] or "").partition("/")[0] for r in (row, other)
            )
            if outer != inner:
                values = {**row.values, "name": f"{outer}/{inner}/crossed.png"}
                values.pop("id", None)
                rows.append(replace(row, number=len(rows), values=values))
    return replace(world, rows=tuple(rows))


def _fitting(world: World, catalog: Catalog) -> World:
    """Return ``world`` without the tables and columns that ``catalog`` lacks."""
    rows = [fitted for row in world.rows if (fitted := _fitted(row, catalog))]
    return replace(world, rows=tuple(rows))


def _fitted(row: Row, catalog: Catalog) -> Row | None:
    if row.table == USERS:
        return row
    relation = catalog.relations.get(row.table)
    if relation is None or not relation.is_table:
        return None
    settable = {c.name for c in relation.columns if not c.generated}
    return replace(row, values={k: v for k, v in row.values.items() if k in settable})


def match(pair: Pair) -> None:
    """Note which rows are on both sides, and the tables that could not be filled."""
    shared: dict[Name, Mapping[str, StoredRow]] = {}
    alike: dict[Name, Mapping[str, StoredRow]] = {}
    for relation in pair.common.tables:
        base, head = (
            {
                key_of(relation, row.values): row
                for row in side.population.of(relation.name)
            }
            for side in (pair.base, pair.head)
        )
        renamed = _renamed(relation, base, head)
        for side, keyed, names in ((pair.base, base, {}), (pair.head, head, renamed)):
            keys = {row.at: names.get(key, key) for key, row in keyed.items()}
            side.keys = {**side.keys, relation.name: keys}
        shared[relation.name] = {k: r for k, r in base.items() if k in head}
        others = {key: base[key] for key in renamed.values()}
        alike[relation.name] = {**shared[relation.name], **others}
        if base and not alike[relation.name] and relation.name.schema != "realtime":
            reason = "no row could be stored in both versions"
            pair.undecided[str(relation.name)] = reason
    pair.rows, pair.alike = shared, alike
    for table in tables_without_rows(pair.base.population, pair.common):
        if pair.reach.includes(table.name) or table.name.lower() in pair.reach.near:
            pair.undecided[str(table)] = pair.base.population.why_empty(table)


def _renamed(
    relation: Relation, base: Mapping[str, StoredRow], head: Mapping[str, StoredRow]
) -> dict[str, str]:
    """Return, by HEAD's key, BASE's key of a row that differs in drawn values only."""
    drawn = {
        c.name for c in relation.columns if re.search(DRAWN, c.default, re.IGNORECASE)
    }
    if not drawn:
        return {}

    def told(row: StoredRow) -> str:
        kept = {k: v for k, v in row.values.items() if k not in drawn}
        return json.dumps(kept, sort_keys=True, default=str)

    left = {told(row): key for key, row in base.items() if key not in head}
    return {
        key: left[told(row)]
        for key, row in head.items()
        if key not in base and told(row) in left
    }


@dataclass
class _Copier:
    """Stores in HEAD what BASE holds, and planned rows of tables that only HEAD has."""

    prober: Prober
    catalog: Catalog
    common: Catalog
    planned: World

    def __post_init__(self) -> None:
        self._plan = {
            (row.table, self._plan_key(row.table, row.values)): row
            for row in self.planned.rows
        }

    def _plan_key(self, table: Name, values: Mapping[str, object]) -> str:
        relation = self.catalog.relations.get(table)
        names = relation.primary_key if relation else ("id",)
        return json.dumps([str(values.get(name)) for name in names])

    async def copy(
        self, stored: Population, old: Mapping[Name, Sequence[StoredRow]]
    ) -> None:
        """Copy everything but the rows that the schema itself brought."""
        statements = [row_insert(self.catalog, row) for row in self.planned.of(USERS)]
        for relation in insertion_order(self.catalog):
            if relation.name.schema == "realtime" or relation.name.name == "buckets":
                continue
            if relation.name in self.common.relations:
                seeds = {key_of(relation, r.values) for r in old[relation.name]}
                statements += self._copies(relation, stored, seeds)
            else:
                statements += [
                    row_insert(self.catalog, fitted)
                    for row in self.planned.of(relation.name)
                    if (fitted := _fitted(row, self.catalog))
                ]
        await self._run(statements)

    def _copies(
        self, relation: Relation, stored: Population, seeds: set[str]
    ) -> Iterable[str]:
        identity = any(column.identity for column in relation.columns)
        for row in stored.of(relation.name):
            if key_of(relation, row.values) in seeds:
                continue
            plan = self._plan.get(
                (relation.name, self._plan_key(relation.name, row.values))
            )
            planned = plan.values if plan is not None else {}
            values = {
                column.name: row.text(column.name)
                if column.name in row.values
                else planned.get(column.name)
                for column in relation.columns
                if not column.generated
            }
            given = {
                name: value
                for name, value in values.items()
                if name in row.values or value is not None
            }
            yield insert_statement(relation.name, given, identity=identity)

    async def _run(self, statements: Sequence[str]) -> None:
        items = [
            {"row": number, "sql": sql, "claims": "", "sub": ""}
            for number, sql in enumerate(statements)
        ]
        connection = self.prober.connection
        async with connection.transaction():
            # Foreign keys and triggers were obeyed when the rows were first stored.
            await connection.execute(WITHOUT_TRIGGERS)
            await connection.fetchval(
                "select harness_probe.store($1::text::jsonb)",
                orjson.dumps(items).decode(),
            )
        await analyze(connection, self.catalog)
