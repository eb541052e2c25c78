"""Media types: what ``Accept`` asks for and what ``Content-Type`` brings.

``application/vnd.pgrst.object+json`` is one object, ``;nulls=stripped`` drops null
keys, ``application/vnd.pgrst.plan`` asks for the execution plan.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "ANY",
    "CSV",
    "FORM",
    "GEO_JSON",
    "JSON",
    "OCTETS",
    "OPENAPI",
    "PLAN",
    "SINGULAR",
    "TEXT",
    "XML",
    "MediaType",
    "parse_accept",
    "parse_content_type",
]

JSON = "application/json"
CSV = "text/csv"
TEXT = "text/plain"
XML = "text/xml"
OCTETS = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"
GEO_JSON = "application/geo+json"
OPENAPI = "application/openapi+json"
SINGULAR = "application/vnd.pgrst.object+json"
ARRAY = "application/vnd.pgrst.array+json"
PLAN = "application/vnd.pgrst.plan"
ANY = "*/*"

_ALIASES = {
    "application/vnd.pgrst.object": SINGULAR,
    "application/vnd.pgrst.array": ARRAY,
    "application/*": JSON,
}
_PARAMETER = re.compile(r';\s*([\w.-]+)\s*=\s*(?:"([^"]*)"|([^;\s]*))')
PLAN_OPTIONS = ("analyze", "verbose", "settings", "buffers", "wal")


class MediaType(NamedTuple):
    """A media type with those of its parameters that PostgREST knows."""

    name: str
    strip_nulls: bool = False
    plan_format: str = "text"
    plan_options: tuple[str, ...] = ()
    plan_of: str = JSON

    @property
    def content_type(self) -> str:
        """Return the ``Content-Type`` of an answer in this type."""
        if self.name == PLAN:
            options = f"; options={'|'.join(self.plan_options)}" * bool(
                self.plan_options
            )
            return f'{PLAN}+{self.plan_format}; for="{self.plan_of}"{options}; ' + (
                "charset=utf-8"
            )
        if self.name == OCTETS:
            return OCTETS
        nulls = ";nulls=stripped" if self.strip_nulls else ""
        return f"{self.name}{nulls}; charset=utf-8"


@lru_cache(maxsize=512)
def parse_accept(header: str) -> tuple[MediaType, ...]:
    """Return the acceptable types, most wanted first; no header accepts anything."""
    wanted: list[tuple[float, MediaType]] = []
    for item in _split(header):
        name, parameters = _name_and_parameters(item)
        if not name:
            continue
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            wanted.append((quality, _media_type(name, parameters)))
    wanted.sort(key=lambda pair: -pair[0])
    return tuple(media for _, media in wanted) or (MediaType(ANY),)


@lru_cache(maxsize=256)
def parse_content_type(header: str) -> str:
    """Return the bare media type of a body; without a header it is JSON."""
    name, _ = _name_and_parameters(header)
    if name in ("", ANY):
        return JSON
    if name in (SINGULAR, ARRAY, "application/vnd.pgrst.object"):
        return JSON
    return name


def _split(header: str) -> list[str]:
    # A comma inside a quoted parameter does not end the item.
    return re.findall(r'(?:[^,"]|"[^"]*")+', header)


def _name_and_parameters(item: str) -> tuple[str, dict[str, str]]:
    name = item.partition(";")[0].strip().lower()
    parameters = {
        match.group(1).lower(): match.group(2) or match.group(3) or ""
        for match in _PARAMETER.finditer(item)
    }
    return name, parameters


def _media_type(name: str, parameters: dict[str, str]) -> MediaType:
    name = _ALIASES.get(name, name)
    strip = parameters.get("nulls") == "stripped"
    if name == ARRAY and not strip:
        return MediaType(JSON)
    if name in (SINGULAR, ARRAY):
        return MediaType(name, strip_nulls=strip)
    base, _, suffix = name.partition("+")
    if base == PLAN:
        asked = parameters.get("options", "").split("|")
        options = tuple(option for option in PLAN_OPTIONS if option in asked)
        target = parameters.get("for", JSON)
        plan_format = "json" if suffix == "json" else "text"
        return MediaType(
            PLAN, False, plan_format, options, _ALIASES.get(target, target)
        )
    return MediaType(name)
