"""The policy benchmark: schemas in common styles, seeded faults, harmless refactors.

A fault is SQL that follows a sound schema and breaks it; ``visible`` says whether a
property without declared rules can tell (intent alone could not).  A refactor changes
text and no behaviour.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
STYLES = tuple(sorted(path.stem for path in (HERE / "schemas").glob("*.sql")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """A change of a schema: a fault or a refactor.

    ``on`` are the objects that a finding may name.
    """

    style: str
    name: str
    sql: str
    visible: bool = True
    on: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What a test is called."""
        return f"{self.style}: {self.name}"


def schema_sql(style: str, folder: Path = HERE) -> str:
    """Return the sound schema of ``style``."""
    return (folder / "schemas" / f"{style}.sql").read_text(encoding="utf-8")


def faults(folder: Path = HERE) -> list[Variation]:
    """Return the seeded faults of all styles."""
    return list(_variations("fault", folder))


def refactors(folder: Path = HERE) -> list[Variation]:
    """Return the behaviour-preserving changes of all styles."""
    return list(_variations("refactor", folder))


def _variations(kind: str, folder: Path) -> Iterator[Variation]:
    for path in sorted((folder / "faults").glob("*.toml")):
        for item in tomllib.loads(path.read_text(encoding="utf-8")).get(kind, ()):
            yield Variation(
                style=path.stem,
                name=item["name"],
                sql=item["sql"],
                visible=item.get("visible", True),
                on=tuple(item.get("on", ())),
            )
