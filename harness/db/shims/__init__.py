"""Stand-ins in SQL for extensions that a PostgreSQL build may lack.

Each ``<extension>.sql`` makes the functions that schemas use, in ``@extschema@``, the
placeholder that PostgreSQL itself fills in when the file is an extension's script.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["shim_names", "shim_source"]

# A part's function gets another name in each extension, which owns what it makes.
INCLUDE = re.compile(r"^-- include (\w+) as (\w+)$", re.MULTILINE)


@cache
def shim_names() -> frozenset[str]:
    """Return the extensions that have a stand-in."""
    return frozenset(
        path.name.removesuffix(".sql")
        for path in files(__name__).iterdir()
        if path.name.endswith(".sql")
    )


@cache
def shim_source(name: str) -> str:
    """Return a stand-in's SQL with the parts that it includes."""
    folder = files(__name__)

    def part(include: re.Match[str]) -> str:
        text = folder.joinpath("parts", f"{include[1]}.sql").read_text(encoding="utf-8")
        return text.replace("@name@", include[2])

    text = folder.joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return INCLUDE.sub(part, text)
