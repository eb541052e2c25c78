"""Whether an X-Robots-Tag header is a list of rules that crawlers know.

Source: the rules of the X-Robots-Tag header as search engines document them, and
storage-api 3.2.
"""

from __future__ import annotations

import re
from typing import Final

from harness.servers.storage.errors import invalid_x_robots_tag

__all__ = ["check_x_robots_tag"]

SIMPLE: Final = frozenset(
    {
        "all",
        "noindex",
        "nofollow",
        "none",
        "noarchive",
        "nosnippet",
        "notranslate",
        "noimageindex",
        "nocache",
        "indexifembedded",
    }
)
NUMERIC: Final = frozenset({"max-snippet", "max-video-preview"})
PREVIEWS: Final = frozenset({"none", "standard", "large"})
USER_AGENT: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
INTEGER: Final = re.compile(r"-?[0-9]+", re.ASCII)
# A date may contain commas, which otherwise part the rules.
UNAVAILABLE: Final = re.compile(
    r"unavailable_after:\s*(?P<date>.+?)(?=,\s*(?:[a-z-]+\s*(?:,|$)|[A-Za-z0-9_-]+:)|$)"
)


def check_x_robots_tag(value: str) -> None:
    """Refuse a header value that is not a list of known rules."""
    rest = value.strip()
    if not rest:
        raise invalid_x_robots_tag(
            "X-Robots-Tag header value must be a non-empty string"
        )
    while rest:
        match = UNAVAILABLE.match(rest)
        rule, rest = (
            (match[0], rest[match.end() :].lstrip(", "))
            if match
            else _split_first(rest)
        )
        _check_rule(rule)


def _split_first(text: str) -> tuple[str, str]:
    rule, comma, rest = text.partition(",")
    if comma and not rest.strip():
        raise invalid_x_robots_tag("X-Robots-Tag header contains empty rule")
    return rule.strip(), rest.strip()


def _check_rule(rule: str) -> None:
    if not rule:
        raise invalid_x_robots_tag("X-Robots-Tag header contains empty rule")
    if rule in SIMPLE:
        return
    name, colon, value = rule.partition(":")
    value = value.strip()
    if not colon:
        raise invalid_x_robots_tag(f'Invalid rule "{rule}"')
    if name in NUMERIC:
        if INTEGER.fullmatch(value) is None:
            raise invalid_x_robots_tag(f"{name} must be a number")
    elif name == "max-image-preview":
        if value not in PREVIEWS:
            raise invalid_x_robots_tag(
                "max-image-preview must be one of: none, standard, large"
            )
    elif name == "unavailable_after":
        if not value:
            raise invalid_x_robots_tag("unavailable_after requires a date value")
    elif USER_AGENT.fullmatch(name) is None or not value:
        raise invalid_x_robots_tag(f'Invalid rule "{rule}"')
    else:
        _check_rule(value)
