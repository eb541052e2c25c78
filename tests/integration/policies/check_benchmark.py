"""The benchmark of ``harness check``: what is found, how soon, how small it is shown.

``python -m tests.integration.policies.check_benchmark [PART OF A NAME]...`` checks
every seeded fault and the drafts of the five systems on a throw-away server and prints
what was missed, how late the first finding came, what has no small witness, and the
CPU time.
With ``--sound N`` it checks what is sound N times instead, each time with another seed,
and counts alarms.  With ``--tables N`` it checks a sound schema of N tables.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.db.schema_files import Schema, read_schema
from harness.events import Event, Finding, Undecided
from harness.policies.check import Budget, CheckSummary, check_schema
from harness.policies.rules import RuleSet, read_rules
from harness.policies.scratch import ScratchFactory, cloned
from tests.integration.policies.benchmark import STYLES, faults, refactors, schema_sql
from tests.integration.policies.benchmark_server import ROOT, Server, run_on_server, say
from tests.integration.policies.checking import changed_by, is_finding, is_small
from tests.integration.policies.many_tables import many_tables_sql

SYSTEMS = ("climber", "audiobook", "storymimi", "keepintouch", "wedsync")
FIRST_WITHIN_S = 5.0
TELL_EVERY = 100
# A machine that is busy otherwise shall not make anything undecided.
PATIENT = Budget(per_check_s=300, statement_timeout_ms=60_000)
SEQUENCES = "sequences_open_nothing_of_others"


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
    """What a check told: findings, what was undecided, how soon the first came."""

    findings: tuple[Finding, ...]
    undecided: tuple[str, ...]
    first_s: float
    first_cpu_s: float
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
    began_s = server.cpu_s()
    told_s: list[float] = []

    def emit(event: Event) -> None:
        events.append(event)
        if not told_s and is_finding(event):
            told_s.append(server.cpu_s() - began_s)

    summary = await check_schema(
        database,
        rules=subject.rules,
        seed=seed,
        budget=PATIENT,
        emit=emit,
        scratch=scratch,
    )
    await server.drop(database)
    findings = [e for e in events if isinstance(e, Finding) and is_finding(e)]
    undecided = [e for e in events if isinstance(e, Undecided)]
    return Outcome(
        tuple(findings),
        tuple(f"{e.check} {e.where}: {e.reason}" for e in undecided),
        min((f.at for f in findings), default=0.0),
        sum(told_s),
        summary,
    )


async def _faults(words: Sequence[str], server: Server) -> bool:
    chosen = [s for s in faulty() if not words or any(w in s.id for w in words)]
    missed, hidden, findings, large = 0, 0, 0, 0
    first = [0.0, 0.0]
    unclear: list[str] = []
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
        first = list(map(max, first, (outcome.first_s, outcome.first_cpu_s)))
        large += sum(not _is_small(finding) for finding in outcome.findings)
        findings += len(outcome.findings)
        if not any(_is_small(finding) for finding in outcome.findings):
            unclear.append(subject.id)
            clearest = min(outcome.findings, key=_size)
            say(f"large: {subject.id}: {clearest.message} {_size(clearest)}")
    say(
        f"{len(chosen)} faulty schemas, {missed} missed, {hidden} hidden;"
        f" {len(unclear)} without a witness of at most 3 rows, 2 identities and"
        f" 2 statements (3 for a sequence), {large} of {findings} findings;"
        f" the first finding after at most {first[0]:.1f} s, {first[1]:.1f} s of CPU;"
        f" {server.cpu_s() - began_s:.0f} s of CPU in all"
    )
    return not (missed or unclear or first[1] > FIRST_WITHIN_S)


def _is_small(finding: Finding) -> bool:
    statements = 3 if finding.check == SEQUENCES else 2
    return is_small(finding.witness, statements=statements)


def _size(finding: Finding) -> tuple[int, int, int]:
    witness = finding.witness
    if witness is None:
        return sys.maxsize, 0, 0
    return witness.rows, witness.identities, witness.statements


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
        if (number + 1) % TELL_EVERY == 0:
            say(f"{number + 1} checks, {alarms} alarms")
    say(
        f"{count} checks of {len(chosen)} sound schemas, {decisions:,} decisions,"
        f" {alarms} alarms, {server.cpu_s() - began_s:.0f} s of CPU"
    )
    return not alarms


async def _tables(count: int, server: Server) -> bool:
    schema = many_tables_sql(count)
    began_s = server.cpu_s()
    outcome = await examine(server, Subject(f"{count} tables", schema))
    for finding in outcome.findings:
        say(f"alarm: {finding.message}")
    for line in outcome.undecided:
        say(f"undecided: {line}")
    say(
        f"{count} tables: {outcome.summary.decisions:,} decisions in"
        f" {outcome.summary.took_s:.1f} s, {server.cpu_s() - began_s:.1f} s of CPU,"
        f" {len(outcome.findings)} findings, {len(outcome.undecided)} undecided"
    )
    return outcome.silent


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark."""
    if arguments[:1] == ["--sound"]:
        return run_on_server(partial(_sound, int(arguments[1]), arguments[2:]))
    if arguments[:1] == ["--tables"]:
        return run_on_server(partial(_tables, int(arguments[1])))
    return run_on_server(partial(_faults, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
