"""The benchmark of ``harness diff``: every seeded fault told, no refactor mentioned.

``python -m tests.integration.policies.diff_benchmark [PART OF A NAME]...`` runs it on a
throw-away server and prints what was missed, what was an alarm, and the CPU time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from harness.db.address import DatabaseAddress
from harness.events import Event, Finding, Undecided, Witness
from harness.policies.diff import diff_schemas
from tests.integration.policies.benchmark import (
    Variation,
    faults,
    refactors,
    schema_sql,
)
from tests.integration.policies.benchmark_server import Server, run_on_server, say
from tests.integration.policies.checking import is_small

# Faults in the text that execution cannot tell, since nobody may do more or less.
SAME_BEHAVIOUR = frozenset({"ecommerce: cart items: user check lost"})
# Notes about what is there, not about what anybody may do.
LISTED = "new_objects"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison of a variation with its sound schema told."""

    failing: tuple[str, ...]
    notes: tuple[str, ...]
    undecided: tuple[str, ...]
    decisions: int
    witnesses: tuple[Witness | None, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether nothing was told."""
        return not (self.failing or self.notes or self.undecided)


async def compare(base: DatabaseAddress, head: DatabaseAddress) -> Outcome:
    """Compare two databases."""
    events: list[Event] = []
    summary = await diff_schemas(base, head, seed=1, emit=events.append)
    found = [e for e in events if isinstance(e, Finding)]
    return Outcome(
        tuple(f.message for f in found if f.severity != "note"),
        tuple(f.message for f in found if f.severity == "note" and f.check != LISTED),
        tuple(f"{e.where}: {e.reason}" for e in events if isinstance(e, Undecided)),
        summary.decisions,
        tuple(f.witness for f in found if f.severity != "note"),
    )


def expected_faults() -> list[Variation]:
    """Return the faults that change what somebody may do."""
    return [fault for fault in faults() if fault.id not in SAME_BEHAVIOUR]


def silent_changes() -> list[Variation]:
    """Return what a comparison must not mention."""
    same = [fault for fault in faults() if fault.id in SAME_BEHAVIOUR]
    return [*refactors(), *same]


async def _run(words: Sequence[str], server: Server) -> bool:
    chosen = [
        (wanted, variation)
        for wanted, listed in ((True, expected_faults()), (False, silent_changes()))
        for variation in listed
        if not words or any(word in variation.id for word in words)
    ]
    wrong: list[str] = []
    unclear = 0
    began_s = time.process_time()
    for wanted, variation in chosen:
        sound = schema_sql(variation.style)
        databases = [
            await server.clone(sound),
            await server.clone(sound + variation.sql),
        ]
        outcome = await compare(*databases)
        if not outcome.failing if wanted else not outcome.silent:
            wrong.append(variation.id)
            say(f"{'missed' if wanted else 'alarm'}: {variation.id} {outcome}")
        # Settings (a bucket made public) are no statement to witness.
        shown = [witness for witness in outcome.witnesses if witness is not None]
        if shown and not any(map(is_small, shown)):
            unclear += 1
            say(f"large: {variation.id} {outcome.failing[0]}")
        for database in databases:
            await server.drop(database)
    counts = [sum(w is wanted for w, _ in chosen) for wanted in (True, False)]
    missed = sum(w and v.id in wrong for w, v in chosen)
    say(
        f"{counts[0] - missed} of {counts[0]} faults told,"
        f" {unclear} without a witness of 3 rows, 2 identities and 2 statements,"
        f" {len(wrong) - missed} alarms on {counts[1]} refactors,"
        f" {time.process_time() - began_s:.0f} s of CPU beside PostgreSQL"
    )
    return not (wrong or unclear)


def main() -> int:
    """Run the benchmark."""
    return run_on_server(partial(_run, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
