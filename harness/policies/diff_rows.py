"""Compares what each persona may see, change and remove of the rows of a shared world.

SELECT, UPDATE and DELETE are asked of whole tables without a WHERE clause, which no
SELECT policy can hide; a statement that a trigger or a foreign key stops is asked again
with those off, so that only grants and policies decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from harness.db.catalog import Column, Relation
from harness.policies.cases import Case, Expectation, Step
from harness.policies.decisions import (
    Decisions,
    harmless_change,
    row_filter,
    statement_settings,
)
from harness.policies.diff_changes import (
    SAYS,
    Change,
    Direction,
    is_fault,
    persona_class,
    scope_of,
)
from harness.policies.diff_values import values_of_all_rows
from harness.policies.diff_world import Pair, Side
from harness.policies.grid import Ask, row_shape
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer
from harness.policies.trial import Trial
from harness.policies.values import literal

__all__ = ["compare_rows"]

POLICIES_ONLY = {"session_replication_role": "replica"}


@dataclass(frozen=True, slots=True)
class _Question:
    """A statement over a whole table; ``columns`` are those it sets.

    ``mixed`` ones reach rows of which a check refuses some, and are then refused.
    """

    persona: Persona
    relation: Relation
    command: str
    statement: str
    columns: tuple[str, ...] = ()
    mixed: bool = False

    def ask(self, weight: int, *, policies_only: bool = False) -> Ask:
        settings = dict(statement_settings(self.relation.name, self.command))
        if policies_only:
            settings |= POLICIES_ONLY
        return Ask(
            persona=self.persona,
            commands=(self.statement,),
            observe=_places(self.relation),
            settings=settings,
            weight=weight,
        )


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The keys of the rows a statement reached, and how it failed if it did."""

    keys: frozenset[str]
    fault: Answer | None = None


