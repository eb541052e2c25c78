"""A plain request as the services see it, and its answer as bytes.

The request is aiohttp's, so that services need not know who read it; its URL and its
writer are made only for those that ask.  An answer with a whole body becomes one write;
any other goes through aiohttp's own stream writer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import (
    SERVER_SOFTWARE,
    HttpVersion11,
    RawRequestMessage,
    StreamWriter,
)
from yarl import URL

from harness.servers.gateway import BODY_LIMIT_BYTES, CORS_EXPOSED, GatewayRequest
from harness.servers.heads import Head

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.web_protocol import RequestHandler

__all__ = ["READ_AHEAD_BYTES", "PlainRequest", "send_answer"]

UNREAD_URL: Final = URL("/")
READ_AHEAD_BYTES: Final = 256 * 1024  # of a body that its service is slow to read
JOINED_BYTES: Final = 64 * 1024  # a body up to here is copied behind its head
# What the gateway and the server add to every answer; others go the long way.
ADDED: Final = frozenset(
    {
        "access-control-allow-origin",
        "access-control-expose-headers",
        "connection",
        "date",
        "server",
        "transfer-encoding",
        "x-request-id",
    }
)
ADDED_LINES: Final = (
    "Access-Control-Allow-Origin: *\r\n"
    f"Access-Control-Expose-Headers: {CORS_EXPOSED}\r\n"
    f"Server: {SERVER_SOFTWARE}\r\n"
)


class PlainRequest(GatewayRequest):
    """A request read by :mod:`harness.servers.heads`.

    A body that came together with its head is bytes, and a stream only for those who
    ask for one.
    """

    def __init__(
        self,
        head: Head,
        body: StreamReader | bytes,
        protocol: BaseProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        fields = head.fields
        message = RawRequestMessage(
            head.method,
            head.target,
            HttpVersion11,
            fields.headers,
            fields.raw,
            fields.closes,
            None,
            False,
            False,
            UNREAD_URL,
        )
        self.fields = fields
        self._lazy_url: URL | None = None
        self._lazy_writer: AbstractStreamWriter | None = None
        self._body = body
        super().__init__(
            message,
            EMPTY_PAYLOAD,
            cast("RequestHandler", protocol),
            cast("AbstractStreamWriter", None),
            cast("asyncio.Task[None]", None),
            loop,
            client_max_size=BODY_LIMIT_BYTES,
        )

    @property
    def whole_body(self) -> bytes | None:
        """The body, if all of it is here."""
        return self._body if isinstance(self._body, bytes) else None

    @property
    def body_exists(self) -> bool:
        """Whether the request has a body."""
        return self._body is not EMPTY_PAYLOAD

    async def read(self) -> bytes:
        """Return the body."""
        whole = self.whole_body
        return await super().read() if whole is None else whole

    @property
    def _payload(self) -> StreamReader:
        if isinstance(self._body, bytes):
            whole = self._body
            self._body = StreamReader(self._protocol, READ_AHEAD_BYTES, loop=self._loop)
            self._body.feed_data(whole)
            self._body.feed_eof()
        return self._body

    @_payload.setter
    def _payload(self, payload: StreamReader) -> None:
        """Ignore what stands in for it."""

    @property
    def _rel_url(self) -> URL:
        if self._lazy_url is None:
            path, _, query = self._message.path.partition("?")
            self._lazy_url = URL.build(path=path, query_string=query, encoded=True)
        return self._lazy_url

    @_rel_url.setter
    def _rel_url(self, url: URL) -> None:
        """Ignore what aiohttp took from the message."""

    @property
    def _payload_writer(self) -> AbstractStreamWriter:
        if self._lazy_writer is None:
            self._lazy_writer = StreamWriter(self._protocol, self._loop)
        return self._lazy_writer

    @_payload_writer.setter
    def _payload_writer(self, writer: Any) -> None:
        """Ignore that none was made."""


async def send_answer(request: PlainRequest, response: web.StreamResponse) -> bool:
    """Send an answer; return whether the connection may be kept."""
    keep = response.keep_alive is not False and request.keep_alive
    if type(response) is web.Response and not response.prepared:
        whole = _whole(request, response, keep=keep)
        if whole is not None:
            _write(request, *whole)
            return keep
    await response.prepare(request)
    await response.write_eof()
    return bool(response.keep_alive)


def _write(request: PlainRequest, head: bytes, body: bytes | bytearray) -> None:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client went away")
    request.answer_began = True
    if len(body) <= JOINED_BYTES:
        transport.write(head + body)
    else:
        transport.writelines((head, body))


def _whole(
    request: PlainRequest, response: web.Response, *, keep: bool
) -> tuple[bytes, bytes | bytearray] | None:
    """Return head and body of an answer that holds nothing out of the ordinary."""
    body, headers, status = response.body or b"", response.headers, response.status
    if (
        not isinstance(body, (bytes, bytearray))
        or request.method == "HEAD"
        or status < 200
        or status == 304
        or response.chunked
        or response.compression
        or response._cookies is not None
        or not ADDED.isdisjoint(map(str.lower, headers))
    ):
        return None
    lines = [f"HTTP/1.1 {status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if status == 204:
        if body or "Content-Length" in headers:
            return None
    elif "Content-Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    elif headers["Content-Length"] != str(len(body)):
        return None
    if body and "Content-Type" not in headers:
        lines.append("Content-Type: application/octet-stream")
    if not keep:
        lines.append("Connection: close")
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        return None  # aiohttp refuses a header that would split the answer
    if not text.isascii():
        return None  # and knows how to put other characters
    head = (
        f"{text}\r\nX-Request-Id: {request.request_id}\r\n"
        f"Date: {rfc822_formatted_time()}\r\n{ADDED_LINES}\r\n"
    )
    return head.encode(), body
