"""What differs without anything being told of it, and where to look again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.db.catalog import Name, Policy, Relation
from harness.policies.diff_changes import ChangeGroup, persona_class
from harness.policies.diff_world import Pair
from harness.policies.personas import Persona

__all__ = [
    "focused",
    "shuffled_tables",
    "silent_differences",
    "some_personas",
    "writes_matter",
]

MAX_ASKED = 4
MAX_SHUFFLED = 12
MAX_PERSONAS = 8
MAX_MATES = 2


def silent_differences(pair: Pair, groups: Iterable[ChangeGroup]) -> list[str]:
    """Return the names of what differs without any wider decision told of it.

    A policy that changed counts as told when its command is.
    """
    told = {
        (group.object.rpartition(".")[2].lower(), command)
        for group in groups
        if group.direction != "narrowed"
        for command in (group.command.partition(" ")[0], "")
    }
    names = {name for name, _ in told}
    return [
        name
        for name in pair.reach.changed
        if not (
            all((name.lower(), command) in told for command in commands)
            if (commands := _changed_commands(pair, name))
            else any(name in pair.reach.why(n) or name == n for n in names)
        )
    ]


def _changed_commands(pair: Pair, name: str) -> set[str]:
    """Return the commands of the policies of a table that are in one version only."""
    sides = [
        {p for p in side.catalog.policies if p.table.name.lower() == name}
        for side in (pair.base, pair.head)
    ]
    changed: set[Policy] = sides[0] ^ sides[1]
    return {p.command for p in changed if p.command != "ALL"} or (
        {""} if changed else set()
    )


def focused(pair: Pair, silent: Sequence[str]) -> Pair:
    """Return ``pair`` with an eye for what ``silent`` differences reach only."""
    reach = pair.reach
    reached = [
        name
        for name in reach.names
        if name in silent or any(s in reach.why(name) for s in silent)
    ]
    tables = {r.name.name.lower() for r in pair.common.tables}
    asked = sorted(
        (name for name in reached if name in tables),
        key=lambda name: (name not in silent, name),
    )
    others = [name for name in reached if name not in tables]
    names = frozenset([*asked[:MAX_ASKED], *others])
    return replace(pair, reach=replace(reach, names=names, total=False))


def writes_matter(pair: Pair, silent: Sequence[str]) -> bool:
    """Say whether what differs may have a say in rows that are stored.

    It has none if it is about policies for other commands only.
    """
    policies = {*pair.base.catalog.policies, *pair.head.catalog.policies}
    for name in silent:
        commands = _changed_commands(pair, name)
        if not commands:
            word = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
            commands = {
                p.command for p in policies if word.search(f"{p.using} {p.check}")
            }
        if not commands or commands - {"SELECT", "DELETE"}:
            return True
    return False


def some_personas(pair: Pair) -> Pair:
    """Return ``pair`` with the first persona of every kind, and one more of two clans.

    Where rows are in states of all kinds, callers who are alike tell alike.
    """
    chosen: dict[str, Persona] = {}
    clans: Counter[str] = Counter()
    for persona in pair.personas:
        kind = persona_class(persona)
        if kind == "authenticated" and clans[persona.clan] < MAX_MATES:
            clans[persona.clan] += 1
            kind = f"{persona.clan} {clans[persona.clan]}"
        if persona.kind != "service":
            chosen.setdefault(kind, persona)
    personas = tuple(chosen.values())[:MAX_PERSONAS]
    sides = []
    for side in (pair.base, pair.head):
        world = side.population.world
        cast = replace(world.cast, personas=personas)
        population = replace(side.population, world=replace(world, cast=cast))
        sides.append(replace(side, population=population))
    return replace(pair, base=sides[0], head=sides[1])


def shuffled_tables(pair: Pair) -> list[Relation]:
    """Return the tables whose rows decide about a focused pair's differences."""
    tables = {r.name.name.lower(): r for r in pair.common.relations.values()}
    wanted = [*pair.reach.used, *sorted(pair.reach.names)]
    found: dict[Name, Relation] = {}
    for relation in filter(None, map(tables.get, wanted)):
        # A partition's rows are those of the table that it is part of.
        whole = pair.common.relations[relation.partition_of or relation.name]
        if whole.is_table:
            found.setdefault(whole.name, whole)
    return list(found.values())[:MAX_SHUFFLED]
