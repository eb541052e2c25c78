"""What is sent as a request and is none: told in JSON, without echoing it.

aiohttp's parser refuses such heads before any project is known; its own answer would
repeat what it could not read.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus

import orjson
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

__all__ = ["GatewayServer"]


class GatewayServer(Server):
    """aiohttp's server with answers of the gateway's kind for what is no HTTP."""

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        told = _status(exc)
        body = {"message": told.phrase, "request_id": secrets.token_hex(16)}
        answer = web.Response(
            status=told, body=orjson.dumps(body), content_type="application/json"
        )
        answer.force_close()
        return answer


def _status(exc: BaseException | None) -> HTTPStatus:
    if not isinstance(exc, LineTooLong):
        return HTTPStatus.BAD_REQUEST
    # The parser tells which line it was by its beginning only.
    line = exc.args[0]
    beginning = line if isinstance(line, str) else bytes(line[:1]).decode("latin-1")
    if beginning.startswith("/"):
        return HTTPStatus.REQUEST_URI_TOO_LONG
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
