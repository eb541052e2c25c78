"""Compares what functions, views and Realtime topics give each persona.

A function of both versions is called with the caller's own arguments and another's;
what counts is whether it ran, what it returned and which rows it changed.  Values drawn
by the database (random ids, the time) are masked, since they differ in any two runs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from harness.db.catalog import Catalog, Function, Name, Relation
from harness.policies.calls import callable_functions, plan_calls
from harness.policies.cases import Case, Expectation, Step
from harness.policies.decisions import Decisions
from harness.policies.diff_changes import (
    SAYS,
    Change,
    Direction,
    direction_of,
    persona_class,
)
from harness.policies.diff_topics import topic_asks
from harness.policies.diff_world import Pair
from harness.policies.effects import Change as RowChange
from harness.policies.effects import changes_of
from harness.policies.grid import Ask
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer
from harness.policies.trial import Trial

__all__ = ["compare_calls"]

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?([+-]\d\d(:?\d\d)?|Z)?")
TOKEN = re.compile(r"\b[0-9a-f]{16,}\b|\b\d{10}(\.\d+)?\b")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One call or query of one persona."""

    persona: Persona
    object: str
    command: str
    step: Step
    ask: Ask
    scope: str = "any"
    rows: tuple[StoredRow, ...] = ()


async def compare_calls(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return what differs between the calls of both versions."""
    asked = [*_calls(pair, decisions), *_views(pair), *_topics(pair)]
    known = _known_values(pair)
    readers = [
        _FactReader(side.trial(pair, decisions), pair.common, known)
        for side in (pair.base, pair.head)
    ]
    base, head = await asyncio.gather(
        pair.base.grid.ask([item.ask for item in asked]),
        pair.head.grid.ask([item.ask for item in asked]),
    )
    changes = []
    for item, old, new in zip(asked, base, head, strict=True):
        facts = tuple(
            reader.read(answer) if answer.ok else frozenset()
            for reader, answer in zip(readers, (old, new), strict=True)
        )
        changes.append(_differing(item, old, new, *facts))
    return [change for change in changes if change is not None]


# -- what is asked -----------------------------------------------------------------


def _calls(pair: Pair, decisions: Decisions) -> Iterator[_Asked]:
    trial = pair.trial(decisions)
    before = {_identity(f): f for f in pair.base.catalog.functions}
    head = {_identity(f): f for f in pair.head.catalog.functions}
    callable_by = {
        role: {
            _identity(f)
            for side in (pair.base, pair.head)
            for f in callable_functions(side.catalog, role)
        }
        for role in ("anon", "authenticated", "service_role")
    }
    for persona in pair.personas:
        for identity, function in head.items():
            if identity not in before or not pair.reach.includes(function.name.name):
                continue
            if identity not in callable_by.get(persona.role, ()):
                continue
            for call in plan_calls(trial, persona, function):
                query = (
                    "select coalesce(jsonb_agg(to_jsonb(x)), '[]')"
                    f" from ({call.step.sql}) x"
                )
                writes = {function.volatility, before[identity].volatility} & {"v"}
                yield _Asked(
                    persona=persona,
                    object=str(function.name),
                    command="CALL",
                    step=call.step,
                    scope="own" if call.scope == "own" else "other",
                    rows=call.about,
                    ask=Ask(
                        persona=persona,
                        fetch=query,
                        observe="select harness_probe.changed()" if writes else "",
                        mark=bool(writes),
                    ),
                )


def _identity(function: Function) -> tuple[Name, tuple[tuple[str, str], ...]]:
    return function.name, tuple((p.name, p.type) for p in function.parameters)


def _views(pair: Pair) -> Iterator[_Asked]:
    for relation in pair.common.relations.values():
        if not pair.reach.includes(relation.name.name):
            continue
        # A partition asked by its own name is guarded by its own policies only.
        exposed = relation.name.schema not in ("realtime", "storage")
        alone = relation.partition_of is not None and exposed
        if relation.kind not in ("view", "matview") and not alone:
            continue
        columns = ", ".join(f"v.{column.sql}" for column in relation.columns)
        sql = f"select {columns} from {relation.name.sql} v"
        for persona in pair.personas:
            yield _Asked(
                persona=persona,
                object=str(relation.name),
                command="SELECT",
                step=Step(sql=sql, action="select", target=relation.name),
                ask=Ask(
                    persona=persona,
                    fetch=(
                        f"select coalesce(jsonb_agg(to_jsonb(x)), '[]') from ({sql}) x"
                    ),
                ),
            )


def _topics(pair: Pair) -> Iterator[_Asked]:
    for persona in pair.personas:
        for command, step, ask in topic_asks(pair, persona):
            yield _Asked(persona, "realtime.messages", command, step, ask)


# -- what differs ------------------------------------------------------------------


def _differing(
    asked: _Asked,
    base: Answer,
    head: Answer,
    old: frozenset[str],
    new: frozenset[str],
) -> Change | None:
    direction = direction_of(_reach(asked, base), _reach(asked, head))
    detail = f"{head.message} [{head.sqlstate}]" if direction == "error" else ""
    if direction is None and base.ok and head.ok and old != new:
        direction = "widened" if new - old else "narrowed"
        detail = _described(new - old or old - new)
    if direction is None:
        return None
    return Change(
        object=asked.object,
        command=asked.command,
        direction=direction,
        who=persona_class(asked.persona),
        scope=asked.scope,
        subject=f"{asked.persona.name} {asked.step.sql}",
        detail=detail,
        case=Case(
            persona=asked.persona,
            steps=(asked.step,),
            expectation=_expectation(asked, direction, base, head),
            rows=asked.rows,
            settings=asked.ask.settings,
        ),
    )


def _reach(asked: _Asked, answer: Answer) -> Answer:
    """Take a query of a topic or a write that reached nothing for a refusal."""
    written = answer.ok and answer.counts and not answer.counts[-1]
    return replace(answer, sqlstate="42501") if written else answer


def _expectation(
    asked: _Asked, direction: Direction, base: Answer, head: Answer
) -> Expectation:
    if direction == "error":
        return Expectation(kind="raises", text=head.sqlstate)
    if base.ok and head.ok and asked.command != "CALL":
        return Expectation(kind="affects", says=SAYS[direction])
    return Expectation(kind="succeeds", says=SAYS[direction])


@dataclass(frozen=True, slots=True)
class _FactReader:
    """Says what a call returned and changed in one version, as comparable texts."""

    trial: Trial
    common: Catalog
    known: frozenset[str]

    def read(self, answer: Answer) -> frozenset[str]:
        returned = answer.fetched if isinstance(answer.fetched, list) else []
        facts = {f"returns {_masked(item, self.known)}" for item in returned}
        for change in changes_of(self.trial, answer.seen or {}):
            relation = self.common.relations.get(change.table)
            if relation is not None:
                facts.add(self._changed(change, relation))
        return frozenset(facts)

    def _changed(self, change: RowChange, relation: Relation) -> str:
        row = change.after or change.before or {}
        # Keys that the database draws differ in any two runs.
        told = {
            column.name: row.get(column.name)
            for column in relation.columns
            if not (column.name in relation.primary_key and column.default)
            and (change.kind != "update" or column.name in change.columns)
        }
        return f"{change.kind}s {change.table} {_masked(told, self.known)}"


def _masked(value: Any, known: frozenset[str]) -> str:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def mask(match: re.Match[str]) -> str:
        return match[0] if match[0] in known else "*"

    return TOKEN.sub(mask, TIME.sub(mask, UUID.sub(mask, text)))


def _known_values(pair: Pair) -> frozenset[str]:
    """Return ids and times that stand in the world, which no masking may hide."""
    found: set[str] = set()
    for rows in pair.rows.values():
        for row in rows.values():
            text = orjson.dumps(dict(row.values)).decode()
            for pattern in (UUID, TIME, TOKEN):
                found |= {match[0] for match in pattern.finditer(text)}
    found |= {persona.sub for persona in pair.personas}
    return frozenset(found)


def _described(facts: frozenset[str]) -> str:
    first = min(facts)
    return first if len(first) <= 160 else f"{first[:157]}..."
