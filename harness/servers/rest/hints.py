"""Suggestions for a name that does not exist: the most similar one that does."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["closest"]

SIMILARITY = 0.5  # below this a suggestion would puzzle more than help
CANDIDATES = 2000  # comparing is quadratic in length; a huge schema gets no hint


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like ``name``, if one is like it at all."""
    pool = list(dict.fromkeys(candidates))
    if len(pool) > CANDIDATES or len(name) > 128:
        return None
    matches = get_close_matches(name, pool, n=1, cutoff=SIMILARITY)
    return matches[0] if matches else None
