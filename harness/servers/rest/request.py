"""An HTTP request as the REST service understands it: who asks what of which schema."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from aiohttp import web

from harness.protocols.postgrest import RowRange
from harness.protocols.postgrest_errors import (
    method_unsupported,
    path_invalid,
    range_unsatisfiable,
    schema_not_exposed,
)
from harness.protocols.postgrest_media import (
    MediaType,
    parse_accept,
    parse_content_type,
)
from harness.protocols.postgrest_preferences import Preferences, parse_preferences
from harness.servers.caller import Caller
from harness.servers.project import passage_of

__all__ = ["RequestReader", "RestRequest", "read_request", "whole_range"]

KEPT_REQUESTS = 512

METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS")
READING = ("GET", "HEAD")
_RANGE = re.compile(r"(?:items=)?([0-9]{1,18})-([0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True)
class RestRequest:
    """What a request says before its query is read.

    ``resource`` is the table or function name; ``profile`` is the schema, if the
    answer is to name it.
    """

    method: str
    kind: Literal["root", "table", "function"]
    resource: str
    path: str
    schema: str
    profile: str | None
    accept: Sequence[MediaType]
    accept_header: str
    content_type: str
    preferences: Preferences
    header_range: RowRange | None
    caller: Caller

    @property
    def reading(self) -> bool:
        """Whether the method is one that may not change anything."""
        return self.method in READING

    @property
    def bodiless(self) -> bool:
        """Whether the answer is its headers only."""
        return self.method == "HEAD"


class RequestReader:
    """Reads requests; what follows from headers seen before is not worked out again."""

    def __init__(self) -> None:
        self._read: dict[Hashable, RestRequest] = {}

    def read(
        self, http: web.BaseRequest, path: str, caller: Caller, schemas: Sequence[str]
    ) -> RestRequest:
        """Return what ``http`` asks for; raises ``RestError``."""
        passage = passage_of(http)
        if passage is None or not passage.rules.shared:
            return read_request(http, path, caller, schemas)
        key = passage.rules, http.method, path, schemas
        known = self._read.get(key)
        if known is not None:
            return known  # the headers name the caller too
        request = read_request(http, path, caller, schemas)
        if len(self._read) >= KEPT_REQUESTS:
            self._read.clear()
        self._read[key] = request
        return request


def read_request(
    http: web.BaseRequest, path: str, caller: Caller, schemas: Sequence[str]
) -> RestRequest:
    """Return what ``http`` asks for; raises ``RestError``."""
    method = http.method
    if method not in METHODS:
        raise method_unsupported(method)
    kind, resource = _target(path)
    headers = http.headers
    schema, profile = _schema(http, schemas)
    accept = headers.get("Accept", "*/*")
    return RestRequest(
        method=method,
        kind=kind,
        resource=resource,
        path=path or "/",
        schema=schema,
        profile=profile,
        accept=parse_accept(accept),
        accept_header=accept,
        content_type=parse_content_type(headers.get("Content-Type", "")),
        preferences=parse_preferences(headers.getall("Prefer", ())),
        header_range=_header_range(http) if method == "GET" else None,
        caller=caller,
    )


def _target(path: str) -> tuple[Literal["root", "table", "function"], str]:
    parts = path.strip("/").split("/") if path.strip("/") else []
    if not parts:
        return "root", ""
    if len(parts) == 1:
        return "table", _decoded(parts[0])
    if len(parts) == 2 and parts[0] == "rpc":
        return "function", _decoded(parts[1])
    raise path_invalid()


def _decoded(segment: str) -> str:
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as exc:
        raise path_invalid() from exc


def _schema(http: web.BaseRequest, schemas: Sequence[str]) -> tuple[str, str | None]:
    header = "Accept-Profile" if http.method in READING else "Content-Profile"
    asked = http.headers.get(header)
    if asked is None:
        # With several schemas the answer says which one was taken for granted.
        return schemas[0], schemas[0] if len(schemas) > 1 else None
    if asked not in schemas:
        raise schema_not_exposed(asked, schemas)
    return asked, asked


def _header_range(http: web.BaseRequest) -> RowRange | None:
    text = http.headers.get("Range")
    if text is None:
        return None
    match = _RANGE.match(text.strip())
    if match is None:
        return None
    first = int(match[1])
    if not match[2]:
        return RowRange(first)
    last = int(match[2])
    if last < first:
        raise range_unsatisfiable(
            "The lower boundary must be lower than or equal to the upper boundary in "
            "the Range header."
        )
    return RowRange(first, last - first + 1)


def whole_range(request: RestRequest, query_range: RowRange | None) -> RowRange:
    """Return the rows asked for by the ``Range`` header and ``limit``/``offset``."""
    header = request.header_range
    if header is None:
        return query_range or RowRange()
    if query_range is None:
        return header
    offset = max(header.offset, query_range.offset)
    ends = [
        item.offset + item.limit
        for item in (header, query_range)
        if item.limit is not None
    ]
    if not ends:
        return RowRange(offset)
    return RowRange(offset, max(0, min(ends) - offset))
