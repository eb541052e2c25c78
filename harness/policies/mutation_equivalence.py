"""Whether a mutant changes anything: every decision is taken with and without it.

One world is stored once.  For each mutant a transaction applies it, takes the decisions
of every persona over the same rows, and is rolled back.  What is looked at: which rows
may be seen, changed and removed, which columns, which rows may be inserted, what rows
may be changed to, TRUNCATE, what calls of functions answer, topics of private
channels, and what the catalogue itself decides (buckets and publications).  A decision
that differs without any mutant (a random value, a clock) decides nothing here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import asyncpg
import orjson

from harness.clock import seeded
from harness.db.address import DatabaseAddress
from harness.db.catalog import API_ROLES, Catalog, Name, Relation
from harness.db.catalog_reading import read_catalog
from harness.db.fingerprint import fingerprint
from harness.policies.calls import plan_calls
from harness.policies.decisions import decide, row_filter, statement_settings
from harness.policies.mining import mine
from harness.policies.mutant import Mutant
from harness.policies.mutation_judging import SEARCH_PATH
from harness.policies.ownership import infer_ownership
from harness.policies.personas import Persona, build_cast
from harness.policies.population import (
    StoredRow,
    insert_statement,
    read_seeds,
    store_world,
)
from harness.policies.probing import Answer, Attempt
from harness.policies.rules import RuleSet
from harness.policies.scratch import cloned, scratch_prober
from harness.policies.syntax import Scope, ast, parse_condition, walk
from harness.policies.trial import Trial
from harness.policies.values import Values, literal
from harness.policies.variants import solve_variants
from harness.policies.worlds import plan_world

__all__ = ["Observatory", "open_observatory"]

MAX_ROWS = 6
MAX_PERSONAS = 8
MAX_TOPICS = 10
MAX_COUNTED = 45  # a function takes a hundred arguments
MAX_CHANGED_ROWS = 3
MAX_MATES = 2
MAX_VALUES = 2
MESSAGES = Name("realtime", "messages")

ROW_KINDS = frozenset({"rows", "columns", "catalog"})
ANSWER_KINDS = frozenset({"insert", "change", "call", "join", "send"})

Key = tuple[str, ...]
Observed = dict[Key, Any]


@asynccontextmanager
async def open_observatory(
    database: DatabaseAddress,
    rules: RuleSet | None,
    seed: int,
    *,
    statement_timeout_ms: int,
) -> AsyncIterator[Observatory]:
    """Store a world in a copy of ``database`` and take its decisions."""
    async with (
        cloned(database) as scratch,
        scratch_prober(scratch, statement_timeout_ms=statement_timeout_ms) as prober,
    ):
        connection = prober.connection
        catalog = await read_catalog(connection)
        mined = mine(catalog)
        ownership = infer_ownership(catalog, mined, rules.ownership if rules else {})
        cast = build_cast(catalog, mined, ownership)
        values = Values(mined, seeded(seed))
        variants = await solve_variants(connection, catalog, mined, ownership, values)
        seeds = await read_seeds(connection, catalog)
        world = plan_world(catalog, mined, ownership, cast, variants, values, seeds)
        population = await store_world(connection, catalog, ownership, world)
        personas = population.world.cast.personas
        decisions = await decide(prober, catalog, ownership, population, personas)
        trial = Trial(catalog, mined, ownership, population, decisions, prober, values)
        observatory = Observatory(trial)
        await observatory.prepare()
        yield observatory


@dataclass
class Observatory:
    """A stored world in which mutants are tried on and taken off again."""

    trial: Trial
    original: Observed = field(default_factory=dict)
    unsteady: frozenset[Key] = frozenset()
    catalogue: str = ""
    attempts: tuple[tuple[Key, Attempt], ...] = ()

    async def prepare(self) -> None:
        """Take every decision twice; those that differ by themselves are left out."""
        self.attempts = tuple(self._planned())
        first = await self._rows() | await self._answers()
        second = await self._rows() | await self._answers()
        self.unsteady = frozenset(
            key
            for key in first.keys() | second.keys()
            if first.get(key) != second.get(key)
        )
        self.original = first
        self.catalogue = await fingerprint(self.trial.prober.connection)

    async def refusal(self, mutant: Mutant) -> str:
        """Say why PostgreSQL does not take the mutant ('' where it does)."""
        try:
            async with self.wearing(mutant):
                return ""
        except asyncpg.PostgresError as exc:
            return str(exc)

    async def is_the_same(self, mutant: Mutant) -> bool:
        """Say whether the catalogue is proof that the mutant changes nothing."""
        connection = self.trial.prober.connection
        if mutant.where.startswith("bucket "):
            return False
        async with self.wearing(mutant):
            return await fingerprint(connection) == self.catalogue

    async def difference(self, mutant: Mutant) -> str:
        """Return a decision that the mutant changes, in words ('' for none)."""
        async with self.wearing(mutant):
            # The whole tables first: they are quick, and most differences show there.
            found = self._differing(await self._rows(), ROW_KINDS)
            return found or self._differing(await self._answers(), ANSWER_KINDS)

    def _differing(self, changed: Observed, kinds: frozenset[str]) -> str:
        keys = {key for key in self.original if key[0] in kinds} | changed.keys()
        for key in sorted(keys - self.unsteady, key=lambda k: (k[0] != "rows", k)):
            if self.original.get(key) != changed.get(key):
                return _worded(key, self.original.get(key), changed.get(key))
        return ""

    @asynccontextmanager
    async def wearing(self, mutant: Mutant) -> AsyncIterator[None]:
        """Apply a mutant until the end of the block."""
        connection = self.trial.prober.connection
        # What a fingerprint is read in.
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        try:
            await connection.execute(f"set local search_path = {SEARCH_PATH}")
            await connection.execute(mutant.sql)
            await connection.execute("set local search_path = ''")
            yield
        finally:
            await transaction.rollback()

    async def _rows(self) -> Observed:
        trial = self.trial
        catalog = self._with_grants(await read_catalog(trial.prober.connection))
        decisions = await decide(
            trial.prober, catalog, trial.ownership, trial.population, trial.personas
        )
        seen: Observed = {
            ("rows", who, command, str(table)): rows
            for (who, command, table), rows in decisions.allowed.items()
            if rows
        }
        seen |= dict(self._columns(catalog, seen))
        return seen | dict(_of_catalog(catalog))

    async def _answers(self) -> Observed:
        prober = self.trial.prober
        answers = await prober.attempt_all([attempt for _, attempt in self.attempts])
        seen: Observed = {}
        for (key, attempt), answer in zip(self.attempts, answers, strict=True):
            seen[key] = _outcome(answer)
            if attempt.fetch and answer.ok:
                # Apart, because a random value in it must not hide the outcome.
                shown = orjson.dumps(answer.fetched, option=orjson.OPT_SORT_KEYS)
                seen[(*key, "result")] = shown
        return seen

    def _with_grants(self, found: Catalog) -> Catalog:
        """Return the original catalogue with the grants and lists of ``found``.

        Statements are chosen by the catalogue; that way they stay the same.
        """
        relations = {
            name: replace(relation, privileges=found.relations[name].privileges)
            for name, relation in self.trial.catalog.relations.items()
            if name in found.relations
        }
        return replace(
            found, relations=relations, functions=self.trial.catalog.functions
        )

    def _columns(self, catalog: Catalog, seen: Observed) -> Iterator[tuple[Key, Any]]:
        """Yield the columns that can be read and changed where there are such rows."""
        for persona in self.trial.personas:
            for command in ("SELECT", "UPDATE"):
                for relation in catalog.tables:
                    name = str(relation.name)
                    if ("rows", persona.name, command, name) not in seen:
                        continue
                    yield (
                        ("columns", persona.name, command, name),
                        frozenset(
                            c.name
                            for c in relation.columns
                            if relation.may(persona.role, command, c.name)
                        ),
                    )

    # -- what is tried -----------------------------------------------------------------

    def _planned(self) -> Iterator[tuple[Key, Attempt]]:
        trial = self.trial
        for relation in trial.catalog.tables:
            if relation.name == MESSAGES:
                continue
            rows = trial.population.of(relation.name)
            for persona in self._speakers():
                yield from self._inserts(relation, _spread(rows), persona)
                yield from self._changes(relation, rows, persona)
        yield from self._calls()
        yield from self._topics()

    def _speakers(self) -> list[Persona]:
        """Return who is tried with single statements: two of a clan, at most."""
        clans: Counter[str] = Counter()
        chosen = []
        for persona in self.trial.personas:
            clans[persona.clan] += 1
            if clans[persona.clan] <= MAX_MATES:
                chosen.append(persona)
        return chosen[:MAX_PERSONAS]

    def _inserts(
        self, relation: Relation, rows: Sequence[StoredRow], persona: Persona
    ) -> Iterator[tuple[Key, Attempt]]:
        granted = [
            c for c in relation.columns if relation.may(persona.role, "INSERT", c.name)
        ]
        columns = granted or relation.columns
        # A copy of a stored row: the policies are asked before its key is found taken.
        for index, row in enumerate(rows):
            values = {
                c.name: row.text(c.name)
                for c in columns
                if not c.generated and row.values.get(c.name) is not None
            }
            sql = insert_statement(relation.name, values, identity=True)
            yield (
                ("insert", persona.name, str(relation.name), f"copy of row {index}"),
                Attempt(persona=persona, commands=(sql,)),
            )

    def _changes(
        self, relation: Relation, rows: Sequence[StoredRow], persona: Persona
    ) -> Iterator[tuple[Key, Attempt]]:
        may = [r for r in rows if self.trial.decisions.may(persona, "UPDATE", r)]
        for column in self._deciding_columns(relation):
            values = dict.fromkeys(
                row.text(column) for row in rows if row.text(column) is not None
            )
            for number, row in enumerate(may[:MAX_CHANGED_ROWS]):
                others = [v for v in values if v != row.text(column)][-MAX_VALUES:]
                for value in others:
                    sql = (
                        f"update {relation.name.sql} set"
                        f" {relation.column(column).sql} = {literal(value)}"
                        f" where {row_filter(relation, row)}"
                    )
                    key = ("change", persona.name, str(relation.name), column)
                    yield (
                        (*key, f"row {number} to {value}"),
                        Attempt(
                            persona=persona,
                            commands=(sql,),
                            settings=statement_settings(relation.name, "UPDATE"),
                        ),
                    )

    def _deciding_columns(self, relation: Relation) -> list[str]:
        """Return the columns that say whose a row is or that a policy reads."""
        text = " ".join(p.using + p.check for p in relation.policies)
        owned = self.trial.ownership.of(relation.name)
        keys = {c for parent in owned.parents for c in parent.columns}
        wanted = {*owned.user_names, *owned.tenants, *keys}
        return [
            c.name
            for c in relation.columns
            if not c.generated and (c.name in wanted or c.name in text)
        ]

    def _calls(self) -> Iterator[tuple[Key, Attempt]]:
        written = _written_rows([r.name for r in self.trial.catalog.tables])
        for function in self.trial.catalog.functions:
            if function.kind != "f" or function.is_trigger:
                continue
            for persona in self._speakers():
                for index, call in enumerate(plan_calls(self.trial, persona, function)):
                    source = call.step.sql.removeprefix("select * from ")
                    key = ("call", persona.name, function.signature, str(index))
                    yield (
                        key,
                        Attempt(
                            persona=persona,
                            fetch=f"select jsonb_agg(to_jsonb(f)) from {source} f",
                            observe=written,
                        ),
                    )

    def _topics(self) -> Iterator[tuple[Key, Attempt]]:
        relation = self.trial.catalog.relations.get(MESSAGES)
        if relation is None or not relation.policies:
            return
        topics = list(dict.fromkeys(self._topic_names(relation)))[:MAX_TOPICS]
        for persona in self._speakers():
            for topic in topics:
                for extension in ("broadcast", "presence"):
                    insert = (
                        "insert into realtime.messages (topic, extension, private)"
                        f" values ({literal(topic)}, {literal(extension)}, true)"
                    )
                    settings = {"realtime.topic": topic}
                    yield (
                        ("join", persona.name, topic, extension),
                        Attempt(
                            setup=(insert,),
                            fetch="select to_jsonb(count(*)) from realtime.messages",
                            persona=persona,
                            settings=settings,
                        ),
                    )
                    yield (
                        ("send", persona.name, topic, extension),
                        Attempt(persona=persona, commands=(insert,), settings=settings),
                    )

    def _topic_names(self, relation: Relation) -> Iterator[str]:
        """Yield topics made of the policies' constants and of users' and rows' ids."""
        ids = [p.sub for p in self.trial.personas if p.sub][:2]
        for table in sorted(self.trial.population.tables):
            for row in self.trial.population.of(table)[:1]:
                key = self.trial.catalog.relations[table].primary_key
                ids += [text for name in key if (text := row.text(name))]
        for constant in _constants(relation):
            yield constant
            for identity in ids:
                yield constant + identity
        yield from ids


