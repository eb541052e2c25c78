"""No sequence of commands opens what is another's.

Each command may be harmless alone: a request stored, its state changed, an invitation
accepted, a ban lifted.  All commands are the persona's own, so nobody else has agreed,
and what comes within reach by them must not be another's.  Joining what anybody may
join, in the state that the schema gives a newcomer, is no fault, whatever it opens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from harness.db.catalog import Function, Name, Relation
from harness.policies.bars import lifted_bars
from harness.policies.calls import call_about, callable_functions
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.comparisons import read_body
from harness.policies.links import Link, links_of
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer
from harness.policies.properties_rows import rank
from harness.policies.public_marks import bears, marks_of
from harness.policies.reaching import Reached, Reaching, hanging_on
from harness.policies.trial import Judgement, Trial
from harness.policies.witness import describe

__all__ = ["sequences_open_nothing_of_others"]

ACTORS = ("bob",)
MAX_PAIRS = 24
VERBS = {"SELECT": "read", "UPDATE": "change", "DELETE": "delete"}


# A link, the state it was inserted with, the INSERT, and what it opened.
Planted = tuple[Link, tuple[str, str] | None, tuple[Step, ...], Reached]


@dataclass
class _Alone:
    """What links open by themselves, as the schema fills them in."""

    seen: dict[int, Reached] = field(default_factory=dict)
    written: dict[int, Reached] = field(default_factory=dict)

    def of(self, link: Link) -> Reached:
        """Return what is seen after ``link`` alone."""
        return self.seen.get(id(link), frozenset())


@dataclass(frozen=True, slots=True)
class Opening:
    """Commands and a row of another's that they bring within reach."""

    steps: tuple[Step, ...]
    reached: tuple[str, Name, str]
    needs: tuple[StoredRow, ...]


async def sequences_open_nothing_of_others(trial: Trial) -> Judgement:
    """Nobody reaches what is another's by commands that depend on each other."""
    judgement = Judgement()
    personas = [p for p in trial.personas if p.kind == "plain" and p.sub]
    levers = _levers(trial)
    for persona in personas:
        if persona.name in ACTORS:
            mates = [p for p in personas if p.clan == persona.clan and p != persona]
            left = list(levers)
            # What nobody may do for themselves, a mate may do for them.
            for reader in (persona, *mates[:1]):
                search = _Search(trial, reader, persona)
                async for opening in search.openings(left):
                    judgement.violations.append(_opened(search, opening))
                    left = [r for r in left if r.name != opening.steps[0].target]
        async for violation in lifted_bars(trial, persona, levers):
            judgement.violations.append(violation)
    return judgement


def _levers(trial: Trial) -> list[Relation]:
    """Return the tables whose rows decide what somebody may do elsewhere."""
    read = set(trial.mined.helper_tables)
    for function in callable_functions(trial.catalog, "authenticated"):
        read |= read_body(function, trial.catalog).reads
    return [relation for relation in trial.tables() if relation.name in read]


