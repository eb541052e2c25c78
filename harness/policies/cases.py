"""A reproducible case: rows, statements by personas, and what must not happen.

A case is what a property hands to the shrinker and what a witness is printed from.  Its
expectation is the *wrong* outcome: it holds when the fault is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.db.catalog import Name
from harness.db.sessions import claim_settings
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, insert_statement
from harness.policies.probing import Answer
from harness.policies.values import literal

__all__ = [
    "Case",
    "Expectation",
    "Severity",
    "Step",
    "Violation",
    "becoming",
    "commands_of",
    "json_inside",
]

Severity = Literal["critical", "high", "medium", "low", "note"]
Action = Literal["select", "insert", "update", "delete", "call", "sql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One statement, with its parts kept for the notations other than SQL.

    ``filters`` are equalities; ``values`` those of an INSERT, an UPDATE's SET or a
    call's arguments, as text.  ``by`` is an accomplice of the case's persona.
    """

    sql: str
    action: Action = "sql"
    target: Name | None = None
    values: Mapping[str, str | None] = field(default_factory=dict)
    filters: Mapping[str, str | None] = field(default_factory=dict)
    by: Persona | None = None

    def without(self, name: str) -> Step:
        """Return an INSERT that leaves a column out."""
        assert self.target is not None
        values = {k: v for k, v in self.values.items() if k != name}
        return replace(self, sql=insert_statement(self.target, values), values=values)

    def renamed(self, gone: str, kept: str) -> Step:
        """Return the step with another user's id in place of one."""
        return replace(
            self,
            sql=self.sql.replace(gone, kept),
            values={k: kept if v == gone else v for k, v in self.values.items()},
            filters={k: kept if v == gone else v for k, v in self.filters.items()},
        )


def commands_of(steps: Iterable[Step], persona: Persona) -> tuple[str, ...]:
    """Return the statements of ``steps``, those between that change who acts."""
    commands: list[str] = []
    acting = persona
    for step in steps:
        if (step.by or persona) != acting:
            acting = step.by or persona
            commands.append(becoming(acting))
        commands.append(step.sql)
    return tuple(commands)


def becoming(persona: Persona) -> str:
    """Return the statement after which another user of the same role acts."""
    settings = claim_settings(persona.role, persona.claims)
    told = [
        f"set_config({literal(name)}, {literal(value)}, true)"
        for name, value in settings.items()
        if name != "role"
    ]
    return f"select {', '.join(told)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The wrong outcome of a case.

    ``affects``: the last statement affects at least one row; ``spares``: it affects
    none, or is refused; ``succeeds``: nothing raises; ``raises``: the given SQLSTATE;
    ``returns``: the last statement's result contains ``text``;
    ``observed``: the superuser's ``query`` is true afterwards.
    """

    kind: Literal["affects", "spares", "succeeds", "raises", "returns", "observed"]
    text: str = ""
    query: str = ""
    says: str = ""

    def holds(self, answer: Answer) -> bool:
        """Say whether ``answer`` shows the fault."""
        if self.kind == "raises":
            return answer.sqlstate == self.text
        if self.kind == "spares":
            return answer.denied or (answer.ok and not answer.counts[-1])
        if not answer.ok:
            return False
        if self.kind == "affects":
            return bool(answer.counts) and answer.counts[-1] > 0
        if self.kind == "returns":
            return json_inside(self.text) in json.dumps(
                answer.fetched, ensure_ascii=False
            )
        if self.kind == "observed":
            return answer.seen is True
        return True


def json_inside(text: str) -> str:
    """Return ``text`` as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Statements of one persona over rows of a world, and the wrong outcome.

    ``rows`` are those the case is about; whatever else is needed is found by the
    shrinker.  ``repairs`` is DDL that stands in for something missing, so that a fault
    behind another fault shows.  ``settings`` hold for the statements.  A ``dependent``
    case shows its fault only if the last step fails to without each one before it.
    """

    persona: Persona
    steps: tuple[Step, ...]
    expectation: Expectation
    rows: tuple[StoredRow, ...] = ()
    repairs: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    dependent: bool = False

    @property
    def accomplices(self) -> list[Persona]:
        """Who acts besides the persona."""
        return [step.by for step in self.steps if step.by is not None]

    def renamed(self, gone: str, kept: str) -> Case:
        """Return the case with another user's id in place of one."""
        told = self.expectation
        return replace(
            self,
            steps=tuple(step.renamed(gone, kept) for step in self.steps),
            expectation=replace(
                told,
                text=told.text.replace(gone, kept),
                query=told.query.replace(gone, kept),
            ),
        )

    def without_one(self) -> Iterator[Case]:
        """Yield the case without each of the steps before the last."""
        for index in range(len(self.steps) - 1):
            steps = (*self.steps[:index], *self.steps[index + 1 :])
            yield replace(self, steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A property that does not hold, with the case that shows it.

    Violations with the same ``check``, ``where`` and ``fault`` are the same fault;
    ``rank`` orders the cases of one fault, the clearest first.
    """

    check: str
    where: str
    fault: str
    message: str
    case: Case
    severity: Severity = "high"
    note: str = ""
    hint: str = ""
    rank: int = 0
