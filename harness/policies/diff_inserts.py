"""Compares which rows each persona may store, and which values it may write.

Inserted rows copy stored ones of every owner under fresh keys, as they are and with the
caller named as the owner.  Updates set the columns that decide something, one by one,
to what policies compare them with and to what other rows hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.db.catalog import Column, Relation, quote_identifier
from harness.policies.cases import Case, Expectation, Step
from harness.policies.comparisons import Col
from harness.policies.decisions import Decisions, statement_settings
from harness.policies.diff_changes import (
    SAYS,
    Change,
    direction_of,
    persona_class,
    scope_of,
)
from harness.policies.diff_world import Pair
from harness.policies.grid import Ask
from harness.policies.ownership import Part, TableOwnership
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Trial
from harness.policies.values import literal

__all__ = ["compare_inserts"]

MAX_INSERTED = 16
MAX_UPDATED = 9
MAX_VALUES = 6
ASIDE_BEGINS = "set local session_replication_role = replica"
ASIDE_ENDS = "set local session_replication_role = origin"


@dataclass(frozen=True, slots=True)
class _Write:
    """One statement of one persona; ``row`` is what it copies or changes."""

    persona: Persona
    row: StoredRow
    step: Step
    command: str
    columns: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    detail: str = ""

    def ask(self) -> Ask:
        shape, arguments = _shape(self.step)
        return Ask(
            persona=self.persona,
            commands=(self.step.sql,),
            shape=shape,
            arguments=arguments,
            aside=self.aside,
            settings=statement_settings(self.row.table, self.command),
        )


def _shape(step: Step) -> tuple[str, tuple[str, ...]]:
    """Return a statement with parameters, and what stands for them."""
    assert step.target is not None
    values, table = list(step.values.items()), step.target.sql
    names = [quote_identifier(name) for name, _ in values]
    arguments = tuple(literal(value) for _, value in values)
    if step.action == "insert" and values:
        numbers = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        return f"insert into {table} ({', '.join(names)}) values ({numbers})", arguments
    filtered = " where " in step.sql
    if step.action != "update" or (filtered and not all(step.filters.values())):
        return "", ()
    changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(names, 1))
    where = " and ".join(
        f"{quote_identifier(name)} = ${n}"
        for n, name in enumerate(step.filters, len(values) + 1)
    )
    arguments += tuple(literal(value) for value in step.filters.values())
    return (
        f"update {table} set {changes}{f' where {where}' if where else ''}",
        arguments,
    )


async def compare_inserts(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return every decision about new rows and new values that differs."""
    trial = pair.trial(decisions)
    changes: list[Change] = []
    for relation in pair.compared_tables:
        rows = _spread(list(pair.rows.get(relation.name, {}).values()), MAX_INSERTED)
        writes: list[_Write] = []
        for persona in pair.personas:
            if persona.kind == "service":
                continue
            if _granted(pair, relation, persona, "INSERT"):
                writes += _inserts(pair, trial, persona, relation, rows)
            if _granted(pair, relation, persona, "UPDATE"):
                writes += _updates(pair, trial, persona, relation)
        changes += await _compare(pair, writes)
    return changes


def _granted(pair: Pair, relation: Relation, persona: Persona, command: str) -> bool:
    return any(
        side.catalog.relations[relation.name].may(persona.role, command)
        for side in (pair.base, pair.head)
    )


async def _compare(pair: Pair, writes: Sequence[_Write]) -> list[Change]:
    asks = [write.ask() for write in writes]
    base, head = await asyncio.gather(
        pair.base.grid.ask(asks), pair.head.grid.ask(asks)
    )
    return [
        change
        for write, old, new in zip(writes, base, head, strict=True)
        if (change := _differing(write, old, new))
    ]


def _differing(write: _Write, base: Answer, head: Answer) -> Change | None:
    direction = direction_of(_effect(write, base), _effect(write, head))
    if direction is None:
        return None
    expectation = (
        Expectation(kind="raises", text=head.sqlstate)
        if direction == "error"
        else Expectation(kind="affects", says=SAYS[direction])
    )
    detail = f"{head.message} [{head.sqlstate}]" if direction == "error" else ""
    return Change(
        object=str(write.row.table),
        command=write.command,
        direction=direction,
        who=persona_class(write.persona),
        scope=scope_of(write.persona, write.row),
        subject=f"{write.persona.name} {write.step.sql}",
        columns=write.columns,
        detail=detail or write.detail,
        case=Case(
            persona=write.persona,
            steps=(write.step,),
            expectation=expectation,
            rows=(write.row,),
            settings=statement_settings(write.row.table, write.command),
        ),
    )


def _effect(write: _Write, answer: Answer) -> Answer:
    """Take a statement that changed no row for a refusal."""
    if answer.ok and answer.counts and not answer.counts[-1]:
        return Answer(sqlstate="42501", message="no row")
    return answer


# -- new rows ----------------------------------------------------------------------


def _inserts(
    pair: Pair,
    trial: Trial,
    persona: Persona,
    relation: Relation,
    rows: Sequence[StoredRow],
) -> Iterator[_Write]:
    owned = pair.ownership.of(relation.name)
    for row in rows:
        copy = _copy(pair, persona, relation, owned, row)
        own = dict(copy)
        if persona.sub:
            for user in owned.users:
                if user.part is not Part.REFERENCE and user.column in own:
                    own[user.column] = persona.sub
        for values in (copy, own) if own != copy else (copy,):
            yield _Write(
                persona=persona,
                row=row,
                step=trial.insert_step(relation, values),
                command="INSERT",
                aside=_aside(relation, owned, values),
                detail="named as the owner" if values is not copy else "",
            )


