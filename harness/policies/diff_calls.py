"""Compares what functions, views and Realtime topics give each persona.

A function of both versions is called with the caller's own arguments and another's;
what counts is whether it ran, what it returned and which rows it changed.  Values drawn
by the database (random ids, the time) are masked, since they differ in any two runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from harness.db.catalog import Function, Name
from harness.policies.calls import callable_functions, plan_calls, plan_team_calls
from harness.policies.cases import Case, Expectation
from harness.policies.decisions import Decisions
from harness.policies.diff_asked import Asked
from harness.policies.diff_changes import (
    SAYS,
    Change,
    Direction,
    direction_of,
    persona_class,
)
from harness.policies.diff_effects import described, fact_readers
from harness.policies.diff_topics import topic_asks
from harness.policies.diff_views import view_questions
from harness.policies.diff_world import Pair
from harness.policies.grid import Ask
from harness.policies.probing import Answer

__all__ = ["compare_calls"]


async def compare_calls(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return what differs between the calls of both versions."""
    asked = [*_calls(pair, decisions), *view_questions(pair), *_topics(pair)]
    readers = fact_readers(pair, decisions)
    pair.begin()
    base, head = await asyncio.gather(
        pair.base.grid.ask([item.ask for item in asked]),
        pair.head.grid.ask([item.ask for item in asked]),
    )
    changes = []
    for item, old, new in zip(asked, base, head, strict=True):
        if pair.timed_out(item.object, old, new):
            continue
        facts = tuple(
            reader.read(answer) if answer.ok else frozenset()
            for reader, answer in zip(readers, (old, new), strict=True)
        )
        changes.append(_differing(item, old, new, *facts))
    return [change for change in changes if change is not None]


# -- what is asked -----------------------------------------------------------------


def _calls(pair: Pair, decisions: Decisions) -> Iterator[Asked]:
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
            planned = plan_calls(trial, persona, function)
            planned += plan_team_calls(trial, persona, function)
            for call in planned:
                query = (
                    "select coalesce(jsonb_agg(to_jsonb(x)), '[]')"
                    f" from ({call.step.sql}) x"
                )
                writes = {function.volatility, before[identity].volatility} & {"v"}
                yield Asked(
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


def _topics(pair: Pair) -> Iterator[Asked]:
    for persona in pair.personas:
        for command, step, ask in topic_asks(pair, persona):
            yield Asked(persona, "realtime.messages", command, step, ask)


# -- what differs ------------------------------------------------------------------


def _differing(
    asked: Asked,
    base: Answer,
    head: Answer,
    old: frozenset[str],
    new: frozenset[str],
) -> Change | None:
    direction = direction_of(_reach(asked, base), _reach(asked, head))
    detail = f"{head.message} [{head.sqlstate}]" if direction == "error" else ""
    if direction is None and _kept_out(asked, base) and not _kept_out(asked, head):
        direction, detail = "widened", "the function runs now, though it refuses"
    if direction is None and base.ok and head.ok and old != new:
        direction = "widened" if new - old else "narrowed"
        detail = described(new - old or old - new)
    bypassing = asked.persona.kind == "service" and direction == "widened"
    if direction is None or bypassing:
        # service_role passes every policy: a function gives it nothing that it lacks.
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


def _kept_out(asked: Asked, answer: Answer) -> bool:
    """Say whether the function did not even begin to run."""
    name = asked.object.rpartition(".")[2]
    return answer.denied and answer.message == f"permission denied for function {name}"


def _reach(asked: Asked, answer: Answer) -> Answer:
    """Take a query of a topic or a write that reached nothing for a refusal."""
    written = answer.ok and answer.counts and not answer.counts[-1]
    return replace(answer, sqlstate="42501") if written else answer


def _expectation(
    asked: Asked, direction: Direction, base: Answer, head: Answer
) -> Expectation:
    if direction == "error":
        return Expectation(kind="raises", text=head.sqlstate)
    if base.ok and head.ok and asked.command != "CALL":
        return Expectation(kind="affects", says=SAYS[direction])
    return Expectation(kind="succeeds", says=SAYS[direction])
