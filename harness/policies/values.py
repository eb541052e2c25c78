"""Values for columns: by type, by what checks and policies mention, and recognisable.

Every value is the text that PostgreSQL reads (None is NULL).  Free text carries a token
that occurs once in a world, so that a value that turns up somewhere it should not can
be traced to its row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from random import Random
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis import find as find_example
from hypothesis.errors import HypothesisException

from harness.db.catalog import Column, Relation
from harness.policies.comparisons import Col
from harness.policies.mining import Mined

__all__ = ["Values", "literal", "pattern_example"]

INTEGER_TYPES = ("smallint", "integer", "bigint")
NUMBER_TYPES = (*INTEGER_TYPES, "numeric", "real", "double precision", "money")
TEXT_TYPES = ("text", "character varying", "character", "citext", "name")
TIME_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")
PAST, FUTURE = "2020-01-01 00:00:00+00", "2090-01-01 00:00:00+00"
LONG_AGO = "1980-01-01 00:00:00+00"  # the birth of somebody of age
TEXT_SHAPES = (
    "abcdef",
    "a@example.com",
    "https://example.com/a",
    "+14155550100",
    "a-b",
    "ABC",
    "AB",
    "123456",
    "#a1b2c3",
    "en",
    "USD",
    "10:00",
    "a",
    "",
)
SHAPES: dict[str, tuple[str, ...]] = {
    "boolean": ("false", "true"),
    "uuid": (
        "5eed0000-0000-4000-8000-000000000001",
        "5eed0000-0000-4000-8000-000000000002",
    ),
    "jsonb": ("{}", "[]"),
    "json": ("{}", "[]"),
    "bytea": ("\\x00",),
    "date": ("2020-01-01", "2090-01-01", "1980-01-01"),
    "time without time zone": ("09:00", "17:00"),
    "time with time zone": ("09:00+00", "17:00+00"),
    "interval": ("1 hour", "1 day", "0"),
    "inet": ("10.0.0.1",),
    "cidr": ("10.0.0.0/24",),
    "macaddr": ("08:00:2b:01:02:03",),
    "point": ("(1,1)",),
    "box": ("(1,1),(0,0)",),
    "path": ("[(0,0),(1,1)]",),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(0,0),1>",),
    "line": ("{1,1,1}",),
    "lseg": ("[(0,0),(1,1)]",),
    "int4range": ("[1,10)",),
    "int8range": ("[1,10)",),
    "numrange": ("[1,10)",),
    "daterange": ("[2020-01-01,2020-02-01)",),
    "tsrange": ("[2020-01-01,2020-02-01)",),
    "tstzrange": ("[2020-01-01,2020-02-01)",),
    "tsvector": ("a",),
    "tsquery": ("a",),
    "xml": ("<a/>",),
    "bit": ("1",),
    "bit varying": ("1",),
    "money": ("1",),
    "pg_lsn": ("0/1",),
    "ltree": ("a.b",),
    "hstore": ("a=>b",),
}
COUNTED = ("cidr", "date", "inet", "ltree", "macaddr")


def _room(kind: str) -> int:
    """Return what whole numbers of a ``numeric(p, s)`` must stay below."""
    sized = re.search(r"\((\d+),\s*(-?\d+)\)|\((\d+)\)", kind)
    if sized is None:
        return 10**9
    digits = int(sized[3]) if sized[3] else int(sized[1]) - int(sized[2])
    return int(10 ** max(digits, 0))


def _is_factor(relation: Relation, column: Column) -> bool:
    """Say whether a column may be multiplied with others for a generated one."""
    keys = {c for key in relation.unique_keys for c in key.columns}
    keys |= {c for key in relation.foreign_keys for c in key.columns}
    return column.name not in keys and any(c.generated for c in relation.columns)


def literal(value: str | None) -> str:
    """Return ``value`` as an SQL literal of unknown type."""
    if value is None:
        return "null"
    quoted = value.replace("'", "''")
    if "\\" in value:
        return "E'" + quoted.replace("\\", "\\\\") + "'"
    return f"'{quoted}'"


@lru_cache(maxsize=512)
def pattern_example(pattern: str) -> str | None:
    """Return a short string that a POSIX-like regular expression matches, or None."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return None
    try:
        return find_example(
            strategies.from_regex(compiled, fullmatch=True).filter(str.isprintable),
            lambda text: bool(text),
            settings=settings(
                database=None,
                derandomize=True,
                max_examples=50,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except HypothesisException:
        return None


@dataclass
class Values:
    """Draws values for the columns of one world."""

    mined: Mined
    random: Random
    drawn: int = 0

    def uuid(self) -> str:
        """Return a fresh version-4 UUID."""
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def fresh(self, relation: Relation, column: Column) -> str | None:
        """Return a value that no other row has, where the type has room for that."""
        self.drawn += 1
        kind = column.base_type
        if column.labels and not column.is_array:
            return column.labels[0]
        if kind == "uuid":
            return self.uuid()
        if kind in NUMBER_TYPES and _is_factor(relation, column):
            return str(100 + self.drawn % 900)
        if kind in INTEGER_TYPES:
            return str(
                1000 + self.drawn if kind == "smallint" else 700_000 + self.drawn
            )
        if kind in NUMBER_TYPES:
            return str((700_000 + self.drawn) % _room(column.type))
        if kind in TEXT_TYPES:
            return self._text(relation, column)
        if kind.startswith("timestamp"):
            return f"2025-06-01 00:00:00.{self.drawn % 1_000_000:06d}+00"
        if kind in ("json", "jsonb"):
            return f'{{"note": "{self._token(column.name)}"}}'
        if column.is_array:
            return self._array(column)
        if kind.endswith("range"):
            return self._range(kind)
        if kind in COUNTED:
            return self._counted(kind)
        shapes = SHAPES.get(kind)
        return shapes[0] if shapes else None

    def _counted(self, kind: str) -> str:
        """Return a value of a type that text cannot tell apart, one for each draw."""
        high, low = divmod(self.drawn % 65_536, 256)
        if kind == "date":
            return str(date(2020, 1, 1) + timedelta(days=self.drawn % 1500))
        return {
            "ltree": f"n{self.drawn}",
            "inet": f"10.0.{high}.{low}",
            "cidr": f"10.{high}.{low}.0/24",
            "macaddr": f"08:00:2b:01:{high:02x}:{low:02x}",
        }[kind]

    def _range(self, kind: str) -> str:
        """Return a range that overlaps no other one drawn."""
        if kind in ("int4range", "int8range", "numrange"):
            return f"[{self.drawn * 10},{self.drawn * 10 + 5})"
        day = date(2020, 1, 1) + timedelta(days=2 * self.drawn)
        return f"[{day},{day + timedelta(days=1)})"

    def many(self, relation: Relation, column: Column, count: int) -> list[str]:
        """Return different values, in the shapes that patterns and checks may want."""
        found = [self.fresh(relation, column) for _ in range(count)]
        if column.base_type in TEXT_TYPES:
            col = Col(relation.name, column.name)
            for pattern in self.mined.patterns.get(col, []):
                found += [_respelled(pattern_example(pattern), n) for n in range(count)]
        return [value for value in dict.fromkeys(found) if value is not None]

    def _text(self, relation: Relation, column: Column) -> str:
        patterns = self.mined.patterns.get(Col(relation.name, column.name), [])
        name = column.name.lower()
        token = self._token(column.name)
        if "email" in name:
            return f"{token}@example.com"
        if "url" in name or "link" in name:
            return f"https://example.com/{token}"
        if "phone" in name:
            return f"+1415555{self.drawn % 10_000:04d}"
        if patterns and (found := pattern_example(patterns[0])) is not None:
            return found
        limit = column.max_length
        return token if limit is None or len(token) <= limit else token[-limit:]

    def _token(self, name: str) -> str:
        word = re.sub(r"[^a-z]", "", name.lower())[:8] or "text"
        return f"{word}{self.drawn:04d}{self.random.randrange(16**4):04x}"

    def _array(self, column: Column) -> str:
        element = column.base_type.removesuffix("[]")
        if column.labels:
            return f"{{{column.labels[0]}}}"
        if element in TEXT_TYPES:
            return f"{{{self._token(column.name)}}}"
        return "{}"

    def candidates(
        self, relation: Relation, column: Column, extra: Iterable[str] = ()
    ) -> list[str | None]:
        """Return values worth trying against the checks of ``relation``."""
        col = Col(relation.name, column.name)
        mentioned = list(dict.fromkeys([*self.mined.constants.get(col, ()), *extra]))
        found: list[str | None] = [None] if not column.not_null else []
        if column.labels and not column.is_array:
            return [*column.labels, *found]
        kind = column.base_type
        if kind in NUMBER_TYPES:
            room = _room(column.type)
            numbers = [n for n in _numbers(mentioned) if abs(float(n)) < room]
            found = [*numbers, *found]
        elif kind in TEXT_TYPES:
            found = [*self._texts(col, mentioned), *found]
        elif kind.startswith("timestamp"):
            found = [PAST, FUTURE, LONG_AGO, *found]
        elif column.is_array:
            found = [*_arrays(column, mentioned), *found]
        else:
            found = [*SHAPES.get(kind, ()), *found]
        return found

    def _texts(self, col: Col, mentioned: Sequence[str]) -> list[str]:
        examples = [
            example
            for pattern in self.mined.patterns.get(col, [])
            if (example := _like_or_regex(pattern)) is not None
        ]
        lengths = [int(m) for m in mentioned if m.isdigit() and int(m) <= 200]
        sized = ["x" * n for length in lengths for n in (length, length + 1)]
        return list(dict.fromkeys([*mentioned, *examples, *TEXT_SHAPES, *sized]))


def _respelled(example: str | None, number: int) -> str | None:
    """Return ``example`` with its digits, or its last letters, counting ``number``."""
    if example is None:
        return None
    digits = f"{number:0{sum(c.isdigit() for c in example) or 2}d}"
    if any(c.isdigit() for c in example):
        spelled = iter(digits[::-1])
        return "".join(
            next(spelled, c) if c.isdigit() else c for c in reversed(example)
        )[::-1]
    letters = chr(ord("a") + number // 26 % 26) + chr(ord("a") + number % 26)
    return example[:-2] + letters if len(example) > 2 else example + letters


def _like_or_regex(pattern: str) -> str | None:
    if "%" in pattern:
        return pattern.replace("%", "x").replace("_", "y")
    return pattern_example(pattern)


def _numbers(mentioned: Iterable[str]) -> list[str]:
    found = ["1", "0", "10", "100", "50", "5", "1000", "-1", "2000"]
    for text in mentioned:
        if re.fullmatch(r"-?\d+", text):
            number = int(text)
            found += [str(number), str(number + 1), str(number - 1)]
        elif re.fullmatch(r"-?\d+\.\d+", text):
            found.append(text)
    return list(dict.fromkeys(found))


def _arrays(column: Column, mentioned: Iterable[str]) -> list[str]:
    singles = [f'{{"{value}"}}' for value in mentioned]
    labels = [f'{{"{label}"}}' for label in column.labels]
    return list(dict.fromkeys([*labels, *singles, "{}"]))
