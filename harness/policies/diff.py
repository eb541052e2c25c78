"""Compares what two versions of a schema allow, by execution, decision by decision.

:func:`diff_schemas` is the entry point.  Both databases are copied and never written
to.  The same personas execute the same statements over the same rows in both copies;
every decision that differs is a :class:`~harness.policies.diff_changes.Change`.  What
is widened, or fails now, is a finding; what is narrowed is a note.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg

from harness.clock import Clock, SystemClock
from harness.db.address import DatabaseAddress
from harness.db.catalog import Name, Policy
from harness.events import (
    CheckFinished,
    CheckStarted,
    Event,
    Finding,
    Undecided,
    Witness,
)
from harness.policies.cases import Severity
from harness.policies.coverage import unreached_policies
from harness.policies.decisions import Decisions
from harness.policies.diff_allow import AllowedChange
from harness.policies.diff_calls import compare_calls
from harness.policies.diff_changes import (
    Change,
    ChangeBundle,
    ChangeGroup,
    bundled,
    group_changes,
)
from harness.policies.diff_conditions import ConditionsSeen
from harness.policies.diff_new import judge_new_objects
from harness.policies.diff_rows import compare_rows
from harness.policies.diff_settings import compare_settings, new_objects
from harness.policies.diff_shuffle import shuffled
from harness.policies.diff_silence import (
    focused,
    shuffled_tables,
    silent_differences,
    some_personas,
    writes_matter,
)
from harness.policies.diff_witness import Contrast
from harness.policies.diff_world import TIMED_OUT, Pair, prepare_pair, read_versions
from harness.policies.diff_writes import compare_writes
from harness.policies.probing import Prober
from harness.policies.scratch import ScratchFactory, cloned, scratch_prober

__all__ = ["DiffSummary", "diff_schemas"]

PHASE = "diff"
Emit = Callable[[Event], None]
Comparison = Callable[[Pair, Decisions], Awaitable[list[Change]]]

SHUFFLED = "rows_in_other_states_show_the_same"
MAX_SHUFFLES = 2
MAX_SHUFFLED_DECISIONS = 8_000  # after which no other states are looked at
# Reads come first: what a caller can see guides the calls that are tried.
COMPARISONS: Sequence[tuple[str, Comparison]] = (
    ("rows_are_open_to_the_same_callers", compare_rows),
    ("rows_may_be_stored_by_the_same_callers", compare_writes),
    ("calls_do_the_same_for_the_same_callers", compare_calls),
    ("settings_show_the_same", compare_settings),
    ("new_objects_are_sound", judge_new_objects),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSummary:
    """What a comparison came to; ``groups`` are all changes, accepted ones included.

    ``compared`` is how many tables, views and functions of both versions were asked,
    and of how many.
    """

    groups: tuple[ChangeGroup, ...]
    accepted: int
    undecided: int
    decisions: int
    took_s: float
    compared: tuple[int, int] = (0, 0)

    def count(self, direction: str) -> int:
        """Return how many groups of changes go in ``direction``."""
        return sum(group.direction == direction for group in self.groups)

    def __str__(self) -> str:
        """Return the summary in one line."""
        if not self.compared[1]:
            return "nothing differs that could decide: nothing to execute"
        compared, known = self.compared
        return (
            f"{self.decisions:,} decisions on the {compared} of {known} objects that"
            f" the differences reach, {self.count('widened')} widened"
            f" ({self.accepted} accepted), {self.count('narrowed')} narrowed,"
            f" {self.count('error')} failing, {self.undecided} undecided"
        )


async def diff_schemas(
    base: DatabaseAddress,
    head: DatabaseAddress,
    *,
    allowed: Sequence[AllowedChange] = (),
    seed: int = 0,
    everything: bool = False,
    statement_timeout_ms: int = 5_000,
    emit: Emit = lambda event: None,
    scratch: ScratchFactory = cloned,
    clock: Clock | None = None,
) -> DiffSummary:
    """Compare the schemas that two databases hold; deterministic by ``seed``.

    Objects that no difference reaches (see :mod:`harness.policies.diff_reach`) are left
    out, unless ``everything`` is asked for.
    """
    async with AsyncExitStack() as stack:
        copies = _Copies(stack, (base, head), scratch, statement_timeout_ms)
        run = _Run(emit, clock or SystemClock(), allowed, copies)
        versions = await read_versions(*await copies.pair(), everything=everything)
        if versions.reach.empty:
            run.tell_equal()
        else:
            await run.compare(await prepare_pair(versions, seed))
        return run.summary()


@dataclass(frozen=True, slots=True)
class _Copies:
    """Makes private copies of both versions, side by side."""

    stack: AsyncExitStack
    databases: tuple[DatabaseAddress, DatabaseAddress]
    scratch: ScratchFactory
    statement_timeout_ms: int

    async def pair(self) -> tuple[Prober, Prober]:
        """Return probers of fresh copies of BASE and HEAD."""
        base, head = self.databases
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(self._copy(d)) for d in (base, head)]
        return made[0].result(), made[1].result()

    async def _copy(self, database: DatabaseAddress) -> Prober:
        copy = await self.stack.enter_async_context(self.scratch(database))
        prober = scratch_prober(copy, statement_timeout_ms=self.statement_timeout_ms)
        return await self.stack.enter_async_context(prober)


class _Run:
    """One comparison: counts and emits."""

    def __init__(
        self,
        emit: Emit,
        clock: Clock,
        allowed: Sequence[AllowedChange],
        copies: _Copies,
    ) -> None:
        self.emit = emit
        self.clock = clock
        self.allowed = allowed
        self.copies = copies
        self.started_s = clock.monotonic_s()
        self.groups: list[ChangeGroup] = []
        self.accepted: set[AllowedChange] = set()
        self.undecided = 0
        self.narrowed = 0
        self.contrast: Contrast | None = None
        self.pair: Pair | None = None
        self.shown: Pair | None = None
        self.slow = False

    def at(self) -> float:
        """Return the seconds since the comparison began."""
        return self.clock.monotonic_s() - self.started_s

    def tell_equal(self) -> None:
        """Report that there is nothing to execute."""
        name = "versions_differ_in_nothing_that_decides"
        self.emit(CheckStarted(at=self.at(), phase=PHASE, check=name))
        self.emit(
            CheckFinished(
                at=self.at(),
                phase=PHASE,
                check=name,
                outcome="passed",
                took_s=self.at(),
                detail="both say the same, word for word",
            )
        )
        for unused in self.allowed:
            self._tell_unused(unused)

    async def compare(self, pair: Pair) -> None:
        """Make every comparison and report what differs."""
        self.pair = self.shown = pair
        decisions = Decisions()
        unreached = await _unreached(pair, decisions)
        self._tell_undecided("worlds_fit_both_versions", pair.undecided)
        for name, comparison in COMPARISONS:
            began_s, before = self.at(), _decided(pair)
            self.emit(CheckStarted(at=began_s, phase=PHASE, check=name))
            known = {group.key for group in self.groups}
            found = group_changes(await comparison(pair, decisions))
            groups = [group for group in found if group.key not in known]
            failing = await self._report(name, groups)
            failing += self._tell_undecided(name, pair.undecided)
            self.groups += groups
            self.emit(
                CheckFinished(
                    at=self.at(),
                    phase=PHASE,
                    check=name,
                    outcome="failed" if failing else "passed",
                    took_s=self.at() - began_s,
                    decisions=_decided(pair) - before,
                )
            )
        await self._compare_shuffled(pair, Decisions(), unreached)
        self._tell_undecided("worlds_fit_both_versions", unreached)
        for where, told in new_objects(pair):
            self._note("new_objects", where, told)
        for unused in self.allowed:
            if unused not in self.accepted:
                self._tell_unused(unused)

    async def _compare_shuffled(
        self, pair: Pair, decisions: Decisions, unreached: dict[str, str]
    ) -> None:
        """Look at what told nothing again, over rows in other states.

        Forgets of ``unreached`` what is reached now.
        """
        silent = silent_differences(pair, self.groups)
        if not silent or self.slow:
            return
        began_s, before = self.at(), _decided(pair)
        self.emit(CheckStarted(at=began_s, phase=PHASE, check=SHUFFLED))
        failing, now, conditions = 0, some_personas(pair), ConditionsSeen()
        await conditions.look(pair, decisions, silent)
        for _ in range(MAX_SHUFFLES):
            now = focused(now, silent)
            changed = await shuffled(now, shuffled_tables(now))
            if changed is None:
                break
            now = self.shown = changed
            self.contrast = None
            for reached in unreached.keys() - await _unreached(now, decisions):
                del unreached[reached]
            await conditions.look(now, decisions, silent)
            for comparison in (compare_rows, compare_writes, compare_calls):
                if comparison is compare_writes and not writes_matter(pair, silent):
                    continue
                known = {group.key for group in self.groups}
                found = group_changes(await comparison(now, decisions))
                groups = [group for group in found if group.key not in known]
                failing += await self._report(SHUFFLED, groups)
                self.groups += groups
            silent = silent_differences(pair, self.groups)
            if not silent or _decided(pair) - before > MAX_SHUFFLED_DECISIONS:
                break
        for where, reason in conditions.undecided(pair, silent).items():
            unreached.setdefault(where, reason)
        self.emit(
            CheckFinished(
                at=self.at(),
                phase=PHASE,
                check=SHUFFLED,
                outcome="failed" if failing else "passed",
                took_s=self.at() - began_s,
                decisions=_decided(pair) - before,
            )
        )

    def _tell_unused(self, unused: AllowedChange) -> None:
        self._note(
            "accepted_changes_occur",
            unused.object,
            f"the accepted change no longer occurs: {unused}",
        )

    def _tell_undecided(self, check: str, undecided: dict[str, str]) -> int:
        """Emit what could not be compared, and forget it; returns how much it is."""
        told = len(undecided)
        while undecided:
            where, reason = undecided.popitem()
            self.slow |= reason == TIMED_OUT
            self.undecided += 1
            self.emit(
                Undecided(
                    at=self.at(), phase=PHASE, check=check, where=where, reason=reason
                )
            )
        return told

    def _note(self, check: str, where: str, message: str) -> None:
        self.emit(
            Finding(
                at=self.at(),
                phase=PHASE,
                check=check,
                where=where,
                message=message,
                severity="note",
            )
        )

    async def _report(self, check: str, groups: Sequence[ChangeGroup]) -> int:
        """Emit what changed, one finding a sentence; returns how many fail."""
        by_reason: dict[str, list[ChangeGroup]] = defaultdict(list)
        for group in groups:
            accepted = next((a for a in self.allowed if a.covers(group)), None)
            if accepted is not None:
                self.accepted.add(accepted)
            by_reason[accepted.reason if accepted else ""].append(group)
        failing = 0
        for reason, alike in by_reason.items():
            for bundle in bundled(alike):
                failing += await self._tell(check, bundle, reason)
        return failing

    async def _witness(self, change: Change) -> Witness | None:
        """Shrink a change, on copies without a world that are made when needed."""
        if self.contrast is None and change.case is not None:
            assert self.shown is not None
            self.contrast = Contrast(*await self.copies.pair(), self.shown)
        return None if self.contrast is None else await self.contrast.witness(change)

    def _cause(self, bundle: ChangeBundle) -> str:
        """Say what changed, where it is another object than the one concerned."""
        assert self.pair is not None
        names = [group.object.rpartition(".")[2] for group in bundle.groups]
        found = {c for name in names for c in self.pair.reach.why(name)}
        if not found:
            return ""
        told = sorted(found)[:MAX_CAUSES]
        more = f" and {len(found) - len(told)} more" if len(found) > len(told) else ""
        return f"follows from {', '.join(told)}{more}"

    async def _tell(self, check: str, bundle: ChangeBundle, reason: str) -> bool:
        narrowed = bundle.first.direction == "narrowed"
        severity: Severity = "note" if narrowed or reason else "high"
        told = [bundle.note, self._cause(bundle)]
        told.append(f"accepted: {reason}" if reason else "")
        # A narrowing fails nothing: the first few show what it is about.
        self.narrowed += narrowed
        shown = not narrowed or self.narrowed <= MAX_NARROWED_WITNESSES
        self.emit(
            Finding(
                at=self.at(),
                phase=PHASE,
                check=check,
                message=bundle.message,
                where=bundle.first.object,
                severity=severity,
                note="; ".join(filter(None, told)),
                hint="" if severity == "note" else HINT,
                witness=await self._witness(bundle.clearest) if shown else None,
            )
        )
        return severity != "note"

    def summary(self) -> DiffSummary:
        """Return the counts."""
        pair = self.pair
        accepted = [
            group
            for group in self.groups
            if any(allowed.covers(group) for allowed in self.allowed)
        ]
        return DiffSummary(
            groups=tuple(self.groups),
            accepted=len(accepted),
            undecided=self.undecided,
            decisions=_decided(pair) if pair is not None else 0,
            took_s=self.at(),
            compared=_compared(pair) if pair is not None else (0, 0),
        )


MAX_NARROWED_WITNESSES = 5
MAX_CAUSES = 4
HINT = "if this is meant, accept it with --write-allow FILE and have FILE reviewed"


async def _unreached(pair: Pair, decisions: Decisions) -> dict[str, str]:
    """Return, by policy, why a change of it cannot be seen in this world.

    That is so where no changed policy for a command admits anybody in either version.
    """
    reasons: dict[Policy, str] = {}
    reached: set[tuple[Name, str]] = set()
    for side, other in ((pair.base, pair.head), (pair.head, pair.base)):
        known = {*other.catalog.policies}
        changed = [p for p in side.catalog.policies if p not in known]
        trial = side.trial(pair, decisions)
        for table in dict.fromkeys(policy.table for policy in changed):
            policies = [p for p in changed if p.table == table]
            try:
                found = await unreached_policies(trial, policies)
            except asyncpg.QueryCanceledError:
                pair.undecided[str(table)] = TIMED_OUT
                continue
            reached |= {(p.table, p.command) for p in policies if p not in found}
            reasons |= found
    return {
        policy.told: reason
        for policy, reason in reasons.items()
        if (policy.table, policy.command) not in reached
    }


def _decided(pair: Pair) -> int:
    return pair.base.prober.decisions + pair.head.prober.decisions


def _compared(pair: Pair) -> tuple[int, int]:
    before = {function.signature for function in pair.base.catalog.functions}
    functions = [f for f in pair.head.catalog.functions if f.signature in before]
    names = [*pair.common.relations, *(function.name for function in functions)]
    reached = [name for name in names if pair.reach.includes(name.name)]
    return len(reached), len(names)
