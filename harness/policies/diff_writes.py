"""Compares which rows each persona may store, and which values it may write.

What counts is whether a statement is admitted and, where triggers or defaults have a
say, what it stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from harness.db.catalog import Relation
from harness.policies.cases import Case, Expectation
from harness.policies.decisions import Decisions
from harness.policies.diff_changes import (
    EFFECT,
    SAYS,
    Change,
    Direction,
    direction_of,
    persona_class,
    scope_of,
)
from harness.policies.diff_effects import FactReader, described, fact_readers
from harness.policies.diff_inserts import new_rows
from harness.policies.diff_values import lone_updates, lone_values, new_values
from harness.policies.diff_world import Pair
from harness.policies.diff_write import Write, spread
from harness.policies.personas import Persona
from harness.policies.probing import Answer

__all__ = ["compare_writes"]

Asked = tuple[Write, Answer, Answer]
MAX_EFFECTS = 3  # rows in different states: a trigger may mind


async def compare_writes(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return every decision about new rows and new values that differs."""
    trial = pair.trial(decisions)
    readers = fact_readers(pair, decisions)
    changes: list[Change] = []
    for relation in pair.compared_tables:
        pair.begin()
        writes: list[Write] = []
        lone: list[Write] = []
        for persona in pair.personas:
            if persona.kind == "service":
                continue
            if _granted(pair, relation, persona, "INSERT"):
                writes += new_rows(pair, trial, persona, relation)
            if _granted(pair, relation, persona, "UPDATE"):
                writes += new_values(pair, trial, persona, relation)
                lone += lone_updates(pair, trial, persona, relation)
        tried = await _ask(pair, lone)
        for write in (item[0] for item in tried if any(map(_met, item[1:]))):
            writes += lone_values(pair, trial, write)
        asked = tried + await _ask(pair, writes)
        again = list(_returning(pair, relation, asked))
        if filled_in(pair, relation):
            repeated = list(_sample(asked, _in_effect, MAX_EFFECTS))
            asked += await _ask(pair, repeated, observed=True)
        asked += await _ask(pair, again)
        changes += filter(None, (_differing(*item, readers) for item in asked))
    return changes


def _sample(
    asked: Iterable[Asked], kind: Callable[[Write], object], limit: int = 1
) -> Iterator[Write]:
    """Yield some of each kind of what both versions did, by whose row it is about."""
    found: dict[object, list[Write]] = {}
    for write, *answers in asked:
        key = (kind(write), write.command, scope_of(write.persona, write.row))
        if all(map(_done, answers)):
            found.setdefault(key, []).append(write)
    for writes in found.values():
        yield from spread(writes, limit)


def _in_effect(write: Write) -> object:
    """Return what may change the effect of a write that is admitted."""
    return persona_class(write.persona), write.columns, write.detail


def _granted(pair: Pair, relation: Relation, persona: Persona, command: str) -> bool:
    return any(
        side.catalog.relations[relation.name].may(persona.role, command)
        for side in (pair.base, pair.head)
    )


def filled_in(pair: Pair, relation: Relation) -> bool:
    """Say whether a trigger, or a default that changed, has a say in what is stored."""
    if pair.union.relations[relation.name].triggers:
        return True
    sides = [side.catalog.relations[relation.name] for side in (pair.base, pair.head)]
    defaults = [{c.name: c.default for c in side.columns} for side in sides]
    return any(
        defaults[0][column.name] != defaults[1][column.name]
        for column in relation.columns
    )


async def _ask(
    pair: Pair, writes: Sequence[Write], *, observed: bool = False
) -> list[Asked]:
    asks = [write.ask(observed=observed) for write in writes]
    base, head = await asyncio.gather(
        pair.base.grid.ask(asks), pair.head.grid.ask(asks)
    )
    return [
        (write, old, new)
        for write, old, new in zip(writes, base, head, strict=True)
        if not pair.timed_out(str(write.row.table), old, new)
    ]


def _returning(
    pair: Pair, relation: Relation, asked: Iterable[Asked]
) -> Iterator[Write]:
    """Yield what both versions stored, once more and read back, as SELECT allows."""
    inserted = [item for item in asked if item[0].command == "INSERT"]
    for write in _sample(inserted, lambda write: write.persona.name):
        columns = [
            column.sql
            for column in relation.columns
            if all(
                side.catalog.relations[relation.name].may(
                    write.persona.role, "SELECT", column.name
                )
                for side in (pair.base, pair.head)
            )
        ]
        if columns:
            ending = f" returning {columns[0]}"
            yield replace(write, ending=ending, command="INSERT RETURNING")


def _met(answer: Answer) -> bool:
    """Say whether a statement met a row, even one whose new version is refused."""
    return not answer.ok or bool(answer.counts and answer.counts[-1])


def _done(answer: Answer) -> bool:
    return answer.ok and bool(answer.counts) and answer.counts[-1] > 0


def _differing(
    write: Write,
    base: Answer,
    head: Answer,
    readers: tuple[FactReader, FactReader],
) -> Change | None:
    direction = direction_of(_reached(base), _reached(head))
    detail = write.detail
    if direction == "error":
        detail = f"{head.message} [{head.sqlstate}]"
    facts: tuple[frozenset[str], ...] = ()
    if direction is None and _done(base) and _done(head):
        facts = tuple(r.read(a) for r, a in zip(readers, (base, head), strict=True))
        if facts[0] != facts[1]:
            direction = "widened"
            return _effect_change(write, _instead(*facts))
    if direction is None:
        return None
    return _change(write, direction, detail, head)


def _instead(old: frozenset[str], new: frozenset[str]) -> str:
    parts = [described(new - old) if new - old else "nothing"]
    if old - new:
        parts.append(f"instead of {described(old - new)}")
    return " ".join(parts)


def _effect_change(write: Write, detail: str) -> Change:
    """Return the change of what a write leaves behind, admitted as it was before."""
    return Change(
        object=str(write.row.table),
        command=f"{write.command}{EFFECT}",
        direction="widened",
        who=persona_class(write.persona),
        scope=scope_of(write.persona, write.row),
        subject=f"{write.persona.name} {write.done.sql}",
        detail=detail,
    )


def _change(write: Write, direction: Direction, detail: str, head: Answer) -> Change:
    expectation = (
        Expectation(kind="raises", text=head.sqlstate)
        if direction == "error"
        else Expectation(kind="affects", says=SAYS[direction])
    )
    return Change(
        object=str(write.row.table),
        command=write.command,
        direction=direction,
        who=persona_class(write.persona),
        scope=scope_of(write.persona, write.row),
        subject=f"{write.persona.name} {write.done.sql}",
        columns=write.columns,
        detail=detail,
        case=Case(
            persona=write.persona,
            steps=(write.done,),
            expectation=expectation,
            rows=(write.row,),
            settings=write.settings,
        ),
    )


def _reached(answer: Answer) -> Answer:
    """Take a statement that changed no row for a refusal."""
    if answer.ok and answer.counts and not answer.counts[-1]:
        return Answer(sqlstate="42501", message="no row")
    return answer
