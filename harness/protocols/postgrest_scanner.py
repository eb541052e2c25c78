"""A scanner over one query parameter: position, tokens, and errors that point at both.

The tokens that several parameters share (field names, quoted values, JSON paths) are
read here.  Errors carry the 1-based column, as PostgREST's do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.protocols.postgrest_errors import RestError, query_unreadable

__all__ = ["AFTER_NAME", "Field", "JsonStep", "Scanner"]

# How a name may go on; a term may end after it.
AFTER_NAME = ("letter", "digit", '"-"', '"->>"', '"->"')

MAX_DEPTH = 64  # nesting of select and logic trees; deeper ones are refused

_NAME_PART = r"[\w $]+"
_NAME = re.compile(rf"{_NAME_PART}(?:-(?!>){_NAME_PART})*")
_QUOTED = re.compile(r'"((?:[^\\"]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BLANK = re.compile(r"[ \t]*")
_IDENTIFIER = re.compile(_NAME_PART)
_ARROW = re.compile(r"->>?")
_DIGITS = re.compile(r"[0-9]+")
_INDEX = re.compile(r"-?[0-9]+(?=->|::|[.,)]|\Z)")
_KEY_PART = r"[^(\-:.,>)]+"
_KEY = re.compile(rf"{_KEY_PART}(?:-(?!>){_KEY_PART})*")


class JsonStep(NamedTuple):
    """One arrow of a JSON path: ``arrow`` is ``->`` or ``->>``."""

    arrow: str
    key: str
    is_index: bool


class Field(NamedTuple):
    """A column, or a path into its JSON value."""

    name: str
    path: tuple[JsonStep, ...] = ()


class Scanner:
    """Reads ``text`` from left to right; ``subject`` names it in errors.

    ``sent`` is what the client wrote of it, if that is not all.
    """

    __slots__ = ("pos", "sent", "subject", "text")

    def __init__(self, text: str, subject: str, sent: str | None = None) -> None:
        self.text = text
        self.subject = subject
        self.sent = text if sent is None else sent
        self.pos = 0

    def error(
        self, *expected: str, quote: str = '"', instead_of: str = ""
    ) -> RestError:
        """Return the error for what stands at the current position.

        PostgREST puts it in single quotes where a term might have ended.  Where the
        word ``instead_of`` was expected, it names the first letter that differs.
        """
        at = self.pos
        for letter in instead_of:
            if self.text[at : at + 1] != letter:
                break
            at += 1
        found = self.text[at : at + 1]
        unexpected = f"{quote}{found}{quote}" if found else "end of input"
        message = f'"failed to parse {self.subject} ({self.sent})" (line 1, column '
        return query_unreadable(
            f"{message}{self.pos + 1})",
            f"unexpected {unexpected} expecting {_alternatives(expected)}",
        )

    def at_end(self) -> bool:
        """Tell whether everything is read."""
        return self.pos == len(self.text)

    def end(self, *expected: str) -> None:
        """Raise unless everything is read."""
        if self.pos != len(self.text):
            raise self.error(*expected, "end of input", quote="'")

    def blank(self) -> None:
        """Skip spaces and tabs."""
        match = _BLANK.match(self.text, self.pos)
        if match is not None:
            self.pos = match.end()

    def peek(self, literal: str) -> bool:
        """Tell whether ``literal`` comes next."""
        return self.text.startswith(literal, self.pos)

    def take(self, literal: str) -> bool:
        """Read ``literal`` if it comes next."""
        if self.text.startswith(literal, self.pos):
            self.pos += len(literal)
            return True
        return False

    def expect(self, literal: str) -> None:
        """Read ``literal`` or raise."""
        if not self.take(literal):
            raise self.error(f'"{literal}"', instead_of=literal)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what ``pattern`` matches here, if it does."""
        match = pattern.match(self.text, self.pos)
        if match is not None:
            self.pos = match.end()
        return match

    def quoted(self) -> str | None:
        """Read a double-quoted value with its backslash escapes, if one is here."""
        if not self.peek('"'):
            return None
        match = self.match(_QUOTED)
        if match is None:
            return None
        value = match.group(1)
        return _ESCAPED.sub(r"\1", value) if "\\" in value else value

    def name(self) -> str:
        """Read a field name, quoted or bare."""
        quoted = self.quoted()
        if quoted is not None:
            return quoted
        match = self.match(_NAME)
        if match is None:
            raise self.error("field name (* or [a..z0..9_$])")
        bare = match.group()
        return bare.strip() if "-" not in bare else _strip_parts(bare)

    def identifier(self) -> str:
        """Read letters, digits, ``_``, ``$`` and blanks: a type or language name."""
        match = self.match(_IDENTIFIER)
        if match is None:
            raise self.error("letter", "digit")
        return match.group().strip()

    def json_path(self) -> tuple[JsonStep, ...]:
        """Read the arrows that follow a field name, possibly none."""
        steps: list[JsonStep] = []
        while (arrow := self.match(_ARROW)) is not None:
            steps.append(self._json_step(arrow.group()))
        return tuple(steps)

    def _json_step(self, arrow: str) -> JsonStep:
        index = self.match(_INDEX)
        if index is not None:
            return JsonStep(arrow, index.group(), is_index=True)
        if self.take("-"):
            if self.match(_DIGITS) is None:
                raise self.error("digit")
            raise self.error(
                *("digit", '"->"', '"::"', '"."', '","', "end of input"), quote="'"
            )
        quoted = self.quoted()
        if quoted is not None:
            return JsonStep(arrow, quoted, is_index=False)
        match = self.match(_KEY)
        if match is None:
            raise self.error("any non reserved character different from: .,>()")
        return JsonStep(arrow, _strip_parts(match.group()), is_index=False)

    def field(self) -> Field:
        """Read a field: a name and its JSON path, blanks around it allowed."""
        self.blank()
        name = self.name()
        path = self.json_path() if self.peek("->") else ()
        self.blank()
        return Field(name, path)


def _strip_parts(text: str) -> str:
    return "-".join(part.strip() for part in text.split("-"))


def _alternatives(expected: Sequence[str]) -> str:
    if len(expected) < 2:
        return "".join(expected)
    return f"{', '.join(expected[:-1])} or {expected[-1]}"
