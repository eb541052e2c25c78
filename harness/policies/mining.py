"""Values that a schema's own text asks for, so that worlds reach every branch of it.

Collects, from policies, checks, views and helper bodies: constants per column, null and
clock tests, claims of the token and what they are compared with, folders of object
names, and the columns that meet the caller's id.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.db.catalog import Catalog, Name, Policy, Relation
from harness.policies.comparisons import (
    UID,
    Claim,
    Clock,
    Col,
    Comparison,
    Const,
    Depth,
    Folder,
    Opaque,
    Reading,
    Term,
    Topic,
    read_body,
    read_condition,
)

__all__ = ["FolderUse", "Mined", "TopicUse", "domain_condition", "mine"]

OBJECTS = Name("storage", "objects")
BUCKET = Col(OBJECTS, "bucket_id")
MESSAGES = Name("realtime", "messages")


@dataclass(frozen=True, slots=True)
class FolderUse:
    """A policy's expectation of a folder: in ``buckets``, folder ``index`` is ``term``.

    ``commands`` tells for which commands; ``table`` and ``column`` where the path is.
    """

    table: Name
    column: str
    index: int
    term: Term
    buckets: tuple[str, ...]
    command: str
    operator: str = "="


@dataclass(frozen=True, slots=True)
class TopicUse:
    """What a policy on ``realtime.messages`` compares the topic with."""

    index: int
    separator: str
    term: Term
    policy: tuple[Name, str] = (MESSAGES, "")


@dataclass
class Mined:
    """What :func:`mine` collected; columns are :class:`~..comparisons.Col`."""

    constants: dict[Col, list[str]] = field(default_factory=lambda: defaultdict(list))
    patterns: dict[Col, list[str]] = field(default_factory=lambda: defaultdict(list))
    bounds: dict[Col, list[str]] = field(default_factory=lambda: defaultdict(list))
    null_tests: set[Col] = field(default_factory=set)
    truth_tests: set[Col] = field(default_factory=set)
    clock_tests: set[Col] = field(default_factory=set)
    caller_columns: dict[Col, int] = field(default_factory=lambda: defaultdict(int))
    claim_constants: dict[tuple[str, ...], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    claim_columns: dict[tuple[str, ...], set[Col]] = field(
        default_factory=lambda: defaultdict(set)
    )
    equal_columns: set[tuple[Col, Col]] = field(default_factory=set)
    folders: list[FolderUse] = field(default_factory=list)
    depths: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    topics: list[TopicUse] = field(default_factory=list)
    policy_readings: dict[tuple[Name, str], Reading] = field(default_factory=dict)
    helper_tables: set[Name] = field(default_factory=set)
    memberships: set[tuple[Name, str, str]] = field(default_factory=set)
    policy_columns: set[Col] = field(default_factory=set)

    def asks_for_owner(self, table: Name, column: str) -> bool:
        """Say whether a policy of ``table`` compares ``column`` with the caller."""
        return any(
            {left, right} == {Col(table, column), UID}
            for (name, _), reading in self.policy_readings.items()
            if name == table
            for comparison in reading.comparisons
            for left, right in [(comparison.left, comparison.right)]
        )


def mine(catalog: Catalog) -> Mined:
    """Read every expression of the project once."""
    mined = Mined()
    for policy in catalog.policies:
        _mine_policy(policy, catalog, mined)
    for relation in catalog.tables:
        for check in relation.checks:
            reading = read_condition(check.expression, relation.name, catalog)
            _note(reading.comparisons, mined)
        for column in relation.columns:
            for text in column.domain_checks:
                condition = domain_condition(text, column.sql)
                reading = read_condition(condition, relation.name, catalog)
                _note(reading.comparisons, mined)
    for relation in catalog.relations.values():
        if relation.partition_of is not None:
            _mine_bound(relation, relation.partition_of, catalog, mined)
    for function in catalog.functions:
        _note(read_body(function, catalog).comparisons, mined)
    _enumerate_claims(catalog, mined)
    return mined


def _mine_bound(part: Relation, table: Name, catalog: Catalog, mined: Mined) -> None:
    """Note values that rows of a partition have, so that each of them has rows."""
    reading = read_condition(part.partition_bound, table, catalog)
    for comparison in reading.comparisons:
        left, right = comparison.left, comparison.right
        if (
            isinstance(left, Col)
            and isinstance(right, Const)
            and comparison.operator in ("=", ">=")
        ):
            kept = mined.bounds[left]
            kept += [value for value in right.values if value not in kept]


def _enumerate_claims(catalog: Catalog, mined: Mined) -> None:
    """Take a claim that is compared with an enum for one of its labels, no tenant."""
    for path, cols in mined.claim_columns.items():
        for col in sorted(cols, key=str):
            relation = catalog.relations.get(col.table)
            named = relation is not None and relation.has_column(col.column)
            if relation is None or not named or not relation.column(col.column).labels:
                continue
            cols.discard(col)
            kept = mined.claim_constants[path]
            labels = relation.column(col.column).labels
            kept += [label for label in labels if label not in kept]


def domain_condition(definition: str, column: str) -> str:
    """Return a domain's CHECK as a condition of ``column``."""
    return re.sub(r"\bVALUE\b", column, definition.removeprefix("CHECK "))


