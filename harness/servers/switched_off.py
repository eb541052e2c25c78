"""The place of a service that a project switched off, as ``auth.enabled = false``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from aiohttp import web

__all__ = ["SwitchedOff"]


class SwitchedOff:
    """Answers everything with 503, as a gateway without the service behind it."""

    def __init__(self, name: str) -> None:
        self._body = orjson.dumps(
            {
                "code": "SERVICE_OFF",
                "message": f"{name} is switched off in this project's configuration",
            }
        )

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        """Refuse a request."""
        return web.Response(
            status=503, body=self._body, content_type="application/json"
        )

    def websocket(
        self,
        transport: asyncio.Transport,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> asyncio.Protocol:
        """Refuse a handshake."""
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\nConnection: close\r\n\r\n"
        )
        transport.write(head.encode() + self._body)
        transport.close()
        return asyncio.Protocol()
