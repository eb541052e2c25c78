"""Environment files as the Supabase CLI reads them: ``.env`` and its relatives.

What the process environment sets wins over every file, and an earlier file wins over a
later one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import ConfigError

__all__ = ["env_files", "load_env", "parse_env"]

DEFAULT_ENVIRONMENT = "development"

LINE = re.compile(
    r"""
    ^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*[=:][ \t]*
    (?:
        '(?P<single>[^']*)'                     # taken as it is
      | "(?P<double>(?:\\.|[^"\\])*)"           # escapes, may span lines
      | (?P<plain>[^\n]*?)                      # up to a comment
    )
    [ \t]*(?:(?:^|(?<=[\s'"]))\#[^\n]*)?$
    """,
    re.VERBOSE | re.MULTILINE,
)
BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?$", re.MULTILINE)
REFERENCE = re.compile(r"\\?\$(?:\{(\w+)\}|(\w+))")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def env_files(supabase_dir: Path, environment: str) -> Iterator[Path]:
    """Yield the files that may hold settings, strongest first.

    In each folder, from ``supabase/`` up to the repository's root, the local files come
    before the shared ones; ``.env.local`` is not read in tests, which should not
    depend on one machine.
    """
    names = [f".env.{environment}.local", f".env.{environment}", ".env"]
    if environment != "test":
        names.insert(1, ".env.local")
    for folder in _folders(supabase_dir):
        yield from (folder / name for name in names)


def load_env(supabase_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` completed from the files of a project."""
    environment = environ.get("SUPABASE_ENV") or DEFAULT_ENVIRONMENT
    merged = dict(environ)
    for path in env_files(supabase_dir, environment):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path} cannot be read: {exc}") from exc
        for name, value in parse_env(text, merged, source=str(path)).items():
            merged.setdefault(name, value)
    return merged


def parse_env(
    text: str, known: Mapping[str, str] | None = None, *, source: str = ".env"
) -> dict[str, str]:
    """Return the variables that ``text`` sets.

    ``$NAME`` and ``${NAME}`` stand for earlier ones and those of ``known``, except
    between single quotes.  Raises :class:`ConfigError` with the line.
    """
    found: dict[str, str] = {}
    text = text.replace("\r\n", "\n")
    position = 0
    while position < len(text):
        match = LINE.match(text, position) or BLANK.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise ConfigError(f"{source}:{line}: not NAME=value")
        if match.re is LINE:
            found[match["name"]] = _value(match, {**found, **(known or {})})
        position = match.end() + 1
    return found


def _value(match: re.Match[str], known: Mapping[str, str]) -> str:
    if match["single"] is not None:
        return match["single"]
    if match["double"] is None:
        return _expand(match["plain"].rstrip(), known)
    expanded = _expand(match["double"], known)
    return re.sub(
        r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), expanded, flags=re.DOTALL
    )


def _expand(text: str, known: Mapping[str, str]) -> str:
    def value(reference: re.Match[str]) -> str:
        if reference[0].startswith("\\"):
            return reference[0][1:]
        return known.get(reference[1] or reference[2], "")

    return REFERENCE.sub(value, text)


def _folders(supabase_dir: Path) -> list[Path]:
    folder = supabase_dir.resolve()
    project = folder.parent
    parents = [project, *project.parents]
    roots = [i for i, parent in enumerate(parents) if (parent / ".git").exists()]
    return [folder, *parents[: roots[0] + 1 if roots else 1]]
