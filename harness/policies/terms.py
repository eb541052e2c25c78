"""What SQL expressions compare: the terms that policies and bodies boil down to."""

from __future__ import annotations

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
class Opaque:
    """Anything else."""


Term = (
    Col | Const | Uid | Claim | Folder | Depth | Joined | Topic | Param | Clock | Opaque
)

UID, CLOCK, OPAQUE = Uid(), Clock(), Opaque()
# Functions whose result is what their first argument is.
PASSING = frozenset(
    ("lower", "upper", "trim", "btrim", "any", "nullif", "array_agg", "unnest")
)
