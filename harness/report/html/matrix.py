"""The policy matrix as a picture: who may do what to whose rows.

A grid for each family of relations that share commands (tables, buckets, channels,
functions); a row is a relation, a column a persona under a command.  A cell is split:
the left half is the persona's own rows, the right half rows of others.  The colour is
what was *executed*, the mark is what was judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.events import DecisionCell
from harness.report.html.markup import Html, join, tag
from harness.report.model import plural

__all__ = ["Grid", "grids", "matrix_section"]

SCOPES = ("own", "other", "any")  # from left to right
SCOPE_WORDS = {"own": "own rows", "other": "rows of others", "any": "any row"}
JUDGED_WORDS = {
    "expected": "as declared",
    "violation": "violation",
    "unjudged": "no rule judges it",
}
COMFORTABLE_PERSONAS = 6  # with more under each command, cells become narrower
LEGEND = (
    ("allowed", "allowed"),
    ("denied", "denied"),
    ("mixed", "depends on the row"),
    ("allowed violation", "violation"),
    ("allowed unjudged", "no rule judges it"),
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Relations that share commands, and the personas that tried them."""

    relations: tuple[str, ...]
    commands: tuple[str, ...]
    personas: tuple[str, ...]


def matrix_section(cells: Sequence[DecisionCell]) -> Html:
    """Return the legend and every grid."""
    by_place: dict[tuple[str, str, str], list[DecisionCell]] = {}
    for cell in cells:
        place = (cell.relation, cell.command, cell.persona)
        by_place.setdefault(place, []).append(cell)
    tables = (_table(grid, by_place) for grid in grids(cells))
    return join(_legend(cells), *tables)


def grids(cells: Iterable[DecisionCell]) -> list[Grid]:
    """Put relations that have a command in common into one grid, in order seen."""
    commands_of: dict[str, dict[str, None]] = {}
    personas_of: dict[str, dict[str, None]] = {}
    for cell in cells:
        commands_of.setdefault(cell.relation, {})[cell.command] = None
        personas_of.setdefault(cell.relation, {})[cell.persona] = None
    families: list[list[str]] = []
    for relation, commands in commands_of.items():
        kin = [f for f in families if any(commands.keys() & commands_of[r] for r in f)]
        merged = [r for family in kin for r in family] + [relation]
        families = [f for f in families if f not in kin] + [merged]
    return [
        Grid(
            tuple(family),
            _union(commands_of[relation] for relation in family),
            _union(personas_of[relation] for relation in family),
        )
        for family in families
    ]


def state(cell: DecisionCell) -> str:
    """Return the colour of a cell: what execution showed."""
    if cell.allowed and cell.denied:
        return "mixed"
    return "allowed" if cell.allowed else "denied"


def _union(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for group in groups for item in group))


def _legend(cells: Sequence[DecisionCell]) -> Html:
    items = (tag("span", _sample(kind), text, class_="item") for kind, text in LEGEND)
    halves = tag(
        "span",
        _sample("allowed", "denied"),
        "left half: own rows, right half: rows of others",
        class_="item",
    )
    wrong = sum(cell.judged == "violation" for cell in cells)
    open_ = sum(cell.judged == "unjudged" for cell in cells)
    decisions = sum(cell.allowed + cell.denied for cell in cells)
    count = (
        f"{plural(len(cells), 'cell')} from {plural(decisions, 'executed decision')}:"
        f" {plural(wrong, 'violation')}, {open_:,} without a rule"
    )
    return join(
        tag("p", count, class_="muted"),
        tag("p", *items, halves, class_="legend matrix-legend"),
    )


def _sample(*kinds: str) -> Html:
    halves = (tag("i", "!" if "violation" in k else None, class_=k) for k in kinds)
    return tag("i", *halves, class_="cell")


def _table(
    grid: Grid, by_place: Mapping[tuple[str, str, str], list[DecisionCell]]
) -> Html:
    span = len(grid.personas)
    commands = (tag("th", c, colspan=span, scope="colgroup") for c in grid.commands)
    personas = (
        tag("th", tag("span", persona), scope="col", class_=_edge(i))
        for _ in grid.commands
        for i, persona in enumerate(grid.personas)
    )
    head = tag(
        "thead",
        tag("tr", tag("th", rowspan=2), *commands, class_="commands"),
        tag("tr", *personas, class_="personas"),
    )
    rows = (_row(relation, grid, by_place) for relation in grid.relations)
    kind = "matrix dense" if span > COMFORTABLE_PERSONAS else "matrix"
    table = tag("table", head, tag("tbody", *rows), class_=kind)
    return tag("div", table, class_="panel scroll", tabindex="0")


def _row(
    relation: str,
    grid: Grid,
    by_place: Mapping[tuple[str, str, str], list[DecisionCell]],
) -> Html:
    fields = (
        _field(by_place.get((relation, command, persona), []), _edge(i))
        for command in grid.commands
        for i, persona in enumerate(grid.personas)
    )
    return tag(
        "tr",
        tag("th", tag("code", relation.removeprefix("public.")), scope="row"),
        *fields,
    )


def _edge(column: int) -> str | None:
    return "first" if column == 0 else None


def _field(cells: Sequence[DecisionCell], edge: str | None) -> Html:
    if not cells:
        return tag("td", class_=edge)
    ordered = sorted(cells, key=_scope_order)
    words = "\n".join(_sentence(cell) for cell in ordered)
    picture = tag(
        "i",
        *(_half(cell) for cell in ordered),
        class_="cell",
        title=words,
        role="img",
        aria_label=words,
    )
    return tag("td", picture, class_=edge)


def _half(cell: DecisionCell) -> Html:
    mark = "!" if cell.judged == "violation" else None
    return tag("i", mark, class_=_half_class(cell))


def _half_class(cell: DecisionCell) -> str:
    if cell.judged == "expected":
        return state(cell)
    return f"{state(cell)} {cell.judged}"


def _sentence(cell: DecisionCell) -> str:
    total = cell.allowed + cell.denied
    whose = SCOPE_WORDS.get(cell.scope, cell.scope)
    return (
        f"{cell.persona}: {cell.command} {cell.relation}, {whose}:"
        f" {cell.allowed:,} of {total:,} allowed ({JUDGED_WORDS[cell.judged]})"
    )


def _scope_order(cell: DecisionCell) -> int:
    return SCOPES.index(cell.scope) if cell.scope in SCOPES else len(SCOPES)
