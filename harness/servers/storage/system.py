"""Health, status, version, metrics, the description of the API, and the CDN's purge.

Source: storage-api 3.3.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp import web

from harness.servers.outward import client_session
from harness.servers.storage import errors
from harness.servers.storage.calls import Call, json_response
from harness.servers.storage.core import Core

__all__ = [
    "health",
    "metrics",
    "purge_bucket",
    "purge_object",
    "purge_tenant",
    "status",
    "version",
]

PURGE_TIMEOUT_S: Final = 10.0


async def health(core: Core, call: Call) -> web.Response:
    """GET /health: whether the database answers; needs any valid JWT."""
    try:
        await core.connections.row("select 1")
    except errors.StorageError:
        return json_response({"healthy": False})
    return json_response({"healthy": True})


async def status(core: Core, call: Call) -> web.Response:
    """GET /status: the process lives."""
    return web.Response()


async def version(core: Core, call: Call) -> web.Response:
    """GET /version."""
    return web.Response(text=core.settings.version)


async def metrics(core: Core, call: Call) -> web.Response:
    """GET /metrics, where it is switched on."""
    if not core.settings.metrics_enabled:
        raise errors.route_not_found(call.method, call.target)
    return web.Response(
        body=core.metrics.text().encode(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def purge_object(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """DELETE /cdn/:bucket/*."""
    return await _purge(core, call, "object", {"bucketId": bucket, "objectName": key})


async def purge_bucket(core: Core, call: Call, bucket: str) -> web.Response:
    """DELETE /cdn/:bucket."""
    return await _purge(core, call, "bucket", {"bucketId": bucket})


async def purge_tenant(core: Core, call: Call) -> web.Response:
    """DELETE /cdn."""
    return await _purge(core, call, "tenant", {})


async def _purge(
    core: Core, call: Call, kind: str, what: dict[str, str]
) -> web.Response:
    """Ask the CDN to forget; without one configured this is a missing parameter."""
    if call.caller.role != "service_role":
        raise errors.role_denied()
    endpoint = core.settings.cdn_purge_endpoint_url
    if not endpoint:
        raise errors.missing_parameter("CDN_PURGE_ENDPOINT_URL")
    if call.query.get("transformations") == "true":
        kind = f"{kind}-transforms"
    body = {"type": kind, "tenant": {"ref": core.project.ref}, **what}
    headers = {"Authorization": f"Bearer {core.settings.cdn_purge_endpoint_key}"}
    timeout = aiohttp.ClientTimeout(total=PURGE_TIMEOUT_S)
    try:
        async with (
            client_session(timeout=timeout) as session,
            session.post(f"{endpoint}/purge", json=body, headers=headers) as answer,
        ):
            answer.raise_for_status()
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise errors.internal_error() from exc
    return json_response({"message": "success"})
