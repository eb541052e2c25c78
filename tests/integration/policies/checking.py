"""What policy tests run: a check of a database, and what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from harness.db.address import DatabaseAddress
from harness.events import Event, Finding, Undecided, Witness
from harness.policies.check import Budget, CheckSummary, check_schema
from harness.policies.rules import RuleSet
from harness.policies.scratch import ScratchFactory, cloned


@dataclass
class Checked:
    """What a check came to."""

    summary: CheckSummary
    events: list[Event] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """The findings, notes left out."""
        return [event for event in self.events if is_finding(event)]

    @property
    def undecided(self) -> list[Undecided]:
        """What could not be decided."""
        return [event for event in self.events if isinstance(event, Undecided)]

    def found(self, check: str, where: str = "") -> list[Finding]:
        """Return the findings of ``check`` at objects that contain ``where``."""
        return [f for f in self.findings if f.check == check and where in f.where]

    def assert_sound(self) -> None:
        """Fail with every finding and everything undecided."""
        told = [f"{f.check}: {f.message} ({f.note})" for f in self.findings]
        told += [f"undecided: {u.check} {u.where}: {u.reason}" for u in self.undecided]
        assert not told, "\n".join(told)


CheckSql = Callable[..., Checked]


def is_small(witness: Witness | None, *, statements: int = 2) -> bool:
    """Say whether a witness fits into a glance, with so many statements at most."""
    return (
        witness is not None
        and witness.rows <= 3
        and witness.identities <= 2
        and witness.statements <= statements
    )


def is_finding(event: Event) -> bool:
    """Say whether an event is a finding, notes left out."""
    return isinstance(event, Finding) and event.severity != "note"


def run_check(
    database: DatabaseAddress,
    *,
    rules: RuleSet | None = None,
    seed: int = 1,
    statement_timeout_ms: int = 5_000,
    scratch: ScratchFactory = cloned,
) -> Checked:
    """Check the schema of ``database``."""
    events: list[Event] = []
    budget = Budget(per_check_s=60, statement_timeout_ms=statement_timeout_ms)
    summary = asyncio.run(
        check_schema(
            database,
            rules=rules,
            seed=seed,
            budget=budget,
            emit=events.append,
            scratch=scratch,
        )
    )
    return Checked(summary, events)


class Found(Exception):
    """Ends a check at its first finding."""


def finds_a_fault(database: DatabaseAddress, sql: str) -> bool:
    """Say whether a check tells anything of ``database`` changed by ``sql``.

    It ends at the first finding, which is all that is asked.
    """

    def notice(event: Event) -> None:
        if is_finding(event):
            raise Found

    try:
        asyncio.run(
            check_schema(
                database,
                seed=1,
                budget=Budget(per_check_s=60),
                emit=notice,
                scratch=changed_by(sql),
            )
        )
    except Found:
        return True
    return False


def changed_by(sql: str) -> ScratchFactory:
    """Return a maker of copies that ``sql`` has changed, as a migration does."""

    @asynccontextmanager
    async def copy(database: DatabaseAddress) -> AsyncIterator[DatabaseAddress]:
        async with cloned(database) as scratch:
            connection = await asyncpg.connect(**scratch.connect_args("postgres"))
            try:
                await connection.execute(sql)
            finally:
                await connection.close()
            yield scratch

    return copy
