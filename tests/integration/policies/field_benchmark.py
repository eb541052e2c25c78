"""The second benchmark: schemas and faults written without the engine in view.

The styles of the first benchmark grew with the engine; what it finds there says little
about a schema that it has never met.  These schemas, their faults and refactors were
written first and measured once before anything was mended, so that misses show as they
would to a user.  A fault counts as found if a finding names one of its objects and does
not stand on the sound schema as well.

``python -m tests.integration.policies.field_benchmark [PART OF A NAME]...`` checks and
compares every case on a throw-away server and tells what was missed; it takes about an
hour of CPU.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.integration.policies.benchmark import (
    HERE,
    Variation,
    faults,
    refactors,
    schema_sql,
)
from tests.integration.policies.benchmark_server import Server, run_on_server, say
from tests.integration.policies.check_benchmark import Outcome, Subject, examine
from tests.integration.policies.diff_benchmark import compare

FIELD = HERE / "field"


@dataclass
class Style:
    """A sound schema, with what a check says of it anyway."""

    name: str
    sql: str
    alarms: set[tuple[str, str]] = field(default_factory=set)


async def _run(words: Sequence[str], server: Server) -> bool:
    listed = [*faults(FIELD), *refactors(FIELD)]
    chosen = [v for v in listed if not words or any(word in v.id for word in words)]
    harmless = set(refactors(FIELD))
    counts: Counter[str] = Counter()
    for name in dict.fromkeys(variation.style for variation in chosen):
        style = Style(name, schema_sql(name, FIELD))
        outcome = await examine(server, Subject(f"{name}: sound", style.sql))
        style.alarms = _told(outcome)
        _count_sound(counts, name, outcome)
        for variation in chosen:
            if variation.style == name and variation in harmless:
                await _refactor(server, style, variation, counts)
            elif variation.style == name:
                await _fault(server, style, variation, counts)
    say(
        f"check: {counts['found']} of {counts['visible']} visible faults found,"
        f" {counts['hidden found']} of {counts['hidden']} hidden ones;"
        f" {counts['alarms']} alarms and {counts['unclear']} undecided on"
        f" {counts['sound']} sound schemas and refactors"
    )
    told = counts["visible"] + counts["hidden"]
    say(
        f"diff: {counts['changed']} of {told} faults found, {counts['open']} undecided,"
        f" {counts['silent']} not told; {counts['diff alarms']} alarms and"
        f" {counts['diff unclear']} undecided on {counts['refactors']} refactors"
    )
    return True


def _told(outcome: Outcome) -> set[tuple[str, str]]:
    return {(finding.check, finding.message) for finding in outcome.findings}


def _count_sound(counts: Counter[str], what: str, outcome: Outcome) -> None:
    counts["sound"] += 1
    counts["alarms"] += bool(outcome.findings)
    counts["unclear"] += bool(outcome.undecided)
    for line in (*(f.message for f in outcome.findings), *outcome.undecided):
        say(f"alarm: {what}: {line}")


async def _fault(
    server: Server, style: Style, fault: Variation, counts: Counter[str]
) -> None:
    subject = Subject(fault.id, style.sql, fault.sql, visible=fault.visible)
    new = _told(await examine(server, subject)) - style.alarms
    found = any(name in message for _, message in new for name in fault.on)
    kind = "visible" if fault.visible else "hidden"
    counts[kind] += 1
    counts["found" if fault.visible else "hidden found"] += found
    if fault.visible and not found:
        say(f"missed: {fault.id}")
    base, head = style.sql, style.sql + fault.sql
    databases = [await server.clone(base), await server.clone(head)]
    compared = await compare(*databases)
    counts["changed"] += bool(compared.failing)
    counts["open"] += bool(compared.undecided and not compared.failing)
    if not (compared.failing or compared.undecided):
        counts["silent"] += 1
        say(f"not told by diff: {fault.id}")
    for database in databases:
        await server.drop(database)


async def _refactor(
    server: Server, style: Style, refactor: Variation, counts: Counter[str]
) -> None:
    outcome = await examine(server, Subject(refactor.id, style.sql, refactor.sql))
    _count_sound(counts, refactor.id, outcome)
    databases = [
        await server.clone(style.sql),
        await server.clone(style.sql + refactor.sql),
    ]
    compared = await compare(*databases)
    counts["refactors"] += 1
    counts["diff alarms"] += bool(compared.failing)
    counts["diff unclear"] += bool(compared.undecided)
    for line in (*compared.failing, *compared.undecided):
        say(f"alarm of diff: {refactor.id}: {line}")
    for database in databases:
        await server.drop(database)


def main() -> int:
    """Run the benchmark; what it misses is told, and fails nothing."""
    return run_on_server(partial(_run, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
