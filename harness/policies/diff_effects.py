"""What a statement returned and changed in one version, as texts that compare.

Values drawn by the database (random ids, the time) are masked, since they differ in any
two runs; ids and times that stand in the world are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from harness.db.catalog import Catalog, Relation
from harness.policies.decisions import Decisions
from harness.policies.diff_world import Pair
from harness.policies.effects import CLOCK_COLUMNS, changes_of
from harness.policies.effects import Change as RowChange
from harness.policies.probing import Answer
from harness.policies.trial import Trial

__all__ = ["FactReader", "described", "fact_readers"]

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?([+-]\d\d(:?\d\d)?|Z)?")
TOKEN = re.compile(r"\b[0-9a-f]{16,}\b|\b\d{10}(\.\d+)?\b")


@dataclass(frozen=True, slots=True)
class FactReader:
    """Reads the answers of one version."""

    trial: Trial
    common: Catalog
    known: frozenset[str]

    def read(self, answer: Answer) -> frozenset[str]:
        """Return what the statement returned and changed."""
        returned = answer.fetched if isinstance(answer.fetched, list) else []
        facts = {f"returns {_masked(item, self.known)}" for item in returned}
        for change in changes_of(self.trial, answer.seen or {}):
            relation = self.common.relations.get(change.table)
            if relation is not None:
                facts.add(self._changed(change, relation))
        return frozenset(facts)

    def _changed(self, change: RowChange, relation: Relation) -> str:
        row = change.after or change.before or {}
        # Keys that the database draws differ in any two runs.
        told = {
            column.name: row.get(column.name)
            for column in relation.columns
            if not (column.name in relation.primary_key and column.default)
            and not (column.identity or column.default.startswith("nextval("))
            and not CLOCK_COLUMNS.search(column.name)
            and (change.kind != "update" or column.name in change.columns)
        }
        return f"{change.kind}s {change.table} {_masked(told, self.known)}"


def fact_readers(pair: Pair, decisions: Decisions) -> tuple[FactReader, FactReader]:
    """Return readers for BASE and HEAD."""
    known = _known_values(pair)
    return (
        FactReader(pair.base.trial(pair, decisions), pair.common, known),
        FactReader(pair.head.trial(pair, decisions), pair.common, known),
    )


def _masked(value: Any, known: frozenset[str]) -> str:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def mask(match: re.Match[str]) -> str:
        return match[0] if match[0] in known else "*"

    return TOKEN.sub(mask, TIME.sub(mask, UUID.sub(mask, text)))


def _known_values(pair: Pair) -> frozenset[str]:
    """Return ids and times that stand in the world, which no masking may hide."""
    found: set[str] = set()
    for rows in pair.rows.values():
        for row in rows.values():
            text = orjson.dumps(dict(row.values)).decode()
            for pattern in (UUID, TIME, TOKEN):
                found |= {match[0] for match in pattern.finditer(text)}
    found |= {persona.sub for persona in pair.personas}
    return frozenset(found)


def described(facts: frozenset[str]) -> str:
    """Return one of the facts, shortened."""
    first = min(facts)
    return first if len(first) <= 160 else f"{first[:157]}..."