async def compare_rows(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return every row decision that differs; notes BASE's SELECTs in ``decisions``."""
    changes: list[Change] = []
    for relation in pair.compared_tables:
        if not pair.alike.get(relation.name):
            continue
        pair.begin()
        changes += await _compare_reads(pair, relation, decisions)
        asked = list(_questions(pair, relation))
        answers = await asyncio.gather(_ask(pair.base, asked), _ask(pair.head, asked))
        for question, base, head in zip(asked, *answers, strict=True):
            changes += _differing(pair, question, base, head)
    return changes


def _questions(pair: Pair, relation: Relation) -> Iterator[_Question]:
    name = relation.name
    union = pair.union.relations[name]
    granted = (pair.base.catalog.relations[name], pair.head.catalog.relations[name])
    for persona in pair.personas:
        if any(side.may(persona.role, "DELETE") for side in granted):
            yield _Question(persona, relation, "DELETE", f"delete from {name.sql}")
        both = [
            column
            for column in relation.columns
            if all(side.may(persona.role, "UPDATE", column.name) for side in granted)
        ]
        change = _change(pair, union, both, persona)
        if change:
            statement = f"update {name.sql} set {change}"
            yield _Question(persona, relation, "UPDATE", statement)
        for column in relation.columns:
            held = [side.may(persona.role, "UPDATE", column.name) for side in granted]
            alone = _change(pair, union, [column], persona)
            if alone and held[0] != held[1]:
                statement = f"update {name.sql} set {alone}"
                yield _Question(persona, relation, "UPDATE", statement, (column.name,))
        if persona.kind == "service":
            continue
        for column, value in values_of_all_rows(pair, persona, relation):
            statement = f"update {name.sql} set {column.sql} = {value}"
            told = (column.name,)
            yield _Question(persona, relation, "UPDATE", statement, told, mixed=True)


def _change(
    pair: Pair, union: Relation, columns: Sequence[Column], persona: Persona
) -> str:
    names = {column.name for column in columns}
    kept = tuple(column for column in union.columns if column.name in names)
    limited = replace(union, columns=kept)
    return harmless_change(limited, pair.ownership, persona) if kept else ""


def _places(relation: Relation) -> str:
    return (
        "select coalesce(jsonb_agg(t.tableoid::oid || t.ctid::text), '[]')"
        f" from {relation.name.sql} t"
    )


async def _ask(side: Side, asked: Sequence[_Question]) -> list[_Allowed]:
    """Run the statements; what is stopped is asked with grants and policies only."""
    weights = [len(side.keys[question.relation.name]) for question in asked]
    asks = [q.ask(weight) for q, weight in zip(asked, weights, strict=True)]
    answers = await side.grid.ask(asks)
    # What a trigger refuses on purpose, it may refuse for some rows only.
    alone = {
        i
        for i, (question, answer) in enumerate(zip(asked, answers, strict=True))
        if not question.mixed and answer.raised_on_purpose
    }
    stopped = [
        i
        for i, (question, answer) in enumerate(zip(asked, answers, strict=True))
        if not answer.ok and not question.mixed and i not in alone
    ]
    retried = await side.grid.ask(
        [asked[i].ask(weights[i], policies_only=True) for i in stopped]
    )
    for i, answer in zip(stopped, retried, strict=True):
        answers[i] = answer
    # Which row comes first, and what refuses it, is no matter of the policies.
    alone |= {
        i
        for i in stopped
        if asked[i].command == "UPDATE"
        and (answers[i].denied or answers[i].sqlstate.startswith("23"))
    }
    order = sorted(alone)
    reached = await _row_by_row(side, [asked[i] for i in order])
    found = dict(zip(order, reached, strict=True))
    return [
        _Allowed(found[i]) if i in found else _allowed(side, question, answer)
        for i, (question, answer) in enumerate(zip(asked, answers, strict=True))
    ]


def _allowed(side: Side, question: _Question, answer: Answer) -> _Allowed:
    if answer.ok:
        left = set(answer.seen)
        rows = side.keys[question.relation.name]
        return _Allowed(frozenset(key for at, key in rows.items() if at not in left))
    return _Allowed(frozenset(), _told(answer))


def _told(answer: Answer) -> Answer | None:
    """Return an answer that is no refusal."""
    return answer if is_fault(answer) or answer.timed_out else None


async def _row_by_row(side: Side, asked: Sequence[_Question]) -> list[frozenset[str]]:
    """Ask for each row alone, when a check or a trigger refuses some of them."""
    asks: list[Ask] = []
    about: list[tuple[int, str]] = []
    for number, question in enumerate(asked):
        relation = question.relation
        held = side.catalog.relations[relation.name]
        if not held.may(question.persona.role, question.command):
            continue
        for row in side.population.of(relation.name):
            shape, arguments = row_shape(question.statement, relation, row)
            where = row_filter(relation, row)
            asks.append(
                Ask(
                    persona=question.persona,
                    commands=(f"{question.statement} where {where}",),
                    shape=shape,
                    arguments=arguments,
                    settings=statement_settings(relation.name, question.command),
                )
            )
            about.append((number, side.keys[relation.name][row.at]))
    answers = await side.grid.ask(asks)
    found: list[set[str]] = [set() for _ in asked]
    for (number, key), answer in zip(about, answers, strict=True):
        if (answer.ok and answer.counts[0]) or answer.sqlstate.startswith("23"):
            found[number].add(key)
    return [frozenset(keys) for keys in found]


def _differing(
    pair: Pair, question: _Question, base: _Allowed, head: _Allowed
) -> Iterator[Change]:
    if pair.timed_out(str(question.relation.name), base.fault, head.fault):
        return
    if head.fault is not None and base.fault is None:
        yield _fault(question, head.fault)
        return
    persona, name = question.persona, question.relation.name
    for key, row in pair.alike[name].items():
        if (key in base.keys) == (key in head.keys):
            continue
        direction: Direction = "widened" if key in head.keys else "narrowed"
        # Without WHERE, as it was asked: a filter would ask the SELECT policies too.
        step = Step(
            sql=question.statement,
            action="delete" if question.command == "DELETE" else "update",
            target=name,
        )
        yield Change(
            object=str(name),
            command=question.command,
            direction=direction,
            who=persona_class(persona),
            scope=scope_of(persona, row),
            subject=f"{persona.name} {key}",
            columns=question.columns,
            case=Case(
                persona=persona,
                steps=(step,),
                expectation=Expectation(kind="affects", says=SAYS[direction]),
                rows=(row,),
                settings=statement_settings(name, question.command),
            ),
        )


def _fault(question: _Question, fault: Answer) -> Change:
    return Change(
        object=str(question.relation.name),
        command=question.command,
        direction="error",
        who=persona_class(question.persona),
        scope="any",
        subject=question.persona.name,
        columns=question.columns,
        detail=f"{fault.message} [{fault.sqlstate}]",
        case=Case(
            persona=question.persona,
            steps=(Step(sql=question.statement),),
            expectation=Expectation(kind="raises", text=fault.sqlstate),
        ),
    )


# -- reading -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Readable:
    """The columns that can be read of each row, by key."""

    columns: Mapping[str, frozenset[str]]
    fault: Answer | None = None


async def _compare_reads(
    pair: Pair, relation: Relation, decisions: Decisions
) -> list[Change]:
    answers = await asyncio.gather(
        _read(pair.base, relation, pair.personas),
        _read(pair.head, relation, pair.personas),
    )
    trial = pair.trial(decisions)
    changes: list[Change] = []
    for persona, base, head in zip(pair.personas, *answers, strict=True):
        at_of = {key: at for at, key in pair.base.keys[relation.name].items()}
        decisions.allowed[persona.name, "SELECT", relation.name] = frozenset(
            at_of[key] for key in base.columns if key in at_of
        )
        pair.visible[persona.name, relation.name] = frozenset(
            base.columns.keys() & head.columns.keys()
        )
        if pair.timed_out(str(relation.name), base.fault, head.fault):
            continue
        if head.fault is not None and base.fault is None:
            read = f"select * from {relation.name.sql}"
            question = _Question(persona, relation, "SELECT", read)
            changes.append(_fault(question, head.fault))
            continue
        for key, row in pair.alike[relation.name].items():
            before = base.columns.get(key, frozenset())
            after = head.columns.get(key, frozenset())
            differing: tuple[tuple[Direction, frozenset[str], frozenset[str]], ...] = (
                ("widened", after - before, before),
                ("narrowed", before - after, after),
            )
            for direction, more, less in differing:
                if more:
                    columns = tuple(sorted(more)) if less else ()
                    changes.append(
                        _read_change(trial, relation, persona, row, direction, columns)
                    )
    return changes


def _read_change(
    trial: Trial,
    relation: Relation,
    persona: Persona,
    row: StoredRow,
    direction: Direction,
    columns: tuple[str, ...],
) -> Change:
    step = trial.row_step("select", relation, row)
    if columns:
        listed = ", ".join(relation.column(name).sql for name in columns)
        step = replace(step, sql=f"select {listed} from {relation.name.sql}")
    return Change(
        object=str(relation.name),
        command="SELECT",
        direction=direction,
        who=persona_class(persona),
        scope=scope_of(persona, row),
        subject=f"{persona.name} {row.at}",
        columns=columns,
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(kind="affects", says=SAYS[direction]),
            rows=(row,),
        ),
    )


