"""One mutant of a schema: what was done, where, as which SQL, and what it means."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["Mutant"]

ID_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault as SQL; ``means`` says in one sentence what it does to the schema."""

    operator: str
    where: str
    sql: str
    means: str

    @property
    def id(self) -> str:
        """A short name that only depends on the SQL."""
        return hashlib.sha256(self.sql.encode()).hexdigest()[:ID_LENGTH]

    @property
    def check(self) -> str:
        """The name under which the mutant is reported."""
        return f"{self.operator}[{self.id}]"
