"""Judges mutants in the world of the original, without a copy of the database.

The stored world is kept; a mutant is put on in a transaction, every decision is taken
again, and the properties judge them up to the first thing that they do not say of the
original.  What nobody notices here goes on to a check with a world of its own: this is
a short cut to *killed* and to nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import asyncpg

from harness.db.catalog_reading import read_catalog
from harness.policies.check import PROPERTIES
from harness.policies.decisions import decide
from harness.policies.mining import mine
from harness.policies.mutant import Mutant
from harness.policies.mutation_equivalence import Observatory
from harness.policies.ownership import infer_ownership
from harness.policies.rules import RuleSet, declared_rules_hold
from harness.policies.trial import Judgement, Trial

__all__ = ["InPlace"]

Told = tuple[str, str, str]


@dataclass
class InPlace:
    """The properties and rules, asked in the world of ``observatory``."""

    observatory: Observatory
    rules: RuleSet | None = None
    known: set[Told] = field(default_factory=set)

    async def prepare(self) -> None:
        """Remember what is said of the original."""
        trial = replace(self.observatory.trial, called=None)
        async for check, judgement in self._judgements(trial):
            self.known |= {told for told, _ in _said(check, judgement)}

    async def notices(self, mutant: Mutant) -> str:
        """Return the first thing that is said of the mutant only ('' for none)."""
        try:
            async with self.observatory.wearing(mutant):
                async for check, judgement in self._judgements(await self._trial()):
                    for told, words in _said(check, judgement):
                        if told not in self.known:
                            return words
        except asyncpg.PostgresError:
            # It breaks what the world needs to be looked at: a check of its own tells.
            return ""
        return ""

    async def _trial(self) -> Trial:
        """Return the world as the database is now, with the decisions taken anew."""
        before = self.observatory.trial
        catalog = await read_catalog(before.prober.connection)
        mined = mine(catalog)
        corrections = self.rules.ownership if self.rules is not None else {}
        ownership = infer_ownership(catalog, mined, corrections)
        decisions = await decide(
            before.prober, catalog, ownership, before.population, before.personas
        )
        return replace(
            before,
            catalog=catalog,
            mined=mined,
            ownership=ownership,
            decisions=decisions,
            called=None,
        )

    async def _judgements(self, trial: Trial) -> AsyncIterator[tuple[str, Judgement]]:
        connection = trial.prober.connection
        for judged in PROPERTIES:
            async with connection.transaction():
                judgement = await judged(trial)
            yield judged.__name__, judgement
        if self.rules is not None:
            async with connection.transaction():
                judgement = await declared_rules_hold(trial, self.rules)
            yield "declared_rules_hold", judgement


def _said(check: str, judgement: Judgement) -> list[tuple[Told, str]]:
    said = [
        ((check, v.where, v.fault), f"{v.check}: {v.message}")
        for v in judgement.violations
        if v.severity != "note"
    ]
    said += [
        ((check, where, "undecided"), f"{check} is undecided for {where or 'it'}")
        for where in judgement.undecided
    ]
    return said
