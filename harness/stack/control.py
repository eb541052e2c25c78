"""Client of the gateway's control routes: which projects it serves.

The routes are ``/_harness/projects`` and ``/_harness/status``, opened by the stack's
control secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp

from harness.errors import StackError

__all__ = ["ControlClient"]

CONTROL_TIMEOUT_S = 30.0


class ControlClient:
    """Registers and removes projects at a running gateway."""

    def __init__(self, api_url: str, secret: str) -> None:
        self._api_url = api_url
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {secret}"},
            timeout=aiohttp.ClientTimeout(total=CONTROL_TIMEOUT_S),
        )

    async def __aenter__(self) -> ControlClient:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def register(self, record: Mapping[str, Any]) -> None:
        """Serve a project; ``keys`` and ``settings`` of ``record`` are optional."""
        await self._call("POST", "/_harness/projects", record)

    async def unregister(self, ref: str) -> None:
        """Stop the services of ``ref`` and remove its objects."""
        await self._call("DELETE", f"/_harness/projects/{ref}")

    async def status(self) -> dict[str, Any]:
        """Return what the gateway says of itself: its process id and projects."""
        return await self._call("GET", "/_harness/status")

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            async with self._session.request(
                method, self._api_url + path, json=body
            ) as answer:
                if answer.status >= 400:
                    raise StackError(
                        f"{method} {path} answered {answer.status}: "
                        f"{await answer.text()}",
                        service="gateway",
                    )
                if answer.content_length == 0 or answer.status == 204:
                    return {}
                record: dict[str, Any] = await answer.json()
                return record
        except aiohttp.ClientError as exc:
            raise StackError(
                f"the gateway at {self._api_url} does not answer: {exc}",
                service="gateway",
            ) from exc
