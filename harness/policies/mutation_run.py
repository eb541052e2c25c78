"""Takes mutants one after the other to their fate, and reports each as events.

A survivor is a finding of severity ``note``: it tells of the tests, not of the schema,
and leaves the verdict alone.  A mutant that could not be judged is undecided.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import asyncpg

from harness.clock import Clock, SystemClock
from harness.events import (
    CheckFinished,
    CheckStarted,
    Event,
    Finding,
    Progress,
    Undecided,
    Witness,
)
from harness.policies.mutant import Mutant
from harness.policies.mutation_equivalence import Observatory
from harness.policies.mutation_judging import Fate, Judged

__all__ = ["PHASE", "Judge", "MutationScore", "judge_mutants"]

PHASE = "mutate"
Outcome = Literal["passed", "failed", "skipped", "errored"]


class Judge(Protocol):
    """What decides whether a mutant is noticed: our check, or a suite."""

    async def judge(self, mutant: Mutant) -> Judged:
        """Return ``killed`` or ``survived`` (or ``undecided``)."""
        ...


@dataclass
class MutationScore:
    """How many mutants came to which fate."""

    fates: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0

    @property
    def judged(self) -> int:
        """The mutants that could be killed."""
        return self.fates["killed"] + self.fates["survived"]

    @property
    def percent(self) -> float:
        """Killed mutants in percent of those that could be; 0 where there are none."""
        return 100.0 * self.fates["killed"] / self.judged if self.judged else 0.0

    def __str__(self) -> str:
        total = max(1, sum(self.fates.values()))
        names = ("killed", "survived", "equivalent", "undecided", "refused")
        counts = ", ".join(f"{self.fates[name]} {name}" for name in names)
        return (
            f"mutation score {self.percent:.1f}% ({counts});"
            f" {self.took_s / total:.2f} s a mutant"
        )


async def judge_mutants(
    mutants: Sequence[Mutant],
    judge: Judge,
    observatory: Observatory,
    *,
    budget_s: float,
    emit: Callable[[Event], None],
    clock: Clock | None = None,
) -> MutationScore:
    """Judge ``mutants`` in turn, each within ``budget_s``."""
    clock = clock or SystemClock()
    score = MutationScore()
    for done, mutant in enumerate(mutants):
        emit(Progress(phase=PHASE, done=done, total=len(mutants), note=mutant.check))
        emit(CheckStarted(phase=PHASE, check=mutant.check))
        began_s = clock.monotonic_s()
        judged = await _within(budget_s, mutant, judge, observatory)
        took_s = clock.monotonic_s() - began_s
        score.fates[judged.fate] += 1
        score.took_s += took_s
        for event in _told(mutant, judged, took_s):
            emit(event)
    return score


async def _within(
    budget_s: float, mutant: Mutant, judge: Judge, observatory: Observatory
) -> Judged:
    try:
        async with asyncio.timeout(budget_s):
            return await _fate(mutant, judge, observatory)
    except TimeoutError:
        return Judged("undecided", f"took more than {budget_s:g} s")
    except asyncpg.PostgresError as exc:
        # The mutant broke what the judge needs to run at all.
        return Judged("undecided", f"{type(exc).__name__}: {exc}")


async def _fate(mutant: Mutant, judge: Judge, observatory: Observatory) -> Judged:
    refusal = await observatory.refusal(mutant)
    if refusal:
        return Judged("refused", refusal)
    if await observatory.is_the_same(mutant):
        return Judged("equivalent", "proved: the catalogue is the same")
    judged = await judge.judge(mutant)
    if judged.fate != "survived":
        return judged
    difference = await observatory.difference(mutant)
    if difference:
        return Judged("survived", difference)
    return Judged("equivalent", "by search: no decision over the world differs")


def _told(mutant: Mutant, judged: Judged, took_s: float) -> list[Event]:
    events: list[Event] = []
    if judged.fate == "survived":
        events.append(
            Finding(
                phase=PHASE,
                check=mutant.check,
                message=f"nothing noticed that {mutant.means}",
                where=mutant.where,
                severity="note",
                note=judged.reason,
                witness=Witness(sql=f"{mutant.sql};", statements=1),
            )
        )
    if judged.fate == "undecided":
        events.append(
            Undecided(
                phase=PHASE,
                check=mutant.check,
                where=mutant.where,
                reason=judged.reason,
            )
        )
    return [
        *events,
        CheckFinished(
            phase=PHASE,
            check=mutant.check,
            outcome=OUTCOMES.get(judged.fate, "skipped"),
            took_s=took_s,
            detail=f"{judged.fate}: {mutant.where}: {mutant.means}; {judged.reason}",
        ),
    ]


# A fault nobody noticed is no failed check of the schema: it is skipped, and told.
OUTCOMES: Mapping[Fate, Outcome] = {"killed": "passed"}
