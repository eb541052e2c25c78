"""What SQL expressions compare: the terms that policies and bodies boil down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.db.catalog import Name

__all__ = [
    "CLOCK",
    "OPAQUE",
    "PASSING",
    "UID",
    "Claim",
    "Clock",
    "Col",
    "Const",
    "Depth",
    "Folder",
    "Joined",
    "Opaque",
    "Param",
    "Term",
    "Topic",
    "Uid",
    "auth_term",
    "each",
    "either",
    "setting_term",
    "stepped",
]


@dataclass(frozen=True, slots=True)
class Col:
    """A column, or a path inside a JSON column."""

    table: Name
    column: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Const:
    """One or several constants, as text."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Uid:
    """The caller's id: ``auth.uid()`` or the ``sub`` claim."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the caller's token, by path."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """Folder ``index`` (from 1) of an object's name, or of another path column."""

    table: Name
    column: str
    index: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How many folders a path has, plus ``extra`` (1 when the file counts too)."""

    table: Name
    column: str
    extra: int


@dataclass(frozen=True, slots=True)
class Topic:
    """Part ``index`` (from 1) of ``realtime.topic()``; 0 is the whole topic."""

    index: int = 0
    separator: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """Text put together with ``||`` from terms."""

    parts: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Clock:
    """The present time, possibly shifted."""


@dataclass(frozen=True, slots=True)
class Either:
    """The first of several claims that the token has."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """Anything else."""


Term = (
    Col
    | Const
    | Uid
    | Claim
    | Folder
    | Depth
    | Joined
    | Topic
    | Param
    | Clock
    | Either
    | Opaque
)

UID, CLOCK, OPAQUE = Uid(), Clock(), Opaque()
# Functions whose result is what their first argument is.
PASSING = frozenset(
    ("lower", "upper", "trim", "btrim", "any", "nullif", "array_agg", "unnest")
)


def either(terms: Sequence[Term]) -> Term:
    """Return what COALESCE stands for: its first argument, or one of several claims."""
    claims = tuple(term for term in terms if isinstance(term, Claim))
    return Either(claims) if len(claims) > 1 else terms[0]


def each(term: Term) -> tuple[Term, ...]:
    """Return the terms that ``term`` may stand for."""
    return term.claims if isinstance(term, Either) else (term,)


def auth_term(name: str) -> Term:
    """Return what a function of the schema ``auth`` stands for."""
    known: Mapping[str, Term] = {
        "uid": UID,
        "jwt": Claim(()),
        "role": Claim(("role",)),
        "email": Claim(("email",)),
    }
    return known.get(name, OPAQUE)


def setting_term(setting: Term) -> Term:
    """Return what a setting of a request stands for."""
    if not isinstance(setting, Const):
        return OPAQUE
    name = setting.values[0]
    if name == "request.jwt.claim.sub":
        return UID
    if name == "request.jwt.claims":
        return Claim(())
    if name.startswith("request.jwt.claim."):
        return Claim((name.removeprefix("request.jwt.claim."),))
    return OPAQUE


def stepped(base: Term, steps: tuple[str, ...]) -> Term:
    """Return what stands below ``base`` in a document."""
    if isinstance(base, Either):
        claims = tuple(Claim((*c.path, *steps)) for c in base.claims)
        return Either(claims)
    if isinstance(base, Claim):
        path = (*base.path, *steps)
        return UID if path == ("sub",) else Claim(path)
    if isinstance(base, Col):
        return Col(base.table, base.column, (*base.path, *steps))
    return OPAQUE