def _mine_policy(policy: Policy, catalog: Catalog, mined: Mined) -> None:
    for text in (policy.using, policy.check):
        if not text:
            continue
        reading = read_condition(text, policy.table, catalog)
        kept = mined.policy_readings.setdefault((policy.table, policy.name), Reading())
        kept.comparisons += reading.comparisons
        kept.calls += reading.calls
        kept.columns |= reading.columns
        kept.reads |= reading.reads
        kept.caller |= reading.caller
        kept.tautology |= reading.tautology
        mined.policy_columns |= reading.columns
        mined.helper_tables |= reading.reads - {policy.table}
        mined.helper_tables |= _self_read(policy.table, reading)
        mined.memberships |= _memberships(policy.table, reading, catalog)
        _note(reading.comparisons, mined)
        _note_folders(policy, reading.comparisons, mined)


def _self_read(table: Name, reading: Reading) -> set[Name]:
    return {table} & reading.reads


def _memberships(
    table: Name, reading: Reading, catalog: Catalog
) -> set[tuple[Name, str, str]]:
    """Return (link table, user column, shared column) that this policy looks up.

    A table that the row refers to by its key (the order of a line) is no link.
    """
    pairs = [p for comparison in reading.comparisons for p in comparison.pairs()]
    policed = catalog.relations.get(table)
    above = {key.target for key in policed.foreign_keys} if policed else set()
    callers = {
        left
        for left, right in pairs
        if isinstance(left, Col)
        and right == UID
        and left.table in reading.reads - above
    }
    return {
        (user.table, user.column, left.column)
        for user in callers
        for left, right in pairs
        if isinstance(left, Col)
        and left.table == user.table
        and left != user
        and (isinstance(right, (Folder, Topic)) or _elsewhere(right, left, table))
    }


def _elsewhere(right: Term, left: Col, table: Name) -> bool:
    return isinstance(right, Col) and (right.table != left.table or table == left.table)


def _note(comparisons: Iterable[Comparison], mined: Mined) -> None:
    for comparison in comparisons:
        if isinstance(comparison.right, Opaque):
            _note_unary(comparison, mined)
        for left, right in comparison.pairs():
            if isinstance(left, Col):
                _note_column(comparison.operator, left, right, mined)
            elif isinstance(left, Claim):
                _note_claim(left, right, mined)


def _note_unary(comparison: Comparison, mined: Mined) -> None:
    if isinstance(comparison.left, Col):
        if comparison.operator == "is null":
            mined.null_tests.add(comparison.left)
        elif comparison.operator == "is true":
            mined.truth_tests.add(comparison.left)


def _note_column(operator: str, column: Col, other: Term, mined: Mined) -> None:
    if isinstance(other, Const):
        kept = mined.patterns if operator[0] in "~!" else mined.constants
        kept = mined.patterns if operator in ("~~", "~~*", "~", "~*") else kept
        kept[column] += [v for v in other.values if v not in kept[column]]
    elif other == UID:
        mined.caller_columns[column] += 1
    elif isinstance(other, Clock):
        mined.clock_tests.add(column)
    elif isinstance(other, Col) and other != column:
        mined.equal_columns.add((column, other))


def _note_claim(claim: Claim, other: Term, mined: Mined) -> None:
    if isinstance(other, Const):
        kept = mined.claim_constants[claim.path]
        kept += [v for v in other.values if v not in kept]
    elif isinstance(other, Col):
        mined.claim_columns[claim.path].add(other)


def _note_folders(
    policy: Policy, comparisons: Iterable[Comparison], mined: Mined
) -> None:
    listed = list(comparisons)
    buckets = tuple(
        value
        for comparison in listed
        for left, right in comparison.pairs()
        if left == BUCKET and isinstance(right, Const)
        for value in right.values
    )
    for comparison in listed:
        for left, right in comparison.pairs():
            if isinstance(left, Depth) and isinstance(right, Const):
                folders = int(right.values[0]) - left.extra
                mined.depths.append((tuple(dict.fromkeys(buckets)), folders))
            elif isinstance(left, Folder) and left.index > 0:
                mined.folders.append(
                    FolderUse(
                        left.table,
                        left.column,
                        left.index,
                        right,
                        tuple(dict.fromkeys(buckets)),
                        policy.command,
                        comparison.operator,
                    )
                )
            elif isinstance(left, Topic):
                mined.topics.append(
                    TopicUse(
                        left.index,
                        left.separator,
                        right,
                        (policy.table, policy.name),
                    )
                )


def constants_of(mined: Mined, table: Name) -> Mapping[str, list[str]]:
    """Return the plain constants compared with each column of ``table``."""
    return {
        column.column: values
        for column, values in mined.constants.items()
        if column.table == table and not column.path
    }