def _written_rows(tables: Sequence[Name]) -> str:
    """Return a query of how many rows each table has, and how many are of this call.

    Those have a transaction number above the one that the mutant was applied in.
    """
    counts = ", ".join(
        f"{literal(str(table))}, (select jsonb_build_array(count(*), count(*) filter"
        " (where t.xmin::text::bigint > pg_current_xact_id()::text::bigint))"
        f" from {table.sql} t)"
        for table in tables[:MAX_COUNTED]
    )
    return f"select jsonb_build_object({counts})"


def _spread(rows: Sequence[StoredRow]) -> list[StoredRow]:
    """Return a few rows, of as many clans as there are."""
    by_clan: dict[str | None, list[StoredRow]] = defaultdict(list)
    for row in rows:
        by_clan[row.clan].append(row)
    rounds = zip_longest(*by_clan.values())
    return [row for turn in rounds for row in turn if row is not None][:MAX_ROWS]


def _constants(relation: Relation) -> list[str]:
    """Return the texts that the policies of a relation name."""
    found: dict[str, None] = {}

    def collect(node: Any, scope: Scope) -> None:
        if isinstance(node, ast.A_Const) and isinstance(node.val, ast.String):
            found.setdefault(node.val.sval)

    for policy in relation.policies:
        for text in (policy.using, policy.check):
            tree = parse_condition(text)
            if tree is not None:
                walk(tree, Scope({}), collect)
    return [text for text in found if text not in ("broadcast", "presence")]


