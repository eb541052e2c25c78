"""Tells powers over everything from powers inside a tenant.

An ``owner`` of an account is above the account's members and nobody else; an ``admin``
of the site is above everybody.  Where most conditions that ask for a power also tie the
row to the caller's tenant, the power ends at the tenant's border, and whoever has it is
judged like everybody else beyond.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.db.catalog import Catalog, Name
from harness.policies.comparisons import (
    UID,
    Claim,
    Col,
    Const,
    Reading,
    Term,
    read_condition,
)
from harness.policies.mining import Mined
from harness.policies.ownership import Ownership
from harness.policies.syntax import deparse, disjuncts, parse_condition

__all__ = ["ends_at_the_tenant"]


def ends_at_the_tenant(
    power: Claim | Col, catalog: Catalog, mined: Mined, ownership: Ownership
) -> bool:
    """Say whether most branches that ask for ``power`` ask for the tenant as well."""
    tied = [
        _ties(power, table, reading, ownership)
        for table, reading in _branches(power, catalog, mined)
    ]
    return sum(tied) * 2 > len(tied)


def _branches(
    power: Claim | Col, catalog: Catalog, mined: Mined
) -> Iterator[tuple[Name, Reading]]:
    for policy in catalog.policies:
        whole = mined.policy_readings.get((policy.table, policy.name))
        if whole is None or not _asks(whole, power):
            continue
        for text in dict.fromkeys((policy.using, policy.check)):
            node = parse_condition(text)
            for conjunction in disjuncts(node) if node is not None else ():
                condition = " and ".join(f"({deparse(atom)})" for atom in conjunction)
                reading = read_condition(condition, policy.table, catalog)
                if _asks(reading, power):
                    yield policy.table, reading


def _asks(reading: Reading, power: Claim | Col) -> bool:
    return any(
        left == power and isinstance(right, Const)
        for comparison in reading.comparisons
        for left, right in comparison.pairs()
    )


def _ties(
    power: Claim | Col, table: Name, reading: Reading, ownership: Ownership
) -> bool:
    """Say whether a branch compares the row's place with the caller's."""
    owned = ownership.of(table)
    places = {*owned.tenants, *owned.user_names}
    places |= {column for parent in owned.parents for column in parent.columns}
    for comparison in reading.comparisons:
        for left, right in comparison.pairs():
            if not isinstance(left, Col) or left.table != table:
                continue
            key = left.column in places or _is_claimed(right)
            if key and _is_callers(right, power):
                return True
    return False


def _is_claimed(term: Term) -> bool:
    return isinstance(term, Claim) and term.path not in (("role",), ("email",))


def _is_callers(term: Term, power: Claim | Col) -> bool:
    """Say whether a term is the caller's id, claim, or a column of their own row."""
    if term == UID or _is_claimed(term):
        return True
    return (
        isinstance(power, Col) and isinstance(term, Col) and term.table == power.table
    )
