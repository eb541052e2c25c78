"""A service that another server process answers: the gateway of a stack of containers.

To the gateway it is a service like its own.  On first use it registers the project at
the other process; requests and answers are streamed through, sockets are joined at the
level of bytes, with back-pressure in both directions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from harness.errors import StackError
from harness.servers.outward import client_session
from harness.servers.project import ServedProject, request_headers

__all__ = ["UpstreamService"]

CHUNK_BYTES = 1 << 18
# Headers that concern one connection, not the message (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "authorization",
    }
)


class UpstreamService:
    """The service ``name`` of ``project`` at the server process behind ``url``."""

    def __init__(
        self, project: ServedProject, name: str, *, url: str, secret: str
    ) -> None:
        self._project = project
        self._prefix = f"/p/{project.ref}/{name}/v1"
        self._url = url
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Register the project at the other process."""
        self._session = client_session(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        )
        record = {
            "ref": self._project.ref,
            "dbname": self._project.database.dbname,
            "settings": self._project.settings,
        }
        async with self._session.post(
            f"{self._url}/_harness/projects",
            data=orjson.dumps(record),
            headers=self._control_headers(),
        ) as answer:
            if answer.status not in (201, 409):
                raise StackError(
                    f"{self._url} refuses the project: {await answer.text()}",
                    service=self._url,
                )

    async def stop(self) -> None:
        """Take the project back from the other process."""
        if self._session is None:
            return
        path = f"/_harness/projects/{self._project.ref}"
        async with self._session.delete(
            self._url + path, headers=self._control_headers()
        ):
            pass
        await self._session.close()

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Pass a request on and its answer back."""
        assert self._session is not None
        target = self._url + self._prefix + path
        if request.query_string:
            target += "?" + request.rel_url.raw_query_string
        try:
            async with self._session.request(
                request.method,
                URL(target, encoded=True),  # escapes stay as the client wrote them
                headers=self._forwarded(request),
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                return await _stream_back(request, answer)
        except aiohttp.ClientConnectionError as exc:
            return web.json_response(
                {"message": f"the service behind the gateway does not answer: {exc}"},
                status=502,
            )

    def websocket(
        self,
        transport: asyncio.Transport,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> asyncio.Protocol:
        """Join a client's socket to the other process."""
        target = f"{self._prefix}/websocket?{urlencode(query)}"
        lines = [f"GET {target} HTTP/1.1", f"Host: {urlsplit(self._url).netloc}"]
        if key:
            lines.append(f"Sec-WebSocket-Key: {key}")
        lines += [f"{k}: {v}" for k, v in headers.items() if k != "host"]
        opening = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return _ClientSide(transport, self._url, opening)

    def _control_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secret}"}

    def _forwarded(self, request: web.BaseRequest) -> list[tuple[str, str]]:
        kept = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP
        ]
        if authorization := request_headers(request).get("authorization"):
            kept.append(("Authorization", authorization))
        if "X-Forwarded-Host" not in request.headers:
            kept.append(("X-Forwarded-Host", request.host))
            kept.append(("X-Forwarded-Proto", request.scheme))
        return kept


async def _stream_back(
    request: web.BaseRequest, answer: aiohttp.ClientResponse
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if name.lower() not in HOP_BY_HOP:
            response.headers.add(name, value)
    await response.prepare(request)
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        await response.write(chunk)
    await response.write_eof()
    return response


class _ClientSide(asyncio.Protocol):
    """The client's half of a joined pair; it opens the other half."""

    def __init__(self, transport: asyncio.Transport, url: str, opening: bytes) -> None:
        self.transport = transport
        self._waiting = bytearray(opening)
        self._upstream: _UpstreamSide | None = None
        self._opening = asyncio.get_running_loop().create_task(self._open(url))

    async def _open(self, url: str) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 80
        loop = asyncio.get_running_loop()
        try:
            _, upstream = await loop.create_connection(
                lambda: _UpstreamSide(self), host, port
            )
        except OSError:
            self.transport.abort()
            return
        upstream.write(bytes(self._waiting))
        self._upstream = upstream

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, or keep them until the other half is open."""
        if self._upstream is None:
            self._waiting += data
        else:
            self._upstream.write(data)

    def pause_writing(self) -> None:
        """Let the other half send no more: this client is slow."""
        if self._upstream is not None:
            self._upstream.pause()

    def resume_writing(self) -> None:
        """Let the other half send again."""
        if self._upstream is not None:
            self._upstream.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other half."""
        self._opening.cancel()
        if self._upstream is not None:
            self._upstream.close()


class _UpstreamSide(asyncio.Protocol):
    """The other process's half of a joined pair."""

    def __init__(self, client: _ClientSide) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes back to the client."""
        self._client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the client's half when all is sent."""
        self._client.transport.close()

    def pause_writing(self) -> None:
        """Read no more from the client: the other process is slow."""
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the client again."""
        self._client.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send to the other process."""
        assert self._transport is not None
        self._transport.write(data)

    def pause(self) -> None:
        """Stop reading from the other process."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the other process again."""
        assert self._transport is not None
        self._transport.resume_reading()

    def close(self) -> None:
        """Close this half."""
        assert self._transport is not None
        self._transport.close()
