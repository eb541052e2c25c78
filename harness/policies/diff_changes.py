"""Decisions that differ between two versions, grouped so that each is told once.

A :class:`Change` is one decision of one persona; a :class:`ChangeGroup` is all of those
with the same object, command, direction, class of persona and scope.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.policies.cases import Case
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import Answer

__all__ = [
    "EFFECT",
    "NEW",
    "SAYS",
    "SETTINGS_SCOPE",
    "Change",
    "ChangeBundle",
    "ChangeGroup",
    "Direction",
    "bundled",
    "direction_of",
    "group_changes",
    "is_fault",
    "persona_class",
    "scope_of",
]

Direction = Literal["widened", "narrowed", "error"]
SETTINGS_SCOPE = "settings"
MAX_DETAILS = 5
NEW = "new"
EFFECT = " effect"
SAYS: Mapping[str, str] = {
    "widened": "refused by BASE, done by HEAD",
    "narrowed": "done by BASE, refused by HEAD",
    "error": "fails in HEAD only",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One decision that differs; ``case`` holds where it is allowed (or raises).

    ``told`` says it in words of its own, if the usual ones do not fit.
    """

    object: str
    command: str
    direction: Direction
    who: str
    scope: str
    subject: str = ""
    case: Case | None = None
    columns: tuple[str, ...] = ()
    detail: str = ""
    told: str = ""
    hint: str = ""

    @property
    def is_new(self) -> bool:
        """Whether it is about something that only HEAD has."""
        return self.command == NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeGroup:
    """Changes that are one, which a reviewed file accepts as one."""

    object: str
    command: str
    direction: Direction
    who: str
    scope: str
    changes: tuple[Change, ...] = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What a reviewed file names a change by."""
        return (self.object, self.command, self.direction, self.who, self.scope)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns concerned; empty when whole rows are."""
        named = [change.columns for change in self.changes]
        if not all(named):
            return ()
        return tuple(dict.fromkeys(column for group in named for column in group))


@dataclass(frozen=True, slots=True)
class ChangeBundle:
    """Groups that one sentence tells: the same object, command and direction."""

    groups: tuple[ChangeGroup, ...]

    @property
    def first(self) -> ChangeGroup:
        """Return the group that stands for the others."""
        return self.groups[0]

    @property
    def clearest(self) -> Change:
        """Return the change to show."""
        return clearest_of(change for g in self.groups for change in g.changes)

    @property
    def message(self) -> str:
        """Return who may now, or no longer, do what to which rows."""
        group = self.first
        if self.clearest.told:
            return f"new: {self.clearest.told}"
        callers = _listed([g.who for g in self.groups])
        what = self._what()
        if group.direction == "error":
            return f"{what} fails now for {callers}: {self.clearest.detail}"
        if group.command.endswith(EFFECT):
            return f"{what} stores something else now, done by {callers}"
        verb = "may now" if group.direction == "widened" else "may no longer"
        return f"{callers} {verb} {what}"

    def _what(self) -> str:
        """Return the command, the rows and columns it is about, and the object."""
        command = self.first.command.removesuffix(EFFECT)
        named = [g.columns for g in self.groups]
        columns = list(dict.fromkeys(c for group in named for c in group))
        listed = f" ({', '.join(columns)})" if columns and all(named) else ""
        scopes = [SCOPES[g.scope] for g in self.groups if SCOPES[g.scope]]
        objects = _listed([g.object for g in self.groups])
        if not scopes:
            return f"{command}{listed} {objects}"
        if command == "CALL":
            given = _listed([ARGUMENTS.get(g.scope, "any") for g in self.groups])
            return f"CALL {objects} with {given} arguments"
        link = PREPOSITIONS.get(command.partition(" ")[0], "of")
        return f"{command}{listed} {_listed(scopes)} {link} {objects}"

    @property
    def note(self) -> str:
        """Return how much is behind it, by caller and scope."""
        told = [
            f"{g.who}, {g.scope}: {len({c.subject for c in g.changes})} decisions"
            for g in self.groups
            if g.scope != SETTINGS_SCOPE
        ]
        details = [c.detail for g in self.groups for c in g.changes if c.detail]
        return "; ".join([*told, *list(dict.fromkeys(details))[:MAX_DETAILS]])


