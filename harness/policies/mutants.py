"""Mutants of a schema: small faults, each as plain SQL to apply on top of it.

What is mutated stands in ``mutation_policies``, ``mutation_grants`` and
``mutation_objects``; whether a mutant is noticed is decided by ``mutation_judging``,
and whether it changes anything at all by ``mutation_equivalence``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from harness.db.catalog import Catalog
from harness.policies.mutant import Mutant
from harness.policies.mutation_grants import grant_mutants
from harness.policies.mutation_objects import object_mutants
from harness.policies.mutation_policies import policy_mutants

__all__ = ["Mutant", "all_mutants", "sampled"]


def all_mutants(catalog: Catalog) -> tuple[Mutant, ...]:
    """Return every mutant of the schema, in the order of its objects, none twice."""
    unique: dict[str, Mutant] = {}
    for mutant in _generated(catalog):
        unique.setdefault(mutant.sql, mutant)
    return tuple(unique.values())


def sampled(
    mutants: Sequence[Mutant], limit: int | None, random: Random
) -> tuple[Mutant, ...]:
    """Return ``limit`` of the mutants, chosen by ``random``, in their order."""
    if limit is None or limit >= len(mutants):
        return tuple(mutants)
    chosen = sorted(random.sample(range(len(mutants)), limit))
    return tuple(mutants[index] for index in chosen)


def _generated(catalog: Catalog) -> Iterator[Mutant]:
    yield from policy_mutants(catalog)
    yield from grant_mutants(catalog)
    yield from object_mutants(catalog)
