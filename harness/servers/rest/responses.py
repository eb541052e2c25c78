"""Answers: status, headers and body out of what PostgreSQL returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web
from multidict import CIMultiDict

from harness.protocols.postgrest import RowRange
from harness.protocols.postgrest_errors import (
    RestError,
    response_headers_invalid,
    response_status_invalid,
)

__all__ = [
    "content_range",
    "error_response",
    "location",
    "overridden",
    "range_status",
]

JSON_CONTENT_TYPE = "application/json; charset=utf-8"


def error_response(error: RestError) -> web.Response:
    """Return the answer that tells a :class:`RestError`."""
    headers = CIMultiDict({k: _one_line(v) for k, v in error.headers.items()})
    headers.setdefault("Content-Type", JSON_CONTENT_TYPE)
    headers["Proxy-Status"] = _one_line(f"PostgREST; error={error.code}")
    body = orjson.dumps(error.payload, default=str)
    reason = _one_line(error.reason) if isinstance(error.reason, str) else None
    return web.Response(status=error.status, reason=reason, body=body, headers=headers)


def _one_line(text: str) -> str:
    """Return text that may stand in a header: no line ends."""
    return " ".join(text.split())


def content_range(lower: int, upper: int, total: int | None) -> str:
    """Return the ``Content-Range`` of rows ``lower`` to ``upper`` out of ``total``."""
    rows = f"{lower}-{upper}" if total != 0 and lower <= upper else "*"
    return f"{rows}/{'*' if total is None else total}"


def range_status(rows: RowRange, found: int, total: int | None) -> int:
    """Return 200, 206 for a part of a known total, or 416 for one past its end."""
    if total is None:
        return 200
    if rows.offset > total:
        return 416
    return 206 if found < total else 200


def location(table: str, key: Mapping[str, str | None]) -> str:
    """Return the ``Location`` of the one row that has ``key``."""
    conditions = "&".join(
        f"{quote(name, safe='')}="
        + ("is.null" if value is None else f"eq.{quote(value, safe='')}")
        for name, value in key.items()
    )
    return f"/{quote(table, safe='')}?{conditions}"


def overridden(
    status: int,
    headers: CIMultiDict[str],
    told_headers: bytes | None,
    told_status: bytes | None,
) -> tuple[int, CIMultiDict[str]]:
    """Apply ``response.status`` and ``response.headers`` as set by the database."""
    if told_headers:
        for name in (told := _told_headers(told_headers)):
            headers.popall(name, None)
        headers.extend(told)
    if told_status:
        text = told_status.decode("utf-8", "replace").strip()
        if not (text.isascii() and text.isdigit() and 200 <= int(text[:4]) <= 599):
            raise response_status_invalid()
        status = int(text)
    return status, headers


def _told_headers(text: bytes) -> CIMultiDict[str]:
    try:
        items: Any = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise response_headers_invalid() from exc
    found: CIMultiDict[str] = CIMultiDict()
    if not isinstance(items, list):
        raise response_headers_invalid()
    for item in items:
        if not isinstance(item, dict) or len(item) != 1:
            raise response_headers_invalid()
        ((name, value),) = item.items()
        # A line break would let a value write headers of its own.
        if not isinstance(value, str) or {"\r", "\n", "\0"} & {*name, *value}:
            raise response_headers_invalid()
        found.add(name, value)
    return found
