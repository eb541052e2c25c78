"""Range and conditional request headers, as the Storage API reads them.

Source: RFC 9110 (14.1.2, 13.1) for the forms, storage-api 3.6 for what is honoured: one
range only, If-None-Match compared as text, If-Modified-Since in milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from harness.errors import RemoteProtocolError

__all__ = [
    "content_disposition",
    "http_date",
    "is_not_modified",
    "parse_http_date",
    "parse_range",
]

RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
UNESCAPED = "-_.!~*'()"  # what encodeURIComponent leaves alone


def parse_range(header: str, size: int) -> tuple[int, int]:
    """Return (first, last + 1) of a single byte range of ``size`` bytes.

    Raises :class:`RemoteProtocolError` for anything else, as several ranges or one
    that begins behind the end.
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        raise RemoteProtocolError(f"not a single byte range: {header!r}")
    if match[1] == "":
        suffix = int(match[2])
        first, end = max(0, size - suffix), size
    else:
        first = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
    if first >= end:
        raise RemoteProtocolError(f"range {header!r} of {size} bytes is empty")
    return first, end


def is_not_modified(headers: Mapping[str, str], etag: str, modified: datetime) -> bool:
    """Whether the client's copy is current.

    If-None-Match is compared as text (``*`` and weak tags never match); only without it
    counts If-Modified-Since, whose whole seconds are compared with milliseconds.
    """
    if known := headers.get("If-None-Match"):
        return known == etag
    since = parse_http_date(headers.get("If-Modified-Since", ""))
    return since is not None and modified <= since


def parse_http_date(text: str) -> datetime | None:
    """Return an HTTP date in UTC; None for what is no date."""
    if not text:
        return None
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def http_date(at: datetime) -> str:
    """Return ``at`` as an HTTP date."""
    return format_datetime(at.astimezone(UTC), usegmt=True)


def content_disposition(download: str) -> str:
    """Return the header for ``?download`` ('' keeps the object's own name)."""
    if not download:
        return "attachment;"
    name = quote(download, safe=UNESCAPED)
    return f"attachment; filename={name}; filename*=UTF-8''{name}"