def _outcome(answer: Answer) -> Any:
    """Return what of an answer is a decision."""
    if not answer.ok:
        return "taken" if answer.sqlstate.startswith("23") else answer.sqlstate
    if answer.counts:
        return "taken" if answer.counts[-1] else "nothing"
    return orjson.dumps(answer.seen, option=orjson.OPT_SORT_KEYS)


def _of_catalog(catalog: Catalog) -> Iterator[tuple[Key, Any]]:
    """Yield what is decided without asking a policy."""
    for bucket in catalog.buckets:
        limits = (bucket.public, bucket.file_size_limit, bucket.allowed_mime_types)
        yield ("catalog", "bucket", bucket.id), limits
    for publication in catalog.publications:
        yield ("catalog", "publication", publication.name), publication.tables
    for relation in catalog.tables:
        for role in API_ROLES:
            if relation.may(role, "TRUNCATE"):
                yield ("catalog", "truncate", str(relation.name), role), True


def _worded(key: Key, before: Any, after: Any) -> str:
    kind, *about = key
    if kind == "rows":
        who, command, table = about
        count, changed = len(before or ()), len(after or ())
        return f"{who} may {command} {changed} rows of {table}, before {count}"
    if kind == "columns":
        who, command, table = about
        return f"{who} may {command} other columns of {table}"
    if kind in ("insert", "change"):
        who, table, *what = about
        how = " ".join(what)
        return f"{kind} in {table} by {who} ({how}): {after}, before {before}"
    return f"{kind} {' '.join(about)} is answered otherwise"
