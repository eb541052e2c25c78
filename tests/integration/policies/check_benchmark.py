"""The benchmark of ``harness check``: what is found, how soon, how small it is shown.

``python -m tests.integration.policies.check_benchmark [PART OF A NAME]...`` checks
every seeded fault and the drafts of the five systems on a throw-away server and prints
what was missed, the latest first finding, the largest witness, and the CPU time.
With ``--sound N`` it checks what is sound N times instead, each time with another seed,
and counts alarms.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.db.schema_files import Schema, read_schema
from harness.events import Event, Finding, Undecided, Witness
from harness.policies.check import CheckSummary, check_schema
from harness.policies.rules import RuleSet, read_rules
from harness.policies.scratch import ScratchFactory, cloned
from tests.integration.policies.benchmark import STYLES, faults, refactors, schema_sql
from tests.integration.policies.benchmark_server import ROOT, Server, run_on_server, say
from tests.integration.policies.checking import changed_by, is_finding

SYSTEMS = ("climber", "audiobook", "storymimi", "keepintouch", "wedsync")
FIRST_WITHIN_S = 5.0
MOST = {"rows": 3, "identities": 2, "statements": 2}


@dataclass(frozen=True, slots=True)
class Subject:
    """A schema to check, ``change`` applied to it; ``visible`` if it has a fault."""

    id: str
    schema: Schema | str
    change: str = ""
    rules: RuleSet | None = None
    visible: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check told: findings, what was undecided, seconds to the first."""

    findings: tuple[Finding, ...]
    undecided: tuple[str, ...]
    first_s: float
    summary: CheckSummary

    @property
    def silent(self) -> bool:
        """Whether nothing was told."""
        return not (self.findings or self.undecided)


def faulty() -> Iterator[Subject]:
    """Yield every fault of the benchmark, and the drafts."""
    for fault in faults():
        yield Subject(
            fault.id, schema_sql(fault.style), fault.sql, visible=fault.visible
        )
    for system in SYSTEMS:
        folder = ROOT / "sql" / system / "draft"
        yield Subject(f"{system}: draft", read_schema(folder))


def sound() -> Iterator[Subject]:
    """Yield what no alarm may be raised on."""
    for style in STYLES:
        yield Subject(f"{style}: sound", schema_sql(style))
    for refactor in refactors():
        yield Subject(refactor.id, schema_sql(refactor.style), refactor.sql)
    for system in SYSTEMS:
        folder = ROOT / "sql" / system
        rules = read_rules(folder / "rules.toml")
        yield Subject(f"{system}: reference", read_schema(folder), rules=rules)


async def examine(server: Server, subject: Subject, seed: int = 1) -> Outcome:
    """Check one subject."""
    scratch: ScratchFactory = changed_by(subject.change) if subject.change else cloned
    database = await server.clone(subject.schema)
    events: list[Event] = []
    summary = await check_schema(
        database, rules=subject.rules, seed=seed, emit=events.append, scratch=scratch
    )
    await server.drop(database)
    findings = [e for e in events if isinstance(e, Finding) and is_finding(e)]
    undecided = [e for e in events if isinstance(e, Undecided)]
    return Outcome(
        tuple(findings),
        tuple(f"{e.check} {e.where}: {e.reason}" for e in undecided),
        min((f.at for f in findings), default=0.0),
        summary,
    )


def too_large(witness: Witness | None) -> bool:
    """Say whether a witness is missing or passes the bound."""
    return witness is None or any(getattr(witness, k) > n for k, n in MOST.items())


async def _faults(words: Sequence[str], server: Server) -> bool:
    chosen = [s for s in faulty() if not words or any(w in s.id for w in words)]
    latest, missed, hidden, large = 0.0, 0, 0, 0
    most = dict.fromkeys(MOST, 0)
    slow: list[str] = []
    began_s = server.cpu_s()
    for subject in chosen:
        outcome = await examine(server, subject)
        if not outcome.findings:
            missed += subject.visible
            hidden += not subject.visible
            say(f"{'missed' if subject.visible else 'hidden'}: {subject.id}")
            continue
        if not subject.visible:
            say(f"shown though counted as hidden: {subject.id}")
        latest = max(latest, outcome.first_s)
        if outcome.first_s > FIRST_WITHIN_S:
            slow.append(f"{subject.id} after {outcome.first_s:.1f} s")
        for finding in outcome.findings:
            for name in most:
                most[name] = max(most[name], getattr(finding.witness, name, 0))
            if too_large(finding.witness):
                large += 1
                say(f"large: {subject.id}: {finding.check} {finding.message}")
                say(finding.witness.sql if finding.witness else "no witness")
    for line in slow:
        say(f"late: {line}")
    say(
        f"{len(chosen)} faulty schemas, {missed} missed, {hidden} hidden; latest first"
        f" finding after {latest:.1f} s; largest witness {most}, {large} too large;"
        f" {server.cpu_s() - began_s:.0f} s of CPU"
    )
    return not (missed or slow or large)


async def _sound(count: int, words: Sequence[str], server: Server) -> bool:
    chosen = [s for s in sound() if not words or any(w in s.id for w in words)]
    alarms, decisions = 0, 0
    began_s = server.cpu_s()
    for number, subject in enumerate(itertools.islice(itertools.cycle(chosen), count)):
        outcome = await examine(server, subject, seed=number + 1)
        decisions += outcome.summary.decisions
        if not outcome.silent:
            alarms += 1
            told = [f"{f.check}: {f.message} ({f.note})" for f in outcome.findings]
            say(f"alarm: {subject.id}, seed {number + 1}")
            for line in (*told, *outcome.undecided):
                say(f"  {line}")
    say(
        f"{count} checks of {len(chosen)} sound schemas, {decisions:,} decisions,"
        f" {alarms} alarms, {server.cpu_s() - began_s:.0f} s of CPU"
    )
    return not alarms


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark."""
    if arguments[:1] == ["--sound"]:
        return run_on_server(partial(_sound, int(arguments[1]), arguments[2:]))
    return run_on_server(partial(_faults, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
