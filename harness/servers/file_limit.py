"""How many files, connections among them, this process may have open."""

from __future__ import annotations

import sys

__all__ = ["raise_file_limit"]


def raise_file_limit() -> None:
    """Ask for as many as the system allows; shells often give 1,024."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
