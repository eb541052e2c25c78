"""Where the columns of a view come from, read out of its stored rule.

PostgreSQL keeps a view as a ``pg_node_tree``; the target entries of its outermost query
carry ``resorigtbl`` and ``resorigcol``, the table column an entry shows unchanged.  No
catalog view offers that, and ``pg_depend`` does not tell which output column it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["TargetEntry", "target_entries"]

_TOKEN = re.compile(r"\\.|[{}()]", re.DOTALL)
_ENTRY = re.compile(
    r":resno (\d+) .*:resorigtbl (\d+) :resorigcol (\d+) :resjunk (true|false)\s*\Z",
    re.DOTALL,
)
TARGET_LIST = ":targetList "


class TargetEntry(NamedTuple):
    """Output column ``position`` shows column ``column`` of the table ``table_oid``."""

    position: int
    table_oid: int
    column: int


def target_entries(node_tree: str) -> list[TargetEntry]:
    """Return the output columns of a view that show a table's column."""
    entries: list[TargetEntry] = []
    depth = 0
    list_depth = 0  # depth inside the outermost query's target list, 0 outside it
    start = 0
    for match in _TOKEN.finditer(node_tree):
        token = match.group()
        if token in "{(":
            depth += 1
            begun = node_tree.endswith(TARGET_LIST, 0, match.start())
            # Depth 1 is the list of queries, 2 the query, 3 its target list.
            if depth == 3 and token == "(" and begun:
                list_depth = depth
            elif list_depth and depth == list_depth + 1:
                start = match.end()
        elif token in "})":
            if list_depth and depth == list_depth + 1:
                _read_entry(node_tree[start : match.start()], entries)
            elif depth == list_depth:
                return entries
            depth -= 1
    return entries


def _read_entry(text: str, entries: list[TargetEntry]) -> None:
    match = _ENTRY.search(text)
    if match is not None and match.group(4) == "false" and match.group(2) != "0":
        position, table_oid, column = (int(match.group(i)) for i in (1, 2, 3))
        entries.append(TargetEntry(position, table_oid, column))