def _copy(
    pair: Pair,
    persona: Persona,
    relation: Relation,
    owned: TableOwnership,
    row: StoredRow,
) -> dict[str, str | None]:
    """Copy a row under new keys, within what both versions let the role set."""
    bound = _bound(owned)
    unique = {c for key in relation.unique_keys for c in key.columns} - bound
    values: dict[str, str | None] = {}
    for column in relation.columns:
        if not _settable(pair, persona, relation, column):
            continue
        if column.name in unique:
            drawn = column.default and column.name in relation.primary_key
            if not drawn:
                values[column.name] = pair.values.fresh(relation, column)
        elif row.values.get(column.name) is not None:
            values[column.name] = row.text(column.name)
    if relation.name == OBJECTS:
        folder, _, _ = (row.text("name") or "").rpartition("/")
        file = f"new{pair.values.drawn}.png"
        values |= {
            "bucket_id": row.text("bucket_id"),
            "name": f"{folder}/{file}" if folder else file,
            "owner": persona.sub or None,
            "owner_id": persona.sub or None,
        }
        values.pop("metadata", None)
    return values


def _settable(pair: Pair, persona: Persona, relation: Relation, column: Column) -> bool:
    held = [
        side.catalog.relations[relation.name].may(persona.role, "INSERT", column.name)
        for side in (pair.base, pair.head)
    ]
    none = not any(held)
    return not column.generated and not column.identity and (all(held) or none)


def _bound(owned: TableOwnership) -> set[str]:
    columns = {c for parent in owned.parents for c in parent.columns}
    return columns | set(owned.user_names) | set(owned.tenants)


def _aside(
    relation: Relation, owned: TableOwnership, values: dict[str, str | None]
) -> tuple[str, ...]:
    """Return statements that remove rows with the same unavoidable key."""
    deletes = []
    for key in relation.unique_keys:
        fixed = key.columns and not key.expression and set(key.columns) <= _bound(owned)
        if not fixed or any(values.get(column) is None for column in key.columns):
            continue
        where = " and ".join(
            f"{quote_identifier(c)} = {literal(values[c])}" for c in key.columns
        )
        deletes.append(f"delete from {relation.name.sql} where {where}")
    return (ASIDE_BEGINS, *deletes, ASIDE_ENDS) if deletes else ()


# -- new values --------------------------------------------------------------------


def _updates(
    pair: Pair, trial: Trial, persona: Persona, relation: Relation
) -> Iterator[_Write]:
    # A filter asks the SELECT policies too; what they changed is told of SELECT.
    visible = pair.visible.get((persona.name, relation.name), frozenset())
    stored = pair.rows.get(relation.name, {})
    rows = [row for key, row in stored.items() if key in visible]
    deciding = list(_deciding(pair, persona, relation))
    scopes: dict[str, list[StoredRow]] = {}
    for row in rows:
        scopes.setdefault(scope_of(persona, row), []).append(row)
    sample = [r for group in scopes.values() for r in _spread(group, MAX_UPDATED // 3)]
    # Without WHERE, no SELECT policy has a say about the new row.
    for row in (sample or list(stored.values()))[:1]:
        for column in deciding:
            for value in _new_values(pair, persona, relation, column, row):
                yield _Write(
                    persona=persona,
                    row=row,
                    step=trial.update_step(relation, {column.name: value}),
                    command="UPDATE",
                    columns=(column.name,),
                    detail="new values of all rows",
                )
    for row in sample:
        for column in deciding:
            for value in _new_values(pair, persona, relation, column, row):
                yield _Write(
                    persona=persona,
                    row=row,
                    step=trial.update_step(relation, {column.name: value}, row),
                    command="UPDATE",
                    columns=(column.name,),
                    detail="new values",
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
        matters = matters or column.name in _bound(owned)
        granted = pair.union.relations[relation.name].may(
            persona.role, "UPDATE", column.name
        )
        if matters and granted and not column.generated and not column.identity:
            yield column


def _new_values(
    pair: Pair, persona: Persona, relation: Relation, column: Column, row: StoredRow
) -> Iterable[str | None]:
    col = Col(relation.name, column.name)
    owned = pair.ownership.of(relation.name)
    found: list[str | None] = list(pair.mined.constants.get(col, ()))
    found += list(column.labels)
    if column.base_type == "boolean":
        found += ["true", "false"]
    if column.name in owned.user_names and persona.sub:
        found.append(persona.sub)
    others: dict[str, str | None] = {}
    for other in pair.rows[relation.name].values():
        value = other.text(column.name)
        if value is not None and column.name not in relation.primary_key:
            others.setdefault(scope_of(persona, other), value)
    found += others.values()
    now = row.text(column.name)
    unique = [value for value in dict.fromkeys(found) if value != now]
    return unique[:MAX_VALUES]


def _spread(rows: list[StoredRow], limit: int) -> list[StoredRow]:
    """Take up to ``limit`` rows from all over the list."""
    if len(rows) <= limit:
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]
