"""What a call changed and what it gave away, compared with the world before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.db.catalog import Catalog, Name, Relation
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, as_text
from harness.policies.trial import Trial

__all__ = ["Change", "Secrets", "changes_of", "did_something", "leaves"]

TOKEN = re.compile(r"(?=.*\d).{6,}", re.DOTALL)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
CLOCK_COLUMNS = re.compile(r"(updated|modified|changed|last_\w+)(_at|_on)?$")

COUNTER_COLUMNS = re.compile(
    r"(count|counter|views|hits|likes|clicks|downloads|plays|reads|total|votes|score|"
    r"shares|uses|visits|version|position|popularity|reputation|rating)"
)
WORTH_COLUMNS = re.compile(
    r"balance|amount|credit|point|cents|price|grade|salary|quota|stock|plan|role|level"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row that a call inserted, updated or deleted; ``columns`` of an update."""

    kind: Literal["insert", "update", "delete"]
    table: Name
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    stored: StoredRow | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose value differs."""
        before, after = self.before or {}, self.after or {}
        return tuple(name for name in after if after[name] != before.get(name))

    @property
    def is_counting(self) -> bool:
        """Whether only counters and timestamps moved, as a view counter does."""
        if self.kind != "update":
            return False
        before, after = self.before or {}, self.after or {}
        return all(
            CLOCK_COLUMNS.search(name) or _counts(name, before.get(name), after[name])
            for name in self.columns
        )


def _counts(name: str, before: Any, after: Any) -> bool:
    """Say whether a value moved as a counter does, and is no money or mark."""
    whole = type(before) is int and type(after) is int
    if not whole or WORTH_COLUMNS.search(name):
        return False
    return bool(COUNTER_COLUMNS.search(name)) or abs(after - before) == 1


def changes_of(trial: Trial, seen: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the changes between the stored world and what the observer saw."""
    for text, rows in seen.items():
        table = _logical(trial.catalog, text)
        relation = trial.catalog.relations.get(table)
        if relation is None or table.schema == "realtime":
            continue
        stored = {row.at: row for row in trial.population.of(table)}
        now = {row["at"]: row["row"] for row in rows}
        gone = {at: row for at, row in stored.items() if at not in now}
        if table != Name(*text.split(".", 1)):
            gone = {at: r for at, r in gone.items() if _same_part(at, now)}
        fresh = {at: row for at, row in now.items() if at not in stored}
        key = relation.primary_key
        for row in gone.values():
            match = next(
                (
                    a
                    for a, after in fresh.items()
                    if key and all(after.get(k) == row.values.get(k) for k in key)
                ),
                None,
            )
            after = fresh.pop(match) if match is not None else None
            yield Change(
                kind="update" if after else "delete",
                table=table,
                before=row.values,
                after=after,
                stored=row,
            )
        for after in fresh.values():
            yield Change(kind="insert", table=table, before=None, after=after)


def did_something(trial: Trial, seen: Mapping[str, Any]) -> bool:
    """Say whether the observer saw any change, of tables not modelled too."""
    modelled = trial.catalog.relations
    for text in seen:
        table = _logical(trial.catalog, text)
        if table not in modelled or table.schema == "realtime":
            return True
    return any(changes_of(trial, seen))


def _logical(catalog: Catalog, text: str) -> Name:
    name = Name(*text.split(".", 1))
    relation = catalog.relations.get(name)
    while relation is not None and relation.partition_of is not None:
        name = relation.partition_of
        relation = catalog.relations.get(name)
    return name


def _same_part(at: str, now: Mapping[str, Any]) -> bool:
    """Say whether a row lies in the partition that the observer listed."""
    part = at.partition("(")[0]
    return any(other.partition("(")[0] == part for other in now)


def leaves(value: Any) -> Iterator[str]:
    """Yield every scalar inside a JSON value, as text."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        text = as_text(value)
        if text is not None:
            yield text


def _key_columns(relation: Relation) -> set[str]:
    """Return the columns of a table's primary and foreign keys."""
    referring = {c for key in relation.foreign_keys for c in key.columns}
    return {*relation.primary_key} | referring


class Secrets:
    """Values that occur in few rows, so that their origin can be told."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._origins: dict[str, list[StoredRow]] = {}
        keyed = {
            name: _key_columns(relation)
            for name, relation in trial.catalog.relations.items()
        }
        # Numbers that stand in keys: like UUIDs, they say which row, not what is in it.
        self._numbers = {
            text
            for rows in trial.population.tables.values()
            for row in rows
            for column in keyed.get(row.table, ())
            if (text := row.text(column)) is not None and text.isdigit()
        }
        for rows in trial.population.tables.values():
            for row in rows:
                for text in set(leaves(dict(row.values))):
                    if TOKEN.match(text):
                        self._origins.setdefault(text, []).append(row)

    def hidden_origin(
        self, persona: Persona, text: str, *, keys: bool = False
    ) -> StoredRow | None:
        """Return the row that ``text`` gives away, if ``persona`` may not see it.

        UUIDs give something away only with ``keys``.
        """
        if (UUID.match(text) or text in self._numbers) and not keys:
            return None
        origins = self._origins.get(text, [])
        if not origins or any(self._may_know(persona, row) for row in origins):
            return None
        foreign = [r for r in origins if r.clan and r.clan != persona.clan]
        return foreign[0] if foreign else None

    def _may_know(self, persona: Persona, row: StoredRow) -> bool:
        if self._trial.decisions.may(persona, "SELECT", row):
            return True
        return not row.clan or row.clan == persona.clan
