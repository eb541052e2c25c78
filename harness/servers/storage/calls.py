"""One request as the handlers see it: path, query, caller, and what the database sees.

Source: storage-api 3.1 and 3.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote
from uuid import UUID

import orjson
from aiohttp import web

from harness.servers.caller import Caller, CallerResolver
from harness.servers.project import bearer_token, request_headers_json
from harness.servers.storage import errors
from harness.servers.storage.names import is_uuid
from harness.servers.storage.tokens import ANONYMOUS, identify

__all__ = [
    "JSON_TYPE",
    "Call",
    "authenticate",
    "decode_path",
    "json_response",
    "read_body",
    "read_json",
]

BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
JSON_BODY_LIMIT: Final = 1024 * 1024
JSON_TYPE: Final = "application/json; charset=utf-8"


@dataclass(slots=True)
class Call:
    """A request on its way through the service.

    ``path`` is still percent-encoded and begins after ``/storage/v1``.  ``caller`` is
    anonymous until :func:`authenticate`; ``authenticated`` says whether a valid token
    came with it.
    """

    request: web.BaseRequest
    path: str
    raw_query: str
    now: float
    operation: str = ""
    caller: Caller = ANONYMOUS
    authenticated: bool = False
    override: str = ""
    _settings: tuple[str, ...] | None = None

    @property
    def method(self) -> str:
        """The HTTP method, or the one that stands for it."""
        return self.override or self.request.method

    @property
    def target(self) -> str:
        """The path with its query, as the service sees it."""
        return f"{self.path}?{self.raw_query}" if self.raw_query else self.path

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last."""
        if not self.raw_query:
            return {}
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def owner(self) -> UUID | None:
        """The caller's id for the ``owner`` column, when it is a UUID."""
        sub = self.caller.sub
        return UUID(sub) if is_uuid(sub) else None

    @property
    def owner_id(self) -> str | None:
        """The caller's id for the ``owner_id`` column."""
        return self.caller.sub or None

    def header(self, name: str, default: str = "") -> str:
        """Return a request header."""
        return self.request.headers.get(name, default)

    def database_settings(self) -> tuple[str, ...]:
        """Return the caller as ``_storage.as_caller`` takes them and policies see them.

        Eight texts: role, claims, sub, token, headers, method, path, operation.
        """
        if self._settings is None:
            caller = self.caller
            self._settings = (
                caller.role,
                caller.claims_json,
                caller.sub,
                caller.token,
                request_headers_json(self.request).decode(),
                self.request.method,
                self.target,
                self.operation,
            )
        return self._settings


def authenticate(call: Call, callers: CallerResolver, *, required: bool = True) -> None:
    """Set the caller from the bearer token.

    Without ``required`` a missing or bad token leaves the call anonymous.
    """
    token = bearer_token(call.request)
    if not token and not required:
        return
    if required and not token and "Authorization" not in call.request.headers:
        raise errors.invalid_request(
            "headers must have required property 'authorization'", error="Error"
        )
    try:
        call.caller = identify(callers, token)
    except errors.StorageError:
        if required:
            raise
        return
    call.authenticated = True


def decode_path(path: str) -> str:
    """Percent-decode a path once; refuse what is no UTF-8."""
    if "%" not in path:
        return path
    try:
        if BROKEN_ESCAPE.search(path):
            raise ValueError("an escape has two hexadecimal digits")
        decoded = unquote(path, errors="strict")
    except ValueError as exc:
        raise errors.invalid_request(
            f"'{path}' is not a valid url component", error="FastifyError"
        ) from exc
    if "\0" in decoded:
        # No name holds a NUL, and PostgreSQL's text cannot either.
        raise errors.invalid_key(decoded.replace("\0", ""))
    return decoded


def json_response(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return ``value`` as the JSON answer; bytes are taken as JSON already."""
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    told = {"Content-Type": JSON_TYPE}
    if headers:
        told = {**headers, **told}
    return web.Response(status=status, body=body, headers=told)


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """Return a whole small body; more than ``limit`` bytes are a real 413."""
    whole: bytes | None = getattr(request, "whole_body", None)
    if whole is not None and len(whole) <= limit:
        return whole
    if (request.content_length or 0) > limit:
        raise _body_too_large()
    if request.content.is_eof():
        # A small body arrives together with its head.
        return request.content.read_nowait(-1)
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit:
            raise _body_too_large()
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(call: Call, *, empty_allowed: bool = False) -> Any:
    """Return the JSON body of a request; None when there is none."""
    request = call.request
    content_type = request.headers.get("Content-Type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    body = await read_body(request, JSON_BODY_LIMIT)
    if not content_type and not body:
        return None
    if media_type == "text/plain":
        return body.decode("utf-8", "replace")
    if media_type != "application/json":
        raise _parser_error(415, f"Unsupported Media Type: {content_type}")
    if not body:
        if empty_allowed:
            return None
        raise _parser_error(
            400, "Body cannot be empty when content-type is set to 'application/json'"
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise _parser_error(
            400, "Body is not valid JSON but content-type is set to 'application/json'"
        ) from exc


def _parser_error(status: int, message: str) -> errors.StorageError:
    return errors.StorageError(
        "InvalidRequest", message, status, error="FastifyError", http_status=status
    )


def _body_too_large() -> errors.StorageError:
    return errors.StorageError(
        "EntityTooLarge",
        "Request body is too large",
        413,
        error="FastifyError",
        http_status=413,
        close=True,
    )