@dataclass
class _Search:
    """Looks for sequences after which ``persona`` reaches more; ``author`` begins."""

    trial: Trial
    persona: Persona
    author: Persona
    reaching: Reaching = field(init=False)
    _before: dict[tuple[Name, ...], Reached] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reaching = Reaching(self.trial, self.persona)

    async def openings(self, levers: Sequence[Relation]) -> AsyncIterator[Opening]:
        """Yield the first sequence found through each table."""
        planted: list[Planted] = []
        refused: list[Link] = []
        for relation in levers:
            tables = self.reaching.tables(hanging_on(self.trial.mined, [relation.name]))
            tried = [
                (link, state)
                for link in links_of(self.trial, self.author, relation, self.persona)
                for state in (None, *link.states)
            ]
            sequences = [(link.insert(state),) for link, state in tried]
            answers, seen = await self._after(sequences, tables)
            results = zip(tried, sequences, answers, seen, strict=True)
            alone = _Alone()
            inserted: list[Planted] = []
            for (link, state), steps, answer, found in results:
                if state is None:
                    alone.seen[id(link)] = found
                    refused += [link] if answer.denied else []
                if answer.ok:
                    inserted.append((link, state, steps, found))
            planted += [item for item in inserted if item[0].hidden]
            opening = await self._by_state(inserted, alone, tables)
            if opening is not None:
                yield opening
        for relation in levers:
            here = [item for item in planted if item[0].relation == relation]
            opening = await self._by_call(here) or await self._by_pair(here, refused)
            if opening is not None:
                yield opening

    async def _after(
        self, sequences: Sequence[tuple[Step, ...]], tables: Sequence[Relation]
    ) -> tuple[list[Answer], list[Reached]]:
        """Return what happens, and what is newly seen, after each sequence."""
        key = tuple(relation.name for relation in tables)
        asked = [self.reaching.look(steps, tables) for steps in sequences]
        if asked and key not in self._before:
            asked.append(self.reaching.look((), tables))
        answers = await self.trial.prober.attempt_all(asked)
        if len(answers) > len(sequences):
            self._before[key] = self.reaching.seen(answers.pop(), tables)
        before = self._before.get(key, frozenset())
        return answers, [self.reaching.seen(a, tables) - before for a in answers]

    def _is_welcomed(self, link: Link) -> bool:
        """Say whether the row names what its INSERT policies let anybody in to."""
        marks = tuple(
            mark
            for policy in link.relation.policies
            if policy.applies_to("INSERT", self.persona.role)
            for mark in marks_of(
                self.trial.mined.policy_readings[policy.table, policy.name]
            )
            if mark.column.table != link.relation.name
        )
        catalog, population = self.trial.catalog, self.trial.population
        return bears(link.row, marks, catalog, population)

    async def _by_state(
        self, inserted: Sequence[Planted], alone: _Alone, tables: list[Relation]
    ) -> Opening | None:
        """Find a state that opens more once the persona gives it to its own link.

        Either at once, or by a second command.
        """
        for link, state, steps, found in inserted:
            # What anybody may join opens what it opens; what is hidden is not joined.
            joined = frozenset() if state is None and link.hidden else alone.of(link)
            told = self._is_told(link, state) or self._is_welcomed(link)
            if found - joined and not told:
                return self._opening(steps, found - joined, link)
        plain = [link for link, state, _, _ in inserted if state is None]
        flips = [(link, state) for link in plain for state in link.states]
        sequences = [(link.insert(), link.flip(state)) for link, state in flips]
        answers, seen = await self._after(sequences, tables)
        worked = [(link, steps) for link, state, steps, _ in inserted if state]
        for (link, _), steps, answer, found in zip(
            flips, sequences, answers, seen, strict=True
        ):
            if answer.ok and found - alone.of(link):
                return self._opening(steps, found - alone.of(link), link)
            worked += [(link, steps)] if answer.ok else []
        return await self._by_writing(worked, alone, tables)

    def _is_told(self, link: Link, state: tuple[str, str] | None) -> bool:
        """Say whether it is a finding already that such a row can be stored at all."""
        return state is None and any(
            (relation, command) == (str(link.relation.name), "INSERT")
            for relation, command, _ in self.trial.told
        )

    async def _by_writing(
        self,
        worked: Sequence[tuple[Link, tuple[Step, ...]]],
        alone: _Alone,
        tables: list[Relation],
    ) -> Opening | None:
        """Find a state that lets rows be changed which were seen before."""
        for link, steps in worked[:MAX_PAIRS]:
            written = await self.reaching.written(steps, tables)
            if written and id(link) not in alone.written:
                plain = await self.reaching.written((link.insert(),), tables)
                alone.written[id(link)] = plain
            if written - alone.written.get(id(link), frozenset()):
                gained = written - alone.written[id(link)]
                return self._opening(steps, gained, link)
        return None

    async def _by_call(self, planted: Sequence[Planted]) -> Opening | None:
        """Find a function that makes something of a link that is hidden."""
        for function in self._functions(planted):
            body = read_body(function, self.trial.catalog)
            opened = {*body.writes, *hanging_on(self.trial.mined, body.writes)}
            tables = self.reaching.tables(opened)
            calls = [
                (link, steps, call.step)
                for link, _, steps, _ in planted
                if (call := call_about(self.trial, self.persona, function, [link.row]))
            ]
            sequences = [(*steps, step) for _, steps, step in calls]
            _, seen = await self._after(sequences, tables)
            for (link, steps, step), found in zip(calls, seen, strict=True):
                if found:
                    _, alone = await self._after([(step,), steps], tables)
                    gained = found - alone[0] - alone[1]
                    if gained:
                        return self._opening((*steps, step), gained, link)
        return None

    def _functions(self, planted: Sequence[Planted]) -> Iterator[Function]:
        tables = {link.relation.name for link, _, _, _ in planted}
        for function in callable_functions(self.trial.catalog, self.persona.role):
            body = read_body(function, self.trial.catalog)
            if body.reads & tables and body.writes:
                yield function

    async def _by_pair(
        self, planted: Sequence[Planted], refused: Sequence[Link]
    ) -> Opening | None:
        """Find an INSERT that is refused, but not after another one."""
        above = {link.relation.name for link, _, _, _ in planted}
        for later in refused:
            if later.relation.name not in hanging_on(self.trial.mined, above):
                continue
            hanging = hanging_on(self.trial.mined, [later.relation.name])
            tables = self.reaching.tables(hanging)
            earlier = [item for item in planted if item[0].meets(later)][:MAX_PAIRS]
            sequences = [(*steps, later.insert()) for _, _, steps, _ in earlier]
            _, seen = await self._after(sequences, tables)
            for (link, _, _, alone), sequence, found in zip(
                earlier, sequences, seen, strict=True
            ):
                if found - alone:
                    return self._opening(sequence, found - alone, link, later)
        return None

    def _opening(
        self, steps: tuple[Step, ...], gained: Reached, *links: Link
    ) -> Opening:
        rows = {(r.table, r.at): r for k in links for r in k.rows(self.trial)}
        named = {user for row in rows.values() for user in row.users}

        def size(reached: tuple[str, Name, str]) -> tuple[int, str]:
            users = self.reaching.row(*reached[1:]).users
            return len(users - named), str(reached)

        return Opening(steps, min(gained, key=size), tuple(rows.values()))