async def _read(
    side: Side, relation: Relation, personas: Sequence[Persona]
) -> list[_Readable]:
    held = side.catalog.relations[relation.name]
    granted = [
        frozenset(
            c.name for c in relation.columns if held.may(p.role, "SELECT", c.name)
        )
        for p in personas
    ]
    asks = [
        Ask(
            persona=persona,
            fetch=_query(held, persona, columns),
            weight=len(side.keys[relation.name]),
        )
        for persona, columns in zip(personas, granted, strict=True)
    ]
    answers = await side.grid.ask(asks)
    return [
        _readable(side, relation, columns, answer)
        for columns, answer in zip(granted, answers, strict=True)
    ]


def _query(held: Relation, persona: Persona, columns: frozenset[str]) -> str:
    privileges = held.privileges.get(persona.role)
    whole = privileges is not None and "SELECT" in privileges.table
    if whole or not columns:
        return _places(held)
    pairs = ", ".join(f"{literal(n)}, t.{held.column(n).sql}" for n in sorted(columns))
    return (
        f"select coalesce(jsonb_agg(jsonb_build_object({pairs})), '[]')"
        f" from {held.name.sql} t"
    )


def _readable(
    side: Side, relation: Relation, columns: frozenset[str], answer: Answer
) -> _Readable:
    if not answer.ok:
        return _Readable({}, _told(answer))
    seen = answer.fetched
    places = {item for item in seen if isinstance(item, str)}
    values = {_canonical(item) for item in seen if isinstance(item, dict)}
    keys = side.keys[relation.name]
    found = {
        keys[row.at]: columns
        for row in side.population.of(relation.name)
        if row.at in places
        or (values and _canonical({n: row.values.get(n) for n in columns}) in values)
    }
    return _Readable(found)


def _canonical(values: Mapping[str, object]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
