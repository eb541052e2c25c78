"""What to make of a picture, and how the service says it.

Source: storage-api 3.3 (render).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.servers.storage.settings import StorageSettings

__all__ = ["DEFAULT_QUALITY", "Transform"]

DEFAULT_QUALITY: Final = 80
RESIZING_TYPES: Final = {"cover": "fill", "contain": "fit", "fill": "force"}


@dataclass(frozen=True, slots=True)
class Transform:
    """What to make of a picture; sizes in pixels, 0 keeps the ratio."""

    width: int = 0
    height: int = 0
    resize: str = "cover"
    format: str = ""
    quality: int = DEFAULT_QUALITY

    @classmethod
    def of(cls, asked: Mapping[str, Any], limits: StorageSettings) -> Transform:
        """Return what was asked for, within the limits of the settings."""
        width = asked.get("width", 0)
        height = asked.get("height", 0)
        if width:
            width = min(max(width, limits.render_min_width), limits.render_max_width)
        if height:
            height = min(
                max(height, limits.render_min_height), limits.render_max_height
            )
        return cls(
            width,
            height,
            asked.get("resize", "cover"),
            asked.get("format", ""),
            asked.get("quality", DEFAULT_QUALITY),
        )

    def options(self) -> str:
        """Return the X-Transformations header."""
        parts: list[str] = []
        if self.height:
            parts.append(f"height:{self.height}")
        if self.width:
            parts.append(f"width:{self.width}")
        if self.width or self.height:
            parts.append(f"resizing_type:{RESIZING_TYPES[self.resize]}")
        if self.quality != DEFAULT_QUALITY:
            parts.append(f"quality:{self.quality}")
        if self.format and self.format != "origin":
            parts.append(f"format:{self.format}")
        return ",".join(parts)
