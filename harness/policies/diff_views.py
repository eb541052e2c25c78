"""Reading and writing through views, and partitions by their own name.

A view that runs as its owner is a way around the policies of the tables below it; a
partition asked by its own name is guarded by its own policies only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.db.catalog import Relation
from harness.policies.cases import Step
from harness.policies.decisions import harmless_change
from harness.policies.diff_asked import Asked
from harness.policies.diff_world import Pair
from harness.policies.grid import Ask
from harness.policies.personas import Persona

__all__ = ["view_questions"]


def view_questions(pair: Pair) -> Iterator[Asked]:
    """Yield reads and writes of everything that is not a table of its own."""
    for relation in pair.common.relations.values():
        if not pair.reach.includes(relation.name.name):
            continue
        exposed = relation.name.schema not in ("realtime", "storage")
        alone = relation.partition_of is not None and exposed
        if relation.kind not in ("view", "matview") and not alone:
            continue
        for persona in pair.personas:
            yield _read(relation, persona)
            if relation.kind != "matview":
                yield from _writes(pair, relation, persona)


def _read(relation: Relation, persona: Persona) -> Asked:
    columns = ", ".join(f"v.{column.sql}" for column in relation.columns)
    sql = f"select {columns} from {relation.name.sql} v"
    return Asked(
        persona=persona,
        object=str(relation.name),
        command="SELECT",
        step=Step(sql=sql, action="select", target=relation.name),
        ask=Ask(
            persona=persona,
            fetch=f"select coalesce(jsonb_agg(to_jsonb(x)), '[]') from ({sql}) x",
        ),
    )


def _writes(pair: Pair, relation: Relation, persona: Persona) -> Iterator[Asked]:
    name = relation.name.sql
    held = [side.catalog.relations[relation.name] for side in (pair.base, pair.head)]

    def granted(command: str, column: str | None = None) -> list[bool]:
        return [side.may(persona.role, command, column) for side in held]

    statements: list[tuple[str, str]] = []
    if any(granted("DELETE")):
        statements.append(("DELETE", f"delete from {name}"))
    kept = tuple(c for c in relation.columns if any(granted("UPDATE", c.name)))
    change = harmless_change(replace(held[1], columns=kept), pair.ownership, persona)
    change = change or harmless_change(
        replace(held[0], columns=kept), pair.ownership, persona
    )
    if change:
        statements.append(("UPDATE", f"update {name} set {change}"))
    listed = ", ".join(
        c.sql
        for c in relation.columns
        if not c.generated and not c.identity and any(granted("INSERT", c.name))
    )
    if listed and persona.kind != "service":
        # A copy of a row meets its own key: what that refuses, the policies admitted.
        copied = f"insert into {name} ({listed}) select {listed} from {name} limit 1"
        statements.append(("INSERT", copied))
    for command, sql in statements:
        yield Asked(
            persona=persona,
            object=str(relation.name),
            command=command,
            step=Step(sql=sql, target=relation.name),
            ask=Ask(
                persona=persona,
                commands=(sql,),
                observe="select harness_probe.changed()",
                mark=True,
            ),
        )
