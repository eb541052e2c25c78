"""The ``Prefer`` header (RFC 7240) with PostgREST's preferences.

An unknown preference is ignored unless ``handling=strict`` is among them.  What was
honoured is told in ``Preference-Applied``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["NO_PREFERENCES", "Preferences", "parse_preferences"]

VALUES = {
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "return": ("representation", "minimal", "headers-only"),
    "count": ("exact", "planned", "estimated"),
    "tx": ("commit", "rollback"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
}


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of a request, ``None`` where it has none."""

    resolution: str | None = None
    representation: str | None = None
    count: str | None = None
    transaction: str | None = None
    missing: str | None = None
    handling: str | None = None
    timezone: str | None = None
    max_affected: int | None = None
    invalid: tuple[str, ...] = ()

    @property
    def strict(self) -> bool:
        """Whether an unknown preference is an error."""
        return self.handling == "strict"

    def applied(self, *names: str) -> str:
        """Return ``Preference-Applied`` for those of ``names`` that were given."""
        values = {
            "resolution": self.resolution,
            "missing": self.missing,
            "return": self.representation,
            "count": self.count,
            "tx": self.transaction,
            "handling": self.handling,
            "timezone": self.timezone,
            "max-affected": self.max_affected if self.strict else None,
        }
        return ", ".join(
            f"{name}={value}"
            for name, value in values.items()
            if name in names and value is not None
        )


NO_PREFERENCES = Preferences()


@lru_cache(maxsize=1024)
def _parse(header: str) -> Preferences:
    found: dict[str, str] = {}
    invalid: list[str] = []
    for item in header.split(","):
        text = item.strip()
        name, _, value = (part.strip() for part in text.partition("="))
        if not text:
            continue
        known = (
            value in VALUES.get(name, ())
            or (name == "timezone" and bool(value))
            or (name == "max-affected" and value.isascii() and value.isdigit())
        )
        if not known:
            invalid.append(text)
        else:
            found.setdefault(name, value)
    affected = found.get("max-affected")
    return Preferences(
        found.get("resolution"),
        found.get("return"),
        found.get("count"),
        found.get("tx"),
        found.get("missing"),
        found.get("handling"),
        found.get("timezone"),
        None if affected is None else int(affected[:18]),
        tuple(invalid),
    )


def parse_preferences(headers: Iterable[str]) -> Preferences:
    """Return the preferences of all ``Prefer`` headers of a request."""
    joined = ",".join(headers)
    return _parse(joined) if joined else NO_PREFERENCES
