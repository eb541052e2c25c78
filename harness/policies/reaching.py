"""What a persona reaches after commands of its own: rows of others, by their keys.

Rows are named by primary key and not by place, since a command may move them.  Tables
without a key, or whose key a role may not read, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from harness.db.catalog import Name, Relation
from harness.policies.cases import Step, commands_of
from harness.policies.decisions import harmless_change, statement_settings
from harness.policies.mining import Mined
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer, Attempt
from harness.policies.trial import Trial

__all__ = ["Reached", "Reaching", "hanging_on"]

MAX_TABLES = 12
# Command, table and key of each row within reach.
Reached = frozenset[tuple[str, Name, str]]


def hanging_on(mined: Mined, tables: Iterable[Name]) -> set[Name]:
    """Return the tables whose policies read ``tables``, directly or through others."""
    reads: dict[Name, set[Name]] = {}
    for (policed, _), reading in mined.policy_readings.items():
        reads.setdefault(policed, set()).update(reading.reads)
    found: set[Name] = set()
    waiting = set(tables)
    while waiting:
        sought = waiting.pop()
        above = {policed for policed, read in reads.items() if sought in read}
        waiting |= above - found
        found |= above
    return found


@dataclass
class Reaching:
    """Asks what one persona reaches; remembers whose the rows are."""

    trial: Trial
    persona: Persona
    _rows: dict[tuple[Name, str], StoredRow] = field(default_factory=dict)

    def tables(self, names: Iterable[Name]) -> list[Relation]:
        """Return the tables among ``names`` whose rows can be told apart."""
        wanted = set(names)
        return [
            relation
            for relation in self.trial.tables()
            if relation.name in wanted and relation.primary_key
        ][:MAX_TABLES]

    def look(self, steps: Sequence[Step], tables: Sequence[Relation]) -> Attempt:
        """Return the attempt that lists what is seen of ``tables`` after ``steps``."""
        listed = [
            f"(select coalesce(jsonb_agg({_key(relation)}), '[]')"
            f" from {relation.name.sql} t)"
            for relation in tables
            if self._readable(relation)
        ]
        return Attempt(
            persona=self.persona,
            commands=commands_of(steps, self.persona),
            fetch=f"select jsonb_build_array({', '.join(listed)})",
        )

    def _readable(self, relation: Relation) -> bool:
        role = self.persona.role
        return all(relation.may(role, "SELECT", c) for c in relation.primary_key)

    def seen(self, answer: Answer, tables: Sequence[Relation]) -> Reached:
        """Return the rows of others in the answer to :meth:`look`."""
        if not answer.ok:
            return frozenset()
        readable = [relation for relation in tables if self._readable(relation)]
        return frozenset(
            ("SELECT", relation.name, orjson.dumps(key).decode())
            for relation, keys in zip(readable, answer.fetched, strict=True)
            for key in keys
            if self._is_foreign(relation, orjson.dumps(key).decode())
        )

    def row(self, table: Name, key: str) -> StoredRow:
        """Return the stored row with this key."""
        self._know(self.trial.catalog.relations[table])
        return self._rows[table, key]

    def _is_foreign(self, relation: Relation, key: str) -> bool:
        self._know(relation)
        row = self._rows.get((relation.name, key))
        if row is None or self.persona.sub in row.users:
            return False
        return row.clan is not None and row.clan not in ("", self.persona.clan)

    def _know(self, relation: Relation) -> None:
        stored = self.trial.population.of(relation.name)
        if not stored or (relation.name, _key_of(relation, stored[0])) in self._rows:
            return
        for row in stored:
            self._rows[relation.name, _key_of(relation, row)] = row

    async def written(
        self, steps: Sequence[Step], tables: Sequence[Relation]
    ) -> Reached:
        """Return the rows of others that can be changed only after ``steps``.

        Every table is changed as a whole, so that no SELECT policy is in the way.
        """
        asked: list[tuple[Relation, str, tuple[Step, ...]]] = [
            (relation, command, (change,))
            for relation in tables
            for command in ("UPDATE", "DELETE")
            if (change := self.change(relation, command))
        ]
        # What a trigger touches on the way is no reach.
        asked += [
            (relation, "", ()) for relation in {r.name: r for r, _, _ in asked}.values()
        ]
        answers = await self.trial.prober.attempt_all(
            [
                Attempt(
                    persona=self.persona,
                    commands=commands_of((*steps, *change), self.persona),
                    observe=(
                        "select coalesce(jsonb_object_agg("
                        "t.tableoid::oid || t.ctid::text, true), '{}')"
                        f" from {relation.name.sql} t"
                    ),
                    settings=statement_settings(relation.name, command),
                )
                for relation, command, change in asked
            ]
        )
        touched = {
            (relation.name, command): self._touched(relation, command, answer.seen)
            for (relation, command, _), answer in zip(asked, answers, strict=True)
            if answer.ok
        }
        return frozenset(
            (command, table, key)
            for (table, command), keys in touched.items()
            if command
            for key in keys - touched.get((table, ""), set())
        )

    def _touched(
        self, relation: Relation, command: str, left: Mapping[str, object]
    ) -> set[str]:
        return {
            _key_of(relation, row)
            for row in self.trial.foreign_rows(self.persona, relation.name)
            if row.at not in left
            and self.persona.sub not in row.users
            and not (command and self.trial.decisions.may(self.persona, command, row))
        }

    def change(self, relation: Relation, command: str) -> Step | None:
        """Return the UPDATE or DELETE of a whole table; None without the grant."""
        if not relation.may(self.persona.role, command):
            return None
        if command == "DELETE":
            return Step(
                sql=f"delete from {relation.name.sql}",
                action="delete",
                target=relation.name,
            )
        change = harmless_change(relation, self.trial.ownership, self.persona)
        column, _, value = change.partition(" = ")
        if not change:
            return None
        return Step(
            sql=f"update {relation.name.sql} set {change}",
            action="update",
            target=relation.name,
            values={column.strip('"'): value.strip("'")},
        )


def _key(relation: Relation) -> str:
    columns = [relation.column(name).sql for name in relation.primary_key]
    return f"jsonb_build_array({', '.join(f't.{column}' for column in columns)})"


def _key_of(relation: Relation, row: StoredRow) -> str:
    return orjson.dumps([row.values.get(c) for c in relation.primary_key]).decode()