def _opened(search: _Search, opening: Opening) -> Violation:
    trial, persona = search.trial, search.persona
    command, table, key = opening.reached
    relation = trial.catalog.relations[table]
    row = search.reaching.row(table, key)
    last = search.reaching.change(relation, command)
    if command == "SELECT" or last is None:
        last = trial.row_step("select", relation, row)
    first = opening.steps[0]
    told = ", ".join(map(_said, opening.steps))
    if first.by is not None:
        told = f"let {describe(first.by)} {told}"
    return Violation(
        check="sequences_open_nothing_of_others",
        where=str(first.target),
        fault=" ".join(f"{s.action} {s.target}" for s in opening.steps),
        message=(
            f"{describe(persona)} can {told}, and then {VERBS[command]} rows of {table}"
            " that belong to others"
        ),
        case=Case(
            persona=persona,
            steps=(*opening.steps, last),
            expectation=Expectation(kind="affects", says="must affect no row"),
            rows=(*opening.needs, row),
            dependent=True,
        ),
        severity="critical",
        note="nobody of those whose rows they are has agreed to it",
        hint=f"let only the other side write what grants access in {first.target}",
        rank=rank(persona),
    )


def _said(step: Step) -> str:
    """Return what a step does, in words."""
    if step.action == "insert":
        return f"add a row to {step.target}"
    if step.action == "call":
        return f"call {step.target}"
    if step.action == "delete":
        return f"delete a row of {step.target}"
    return f"change {', '.join(step.values)} of {step.target}"
