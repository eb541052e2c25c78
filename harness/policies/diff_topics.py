"""Which Realtime topics to try: made of what policies compare parts of a topic with."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from harness.db.catalog import Name
from harness.policies.cases import Step
from harness.policies.comparisons import UID, Col, Const, Term
from harness.policies.diff_world import Pair
from harness.policies.grid import Ask
from harness.policies.personas import Persona
from harness.policies.values import literal

__all__ = ["topic_asks", "topics_of"]

MESSAGES = Name("realtime", "messages")
MAX_PER_PART = 8
MAX_TOPICS = 40
EXTENSIONS = ("broadcast", "presence")


def topics_of(pair: Pair) -> list[str]:
    """Return topics that reach the branches of policies on ``realtime.messages``."""
    parts: dict[int, list[str]] = defaultdict(list)
    separator = ":"
    for use in pair.mined.topics:
        separator = use.separator or separator
        parts[use.index] += _values(pair, use.term)
    topics = [t.replace("%", "x") for t in parts.pop(0, [])]
    everything = _values(pair, UID) + [
        value
        for relation in pair.tables
        if len(relation.primary_key) == 1
        for value in _values(pair, Col(relation.name, relation.primary_key[0]))[:2]
    ]
    prefixes = [t.rstrip("%") for u in pair.mined.topics for t in _patterns(u.term)]
    topics += [f"{p}{v}" for p in dict.fromkeys(prefixes) for v in everything]
    if parts:
        choices = [
            list(dict.fromkeys(parts.get(i) or everything))[:MAX_PER_PART]
            for i in range(1, max(parts) + 1)
        ]
        topics += [separator.join(chosen) for chosen in itertools.product(*choices)]
    unique = list(dict.fromkeys([*topics, "lobby"]))
    return _spread(unique, MAX_TOPICS)


def topic_asks(pair: Pair, persona: Persona) -> Iterator[tuple[str, Step, Ask]]:
    """Yield joining and sending on every topic, as Realtime asks the database."""
    guarded = any(policy.table == MESSAGES for policy in pair.union.policies)
    if not guarded or not pair.reach.includes(MESSAGES.name):
        return
    for topic in topics_of(pair):
        settings = {"realtime.topic": topic}
        for extension in EXTENSIONS:
            given = f"({literal(topic)}, {literal(extension)}, true)"
            stored = (
                "insert into realtime.messages (topic, extension, private)"
                f" values {given}"
            )
            read = "select 1 from realtime.messages"
            yield (
                "SELECT",
                Step(sql=read, action="select", target=MESSAGES),
                Ask(
                    persona=persona,
                    commands=(read,),
                    aside=(stored,),
                    settings=settings,
                ),
            )
            yield (
                "INSERT",
                Step(sql=stored, action="insert", target=MESSAGES),
                Ask(persona=persona, commands=(stored,), settings=settings),
            )


def _values(pair: Pair, term: Term) -> list[str]:
    if isinstance(term, Const):
        return list(term.values)
    if term == UID:
        return [u.id for u in pair.base.population.world.cast.users][:MAX_PER_PART]
    if isinstance(term, Col):
        rows = pair.rows.get(term.table, {}).values()
        found = [text for row in rows if (text := row.text(term.column))]
        return _spread(list(dict.fromkeys(found)), MAX_PER_PART)
    return []


def _patterns(term: Term) -> list[str]:
    values = term.values if isinstance(term, Const) else ()
    return [value for value in values if value.endswith("%")]


def _spread(items: Sequence[str], limit: int) -> list[str]:
    if len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]
