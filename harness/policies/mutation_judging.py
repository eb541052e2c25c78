"""Whether a check notices a mutant.

A mutant is killed when the check of the mutated schema tells something that the check
of the original does not: a finding, or something undecided, for neither lets a run
pass.
What only ran out of time tells nothing.  A short cut may notice it sooner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import asyncpg

from harness.db.address import DatabaseAddress
from harness.db.initdb import SUPERUSER
from harness.events import Event, Finding, Undecided
from harness.policies.check import Budget, check_schema
from harness.policies.mutant import Mutant
from harness.policies.rules import RuleSet
from harness.policies.scratch import ScratchFactory, cloned

__all__ = ["SEARCH_PATH", "CheckJudge", "Fate", "Judged", "apply_mutant"]

Fate = Literal["killed", "survived", "equivalent", "undecided", "refused"]
Told = tuple[str, str, str]
Emit = Callable[[Event], None]
SEARCH_PATH = "public, extensions"
TIMED_OUT = "took more than"


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a mutant; ``reason`` says by what, or why not."""

    fate: Fate
    reason: str = ""


class Noticed(Exception):
    """Raised out of a check at the first thing that the original does not tell."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class ShortCut(Protocol):
    """A quicker way to notice a mutant, which may miss it."""

    async def notices(self, mutant: Mutant) -> str:
        """Say what is noticed ('' for nothing)."""
        ...


@dataclass
class CheckJudge:
    """Judges mutants of ``database`` with our own check, rules included."""

    database: DatabaseAddress
    rules: RuleSet | None
    seed: int
    budget: Budget
    known: set[Told] = field(default_factory=set)
    in_place: ShortCut | None = None

    async def prepare(self) -> int:
        """Check the original, and return how much of it is told already."""
        await self._check(cloned, self._remember)
        return len(self.known)

    async def judge(self, mutant: Mutant) -> Judged:
        """Check a mutated copy, up to the first thing noticed."""
        if self.in_place is not None:
            noticed_at_once = await self.in_place.notices(mutant)
            if noticed_at_once:
                return Judged("killed", noticed_at_once)
        doubts: list[str] = []

        def notice(event: Event) -> None:
            told = _told(event)
            if told is None or told in self.known:
                return
            if isinstance(event, Finding):
                raise Noticed(f"{event.check}: {event.message}")
            doubts.append(f"{told[0]} is undecided for {told[1] or 'the schema'}")

        try:
            await self._check(mutated(mutant), notice)
        except Noticed as noticed:
            return Judged("killed", noticed.what)
        return Judged("killed", doubts[0]) if doubts else Judged("survived")

    def _remember(self, event: Event) -> None:
        told = _told(event)
        if told is not None:
            self.known.add(told)

    async def _check(self, scratch: ScratchFactory, emit: Emit) -> None:
        await check_schema(
            self.database,
            rules=self.rules,
            seed=self.seed,
            budget=self.budget,
            emit=emit,
            scratch=scratch,
        )


def _told(event: Event) -> Told | None:
    """Return what identifies a finding or an undecided point, None for the rest."""
    if isinstance(event, Finding) and event.severity != "note":
        return event.check, event.where, event.message
    if isinstance(event, Undecided) and not event.reason.startswith(TIMED_OUT):
        return event.check, event.where, ""
    return None


def mutated(mutant: Mutant) -> ScratchFactory:
    """Return a maker of copies that have the mutant's fault."""

    @asynccontextmanager
    async def copy(database: DatabaseAddress) -> AsyncIterator[DatabaseAddress]:
        async with cloned(database) as scratch:
            await apply_mutant(scratch, mutant)
            yield scratch

    return copy


async def apply_mutant(database: DatabaseAddress, mutant: Mutant) -> None:
    """Apply a mutant for good; raises :class:`asyncpg.PostgresError` if refused."""
    connection = await asyncpg.connect(
        **database.connect_args(SUPERUSER),
        statement_cache_size=0,
        server_settings={"search_path": SEARCH_PATH},
    )
    try:
        await connection.execute(mutant.sql)
    finally:
        await connection.close()
