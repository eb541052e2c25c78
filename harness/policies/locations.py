"""Where in the schema files an object is defined, for findings that can be clicked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from harness.db.schema_files import read_file
from harness.db.statements import split_statements
from harness.errors import MigrationError

__all__ = ["Locations", "sql_files"]

FOLDERS = (".", "supabase/migrations", "migrations", "supabase/schemas")
NAME = r'((?:"[^"]+"|[\w$]+)(?:\.(?:"[^"]+"|[\w$]+))?)'
TABLE = re.compile(
    rf"create\s+(?:unlogged\s+)?(?:table|(?:materialized\s+)?view)\s+"
    rf"(?:if\s+not\s+exists\s+)?{NAME}",
    re.IGNORECASE,
)
FUNCTION = re.compile(
    rf"create\s+(?:or\s+replace\s+)?function\s+{NAME}\s*\(", re.IGNORECASE
)
POLICY = re.compile(
    rf'(?:create|alter)\s+policy\s+("[^"]+"|[\w$]+)\s+on\s+{NAME}', re.IGNORECASE
)
POLICY_SUBJECT = re.compile(r'^(\S+) policy "(.*)"$')


class Locations:
    """Objects of schema files by name; the last definition counts."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    @classmethod
    def of(cls, sources: Iterable[Path]) -> Locations:
        """Index the SQL files below ``sources``, folders or files."""
        found = cls()
        for source in sources:
            for path in sql_files(source):
                file = read_file(path)
                found.add(file.text, file.label)
        return found

    def add(self, text: str, file: str) -> None:
        """Index one file; one that does not parse has no locations."""
        try:
            statements = split_statements(text, file=file)
        except MigrationError:
            return
        for statement in statements:
            for name in _defined(statement.text):
                self._lines[name] = f"{file}:{statement.line}"

    def place(self, subject: str) -> str:
        """Return ``file:line`` of what a finding is about, or ``subject`` itself."""
        policy = POLICY_SUBJECT.match(subject)
        if policy is not None:
            name = f"{policy.group(1)} policy {policy.group(2)}"
            return self._lines.get(name) or self.place(policy.group(1))
        return self._lines.get(subject.partition("(")[0], subject)


def sql_files(source: Path) -> list[Path]:
    """Return the SQL files of a folder of migrations, a project, or the file."""
    if source.is_file():
        return [source]
    for folder in FOLDERS:
        found = sorted((source / folder).glob("*.sql"))
        if found:
            return found
    return []


def _defined(statement: str) -> Iterable[str]:
    """Yield the names that a statement defines, as findings spell them."""
    for pattern in (TABLE, FUNCTION):
        match = pattern.search(statement)
        if match is not None:
            yield _qualified(match.group(1))
    match = POLICY.search(statement)
    if match is not None:
        name = match.group(1).strip('"')
        yield f"{_qualified(match.group(2))} policy {name}"


def _qualified(name: str) -> str:
    parts = [part.strip('"') for part in re.findall(r'"[^"]+"|[\w$]+', name)]
    return ".".join(parts) if len(parts) > 1 else f"public.{parts[0]}"
