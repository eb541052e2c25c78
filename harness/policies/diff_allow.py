"""The reviewed file of accepted changes: TOML, one ``[[allow]]`` for each.

::

    [[allow]]
    object = "public.notes"
    command = "SELECT"
    change = "widened"
    who = "authenticated"
    scope = "team"
    reason = "notes are shared in a team since #41"

Every key is required, so that a line accepts one change and says why.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.config import did_you_mean
from harness.errors import ConfigError
from harness.policies.diff_changes import ChangeGroup

__all__ = ["AllowedChange", "read_allowed", "write_allowed"]

HEADER = """\
# Accepted changes of what a schema allows; read by `harness diff --allow`.
# Each needs a reason before it counts.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedChange:
    """One accepted change and why."""

    object: str
    command: str
    change: str
    who: str
    scope: str
    reason: str

    def covers(self, group: ChangeGroup) -> bool:
        """Say whether it accepts ``group``."""
        named = (self.object, self.command, self.change, self.who, self.scope)
        return named == group.key

    def __str__(self) -> str:
        """Return it in a few words."""
        return f"{self.who}: {self.command} {self.object}, {self.scope}, {self.change}"


KEYS = [field.name for field in fields(AllowedChange)]


def read_allowed(path: Path) -> tuple[AllowedChange, ...]:
    """Read a file of accepted changes; raises ConfigError with the reason."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    unknown = sorted(set(found) - {"allow"})
    if unknown or not isinstance(found.get("allow", []), list):
        raise ConfigError(f"{path}: only [[allow]] is known, not {unknown or 'this'}")
    return tuple(
        _entry(item, f"{path}: [[allow]] {number}")
        for number, item in enumerate(found.get("allow", []), 1)
    )


def _entry(item: dict[str, Any], where: str) -> AllowedChange:
    for key in item:
        if key not in KEYS:
            raise ConfigError(
                f"{where}: unknown key {key!r}", hint=did_you_mean(key, KEYS)
            )
    for key in KEYS:
        value = item.get(key)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: {key} must be given as text")
    return AllowedChange(**item)


def write_allowed(
    path: Path, groups: Iterable[ChangeGroup], kept: Iterable[AllowedChange] = ()
) -> int:
    """Write ``kept`` and the failing ``groups``, reasons left to the reviewer.

    Returns how many still need a reason.
    """
    kept = tuple(kept)
    entries = [[*_values(entry)] for entry in kept]
    missing = [
        group
        for group in groups
        if group.direction != "narrowed" and not any(k.covers(group) for k in kept)
    ]
    entries += [[*group.key, ""] for group in missing]
    blocks = [
        "\n[[allow]]\n"
        + "".join(
            # TOML's basic strings are written as JSON's are.
            f"{key} = {json.dumps(value)}\n"
            for key, value in zip(KEYS, entry, strict=True)
        )
        for entry in entries
    ]
    path.write_text(HEADER + "".join(blocks), encoding="utf-8")
    return len(missing)


def _values(entry: AllowedChange) -> Iterable[str]:
    return (str(getattr(entry, key)) for key in KEYS)
