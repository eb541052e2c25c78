"""A storyteller without an AI service: the same story gives the same pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from scenarios.storymimi.image_storage import PNG_SIGNATURE

__all__ = ["PlainStoryteller", "png"]


def png(text: str) -> bytes:
    """Return bytes that begin as a PNG does and depend on ``text`` alone."""
    return PNG_SIGNATURE + hashlib.sha256(text.encode()).digest()


class PlainStoryteller:
    """Tells ``count`` scenes; ``broken`` names those that cannot be drawn."""

    def __init__(self, count: int = 3, *, broken: Sequence[int] = ()) -> None:
        self._count = count
        self._broken = broken

    async def scenes(self, title: str, prompt: str) -> Sequence[str]:
        """Return the texts of the scenes."""
        return [f"{title}, scene {number}" for number in range(self._count)]

    async def picture(self, text: str) -> bytes:
        """Return a PNG for a scene, or something else for a broken one."""
        is_broken = any(text.endswith(f"scene {number}") for number in self._broken)
        return b"not a picture" if is_broken else png(text)
