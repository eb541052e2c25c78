"""Which new values to try: columns that decide something, set one by one.

They are set to what policies compare them with and to what other rows hold, in single
rows and, without WHERE, in all rows that a caller may update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.db.catalog import Column, Relation
from harness.policies.cases import Step
from harness.policies.comparisons import Col
from harness.policies.decisions import harmless_change, row_filter
from harness.policies.diff_changes import scope_of
from harness.policies.diff_world import Pair
from harness.policies.diff_write import Write, bound_columns, spread
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Trial
from harness.policies.values import literal

__all__ = ["lone_updates", "lone_values", "new_values", "values_of_all_rows"]

MAX_UPDATED = 9
MAX_LONE = 3
MAX_VALUES = 10
MAX_HELD = 3


def new_values(
    pair: Pair, trial: Trial, persona: Persona, relation: Relation
) -> Iterator[Write]:
    """Yield updates of one column at a time."""
    # A filter asks the SELECT policies too; what they changed is told of SELECT.
    visible = pair.visible.get((persona.name, relation.name), frozenset())
    stored = pair.rows.get(relation.name, {})
    rows = [row for key, row in stored.items() if key in visible]
    deciding = list(_deciding(pair, persona, relation))
    scopes: dict[str, list[StoredRow]] = {}
    for row in rows:
        scopes.setdefault(scope_of(persona, row), []).append(row)
    sample = [r for group in scopes.values() for r in spread(group, MAX_UPDATED // 3)]
    for row in sample:
        for column in deciding:
            for value in _values(pair, persona, relation, column, row):
                yield Write(
                    persona=persona,
                    row=row,
                    step=trial.update_step(relation, {column.name: value}, row),
                    command="UPDATE",
                    columns=(column.name,),
                    detail="new values",
                )


def lone_updates(
    pair: Pair, trial: Trial, persona: Persona, relation: Relation
) -> Iterator[Write]:
    """Yield an UPDATE of nothing that matters of rows of every scope, each alone.

    A statement without WHERE that meets one row tells what the UPDATE policies say
    about it, whatever the SELECT policies hide and other rows would refuse.
    """
    union = pair.union.relations[relation.name]
    change = harmless_change(union, pair.ownership, persona)
    if not change or not relation.primary_key:
        return
    scopes: dict[str, list[StoredRow]] = {}
    for row in pair.rows.get(relation.name, {}).values():
        scopes.setdefault(scope_of(persona, row), []).append(row)
    for row in (r for rows in scopes.values() for r in spread(rows, MAX_LONE)):
        yield Write(
            persona=persona,
            row=row,
            step=Step(
                sql=f"update {relation.name.sql} set {change}",
                action="update",
                target=relation.name,
            ),
            command="UPDATE",
            aside=(
                WITHOUT_TRIGGERS,
                f"delete from {relation.name.sql}"
                f" where not ({row_filter(relation, row)})",
                WITH_TRIGGERS,
            ),
        )


def lone_values(pair: Pair, trial: Trial, write: Write) -> Iterator[Write]:
    """Yield new values for a row that such an UPDATE reached."""
    relation = pair.common.relations[write.row.table]
    for column in _deciding(pair, write.persona, relation):
        for value in _values(pair, write.persona, relation, column, write.row):
            yield replace(
                write,
                step=trial.update_step(relation, {column.name: value}),
                columns=(column.name,),
                detail="new values of a row on its own",
            )


def _deciding(pair: Pair, persona: Persona, relation: Relation) -> Iterator[Column]:
    """Yield the columns whose value a policy, an owner or a trigger may mind."""
    owned = pair.ownership.of(relation.name)
    watched = any(
        "update" in trigger.events and trigger.timing == "before"
        for trigger in pair.union.relations[relation.name].triggers
    )
    for column in relation.columns:
        col = Col(relation.name, column.name)
        matters = watched or col in pair.mined.policy_columns
        matters = matters or column.name in bound_columns(owned)
        granted = pair.union.relations[relation.name].may(
            persona.role, "UPDATE", column.name
        )
        if matters and granted and not column.generated and not column.identity:
            yield column


def _values(
    pair: Pair,
    persona: Persona,
    relation: Relation,
    column: Column,
    row: StoredRow | None,
) -> Iterable[str | None]:
    col = Col(relation.name, column.name)
    owned = pair.ownership.of(relation.name)
    found: list[str | None] = list(pair.mined.constants.get(col, ()))
    found += list(column.labels)
    if column.base_type == "boolean":
        found += ["true", "false"]
    if column.name in owned.user_names and persona.sub:
        found.append(persona.sub)
    if column.name not in relation.primary_key:
        found += _held_by_others(pair, persona, relation, column)
    if column.name == "name" and relation.name == OBJECTS:
        found = [f"{folder}/moved.png" for folder in _folders(pair, persona)]
    now = row.text(column.name) if row is not None else None
    unique = [value for value in dict.fromkeys(found) if value != now]
    return unique[:MAX_VALUES]


def _held_by_others(
    pair: Pair, persona: Persona, relation: Relation, column: Column
) -> Iterator[str]:
    """Yield values from all over the rows of every scope."""
    scopes: dict[str, dict[str, None]] = {}
    for row in pair.rows[relation.name].values():
        value = row.text(column.name)
        if value is not None:
            scopes.setdefault(scope_of(persona, row), {})[value] = None
    for values in scopes.values():
        yield from spread(list(values), MAX_HELD)


def _folders(pair: Pair, persona: Persona) -> Iterator[str]:
    """Yield folders to move files to: the caller's own, and one of every scope."""
    scopes = {persona.sub: persona.sub} if persona.sub else {}
    for row in pair.rows[OBJECTS].values():
        folder, slash, _ = (row.text("name") or "").rpartition("/")
        if slash:
            scopes.setdefault(scope_of(persona, row), folder)
    yield from scopes.values()


def values_of_all_rows(
    pair: Pair, persona: Persona, relation: Relation
) -> Iterator[tuple[Column, str]]:
    """Yield new values, as SQL, to which all rows are set at once.

    Only for tables that policies look things up in: elsewhere a row on its own tells
    as much (:func:`lone_values`).
    """
    if relation.name not in pair.mined.helper_tables:
        return
    keys = pair.union.relations[relation.name].unique_keys
    unique = {key.columns[-1] for key in keys if key.columns}
    for column in _deciding(pair, persona, relation):
        for value in _values(pair, persona, relation, column, None):
            if value is None:
                continue
            if column.name in unique and column.base_type == "text":
                # One value for all rows would meet the unique key before the policies.
                yield column, f"{literal(value)} || gen_random_uuid()"
            else:
                yield column, literal(value)
