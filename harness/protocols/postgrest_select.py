"""The ``select`` grammar: columns, renames, casts, JSON paths, aggregates, embeds.

``alias:column->key::cast.sum()::cast``, ``alias:table!hint!inner(...)`` and
``...table(...)``.  Which names exist is the schema cache's to say.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from harness.protocols.postgrest_scanner import AFTER_NAME, MAX_DEPTH, Field, Scanner

__all__ = ["ALL_COLUMNS", "Join", "SelectEmbed", "SelectField", "parse_select"]

Join = Literal["inner", "left"]
AGGREGATES = ("sum", "avg", "count", "max", "min")
ALL_COLUMNS = "*"


class SelectField(NamedTuple):
    """A column to return; ``field.name`` is ``*`` for all columns."""

    field: Field
    alias: str | None = None
    cast: str | None = None
    aggregate: str | None = None
    aggregate_cast: str | None = None


class SelectEmbed(NamedTuple):
    """A related table to return inside each row, or spread into it."""

    name: str
    items: tuple[SelectField | SelectEmbed, ...]
    alias: str | None = None
    hint: str | None = None
    join: Join | None = None
    spread: bool = False


SelectItem = SelectField | SelectEmbed


def parse_select(text: str) -> tuple[SelectItem, ...]:
    """Return the items of a ``select`` parameter; raises ``RestError``.

    What follows an embed's closing bracket is passed over, as PostgREST does.
    """
    return _items(Scanner(text, "select parameter"), depth=0)


def _items(scanner: Scanner, depth: int) -> tuple[SelectItem, ...]:
    if depth > MAX_DEPTH:
        raise scanner.error(f"at most {MAX_DEPTH} levels of embedding")
    scanner.blank()
    if scanner.at_end() or scanner.peek(")"):
        return ()
    items = [_item(scanner, depth)]
    while True:
        scanner.blank()
        if not scanner.take(","):
            return tuple(items)
        items.append(_item(scanner, depth))


def _item(scanner: Scanner, depth: int) -> SelectItem:
    scanner.blank()
    if scanner.take("..."):
        name = scanner.name()
        return _embed(scanner, depth, name, alias=None, spread=True)
    if scanner.take("*"):
        _item_end(scanner)
        return SelectField(Field(ALL_COLUMNS))
    name = scanner.name()
    alias = None
    if scanner.peek(":") and not scanner.peek("::"):
        scanner.pos += 1
        scanner.blank()
        alias, name = name, scanner.name()
    if name == "count" and (counted := _count(scanner, alias)) is not None:
        return counted
    if name != "count" and (scanner.peek("!") or scanner.peek("(")):
        return _embed(scanner, depth, name, alias=alias, spread=False)
    return _field(scanner, name, alias)


def _count(scanner: Scanner, alias: str | None) -> SelectField | None:
    """Read the rest of ``count()``; None where something else follows."""
    start = scanner.pos
    if scanner.take("()"):
        cast = scanner.identifier() if scanner.take("::") else None
        scanner.blank()
        if scanner.at_end() or scanner.peek(",") or scanner.peek(")"):
            return SelectField(Field(ALL_COLUMNS), alias, None, "count", cast)
    scanner.pos = start
    return None


def _field(scanner: Scanner, name: str, alias: str | None) -> SelectField:
    path = scanner.json_path()
    cast = aggregate = aggregate_cast = None
    scanner.blank()
    if scanner.take("::"):
        cast = scanner.identifier()
    if scanner.take("."):
        aggregate = _aggregate(scanner)
        if scanner.take("::"):
            aggregate_cast = scanner.identifier()
    if aggregate_cast or cast:
        _item_end(scanner, "letter", "digit")
    elif aggregate:
        _item_end(scanner, '"::"')
    else:
        before = ('"->>"', '"->"') if path else AFTER_NAME
        _item_end(scanner, *before, '"::"', '"."')
    return SelectField(Field(name, path), alias, cast, aggregate, aggregate_cast)


def _aggregate(scanner: Scanner) -> str:
    for name in AGGREGATES:
        if scanner.take(name):
            scanner.expect("()")
            return name
    quoted = [f'"{name}"' for name in AGGREGATES]
    raise scanner.error(*quoted, instead_of=AGGREGATES[0])


def _item_end(scanner: Scanner, *before: str) -> None:
    """Raise unless an item ends here; ``before`` is how it might have gone on."""
    scanner.blank()
    if not (scanner.at_end() or scanner.peek(",") or scanner.peek(")")):
        raise scanner.error(*before, '")"', '","', "end of input", quote="'")


def _embed(
    scanner: Scanner, depth: int, name: str, *, alias: str | None, spread: bool
) -> SelectEmbed:
    hint: str | None = None
    join: Join | None = None
    start = scanner.pos
    for _ in range(2):
        if not scanner.take("!"):
            break
        word = scanner.name()
        if word == "inner" and join is None:
            join = "inner"
        elif word == "left" and join is None:
            join = "left"
        elif hint is None:
            hint = word
    if not (spread or scanner.peek("(")):
        scanner.pos = start  # a column after all, and that has no hint
        _item_end(scanner, *AFTER_NAME, '"::"', '"."')
    scanner.expect("(")
    items = _items(scanner, depth + 1)
    scanner.expect(")")
    return SelectEmbed(name, items, alias, hint, join, spread)
