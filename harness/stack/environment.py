"""The environment of the Python processes that we start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["child_environment"]

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


def child_environment(
    environ: Mapping[str, str], cache_dir: Path, **changes: str
) -> dict[str, str]:
    """Return ``environ`` with ``changes``, and with a place for compiled modules.

    Where the environment forbids writing bytecode beside the sources (containers often
    do), every process would compile every module anew, which takes longer than all
    else; compiled modules then go to ``cache_dir``.
    """
    child = {**environ, **changes}
    if child.pop(NO_BYTECODE, ""):
        child["PYTHONPYCACHEPREFIX"] = str(cache_dir / "pycache")
    return child