def bundled(groups: Iterable[ChangeGroup]) -> list[ChangeBundle]:
    """Return groups of the same object, command and direction together.

    A setting that changed alike for several objects is told once.
    """
    groups = list(groups)
    callers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in groups:
        callers[group.direction, group.object, group.command].append(group.who)
    found: dict[tuple[object, ...], list[ChangeGroup]] = defaultdict(list)
    for group in groups:
        about: object = group.object
        if group.scope == SETTINGS_SCOPE and group.command != NEW:
            about = tuple(callers[group.direction, group.object, group.command])
        found[group.direction, about, group.command].append(group)
    return [ChangeBundle(tuple(members)) for members in found.values()]


def clearest_of(changes: Iterable[Change]) -> Change:
    """Return the change about whole rows with the fewest of them in its case."""
    return min(
        changes,
        key=lambda c: (
            c.case is None,
            bool(c.columns),
            len(c.case.rows) if c.case else 0,
        ),
    )


def _listed(words: Iterable[str]) -> str:
    unique = list(dict.fromkeys(words))
    if len(unique) == 1:
        return unique[0]
    return f"{', '.join(unique[:-1])} and {unique[-1]}"


SCOPES = {
    "own": "own rows",
    "team": "rows of others in the same team",
    "other": "rows of others",
    "shared": "rows that belong to nobody",
    "linking": "rows that link two teams",
    "any": "",
    SETTINGS_SCOPE: "",
}


PREPOSITIONS = {"SELECT": "from", "INSERT": "into", "DELETE": "from", "UPDATE": "of"}
ARGUMENTS = {"own": "own", "other": "others'"}


def group_changes(changes: Iterable[Change]) -> list[ChangeGroup]:
    """Return the groups, widened ones first, in a stable order."""
    found: dict[tuple[str, ...], list[Change]] = defaultdict(list)
    for change in changes:
        key = (change.direction, change.object, change.command)
        found[(*key, change.who, change.scope)].append(change)
    order = {"widened": 0, "error": 1, "narrowed": 2}
    groups = [
        ChangeGroup(
            object=members[0].object,
            command=members[0].command,
            direction=members[0].direction,
            who=members[0].who,
            scope=members[0].scope,
            changes=tuple(members),
        )
        for members in found.values()
    ]
    return sorted(groups, key=lambda g: (order[g.direction], g.key))


def direction_of(base: Answer, head: Answer) -> Direction | None:
    """Compare what two versions said to one statement; None when it is the same.

    A constraint that refuses comes after the policies; a RAISE is a refusal.
    """
    if base.admitted == head.admitted:
        if not head.admitted and is_fault(head) and not is_fault(base):
            return "error"
        return None
    if head.admitted:
        return "widened"
    return "error" if is_fault(head) else "narrowed"


def is_fault(answer: Answer) -> bool:
    """Say whether a statement failed for another reason than being refused."""
    refused = answer.denied or answer.raised_on_purpose or answer.admitted
    return not refused and not answer.timed_out


def persona_class(persona: Persona) -> str:
    """Return the kind of caller that a persona stands for."""
    if persona.kind in ("anon", "service"):
        return persona.role
    if persona.user is None:
        return "a token without sub"
    if persona.user.power:
        return persona.user.power
    if persona.user.anonymous:
        return "anonymous sign-in"
    return "authenticated"


def scope_of(persona: Persona, row: StoredRow) -> str:
    """Return whose row it is, as seen by ``persona``."""
    if persona.sub and persona.sub in row.users:
        return "own"
    if row.clan is None:
        return "linking"
    if not row.clan:
        return "shared"
    return "team" if row.clan == persona.clan else "other"
