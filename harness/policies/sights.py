"""Tells who sees what of a row that hangs on another's, and whom that concerns."""

from __future__ import annotations

from collections.abc import Mapping

from harness.db.catalog import Relation, quote_identifier
from harness.policies.decisions import row_filter
from harness.policies.ownership import Parent
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, insert_statement
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.trial import Trial
from harness.policies.values import literal

__all__ = [
    "concerns_others",
    "is_hidden",
    "is_open_to_visitors",
    "opens_parents",
    "own_place",
]


def is_hidden(
    trial: Trial,
    persona: Persona,
    parent: Parent,
    values: Mapping[str, str | None],
) -> bool:
    """Say whether the row's parent exists, is another's, and cannot be seen."""
    wanted = [values.get(column) for column in parent.columns]
    for row in trial.population.of(parent.target):
        if wanted == [row.text(column) for column in parent.target_columns]:
            foreign = bool(row.clan) and row.clan != persona.clan
            return foreign and not trial.decisions.may(persona, "SELECT", row)
    return False


def is_open_to_visitors(trial: Trial, parent: Parent) -> bool:
    """Say whether a table shows strangers some of its rows (live ones, open ones)."""
    visitors = [p for p in trial.personas if p.kind == "plain"]
    return any(
        trial.decisions.may(visitor, "SELECT", row)
        for visitor in visitors
        for row in trial.foreign_rows(visitor, parent.target)
    )


async def concerns_others(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    values: Mapping[str, str | None],
    hidden: list[Parent],
    replaced: StoredRow | None = None,
) -> bool:
    """Say whether a row under another's parent shows there, or opens the parent.

    Compares who sees what with the same row under a parent of the persona's own.
    """
    put_aside: tuple[str, ...] = ()
    if replaced is not None:
        gone = f"delete from {relation.name.sql} where {row_filter(relation, replaced)}"
        put_aside = (gone,)
    before = await _sights(
        trial, persona, relation, values, hidden, put_aside, own=True
    )
    after = await _sights(trial, persona, relation, values, hidden, put_aside)
    return any(now > then for now, then in zip(after, before, strict=True))


async def opens_parents(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    values: Mapping[str, str | None],
    hidden: list[Parent],
) -> bool:
    """Say whether the persona sees hidden parents once the row is there."""
    seen = await _sights(trial, persona, relation, values, hidden, ())
    return any(seen[-len(hidden) :])


async def _sights(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    values: Mapping[str, str | None],
    hidden: list[Parent],
    put_aside: tuple[str, ...],
    *,
    own: bool = False,
) -> list[int]:
    """Count what others see of the row, and the persona of its parents."""
    stored = dict(values)
    if own:
        for parent in hidden:
            stored |= _own_parent(trial, persona, parent)
        place = own_place(trial, persona, relation)
        stored |= {c: place.get(c) for c in trial.ownership.of(relation.name).tenants}
    identity = any(column.identity for column in relation.columns)
    row = " and ".join(
        f"{relation.column(name).sql}::text = {literal(value)}"
        for name, value in stored.items()
        if value is not None and relation.column(name).base_type == "uuid"
    )
    insert = insert_statement(relation.name, stored, identity=identity)
    setup = (WITHOUT_TRIGGERS, *put_aside, insert, WITH_TRIGGERS)
    looks = [
        (other, f"{relation.name.sql} where {row or 'true'}")
        for other in trial.personas
        if other.kind == "plain" and other.clan != persona.clan
    ]
    for parent in hidden:
        pairs = zip(parent.columns, parent.target_columns, strict=True)
        wanted = " and ".join(
            f"{quote_identifier(target)} = {literal(values.get(column))}"
            for column, target in pairs
        )
        looks.append((persona, f"{parent.target.sql} where {wanted}"))
    answers = await trial.prober.attempt_all(
        [
            Attempt(
                persona=looking,
                fetch=f"select to_jsonb(count(*)) from {what}",
                setup=setup,
            )
            for looking, what in looks
        ]
    )
    return [int(answer.fetched or 0) if answer.ok else 0 for answer in answers]


def _own_parent(
    trial: Trial, persona: Persona, parent: Parent
) -> dict[str, str | None]:
    """Return the key of a parent of the persona's own, a closed one if there is any."""
    stranger = trial.population.world.cast.persona("carol")
    own = sorted(
        trial.population.owned_by(parent.target, persona.clan or "?"),
        key=lambda row: trial.decisions.may(stranger, "SELECT", row),
    )
    for row in own:
        pairs = zip(parent.columns, parent.target_columns, strict=True)
        return {column: row.text(target) for column, target in pairs}
    return dict.fromkeys(parent.columns)


def own_place(
    trial: Trial, persona: Persona, relation: Relation
) -> dict[str, str | None]:
    """Return the tenant columns and the rooted parents of a row of the persona's."""
    owned = trial.ownership.of(relation.name)
    names = {*owned.tenants}
    for parent in owned.parents:
        if any(row.clan for row in trial.population.of(parent.target)):
            names |= set(parent.columns)
    for row in trial.population.owned_by(relation.name, persona.clan or "?"):
        return {name: row.text(name) for name in sorted(names)}
    return {}
