"""Rendering images: sizes, resize modes, quality and format of stored pictures.

Source: storage-api 3.3 (render).  The real service asks imgproxy; here Pillow does the
work in a thread.  Nothing is enlarged, orientation is applied, metadata is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from harness.protocols.http_ranges import http_date, is_not_modified
from harness.servers.storage import errors
from harness.servers.storage.backend import StoredBytes
from harness.servers.storage.calls import Call
from harness.servers.storage.core import Core
from harness.servers.storage.reads import (
    FoundObject,
    asset_headers,
    find_object,
    reader_of,
    signed_claims,
)
from harness.servers.storage.schema import Field, validate
from harness.servers.storage.transforms import Transform

__all__ = ["TRANSFORM", "render_image", "render_public_image", "render_signed_image"]

TRANSFORM: Final = {
    "height": Field("integer", minimum=0),
    "width": Field("integer", minimum=0),
    "resize": Field("string", choices=("cover", "contain", "fill")),
    "format": Field("string", choices=("origin", "avif", "webp")),
    "quality": Field("integer", minimum=20, maximum=100),
}
MAX_SOURCE_BYTES: Final = 25 * 1024 * 1024
BAD_SOURCE: Final = "The source image is invalid or unsupported for rendering"


async def render_image(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """GET /render/image/authenticated/:bucket/*."""
    asked = validate(call.query, TRANSFORM, "querystring")
    found = await find_object(core, call, bucket, key, reader_of(call))
    return await _answer(core, call, found, Transform.of(asked, core.settings))


async def render_public_image(
    core: Core, call: Call, bucket: str, key: str
) -> web.Response:
    """GET /render/image/public/:bucket/*."""
    asked = validate(call.query, TRANSFORM, "querystring")
    found = await find_object(core, call, bucket, key, "public")
    return await _answer(core, call, found, Transform.of(asked, core.settings))


async def render_signed_image(
    core: Core, call: Call, bucket: str, key: str
) -> web.Response:
    """GET /render/image/sign/:bucket/*?token=: the token says how."""
    claims = signed_claims(core, call, bucket, key)
    pairs = str(claims.get("transformations") or "").split(",")
    told = dict(pair.split(":", 1) for pair in pairs if ":" in pair)
    asked = validate(told, TRANSFORM, "querystring")
    found = await find_object(core, call, bucket, key, "service")
    expires = datetime.fromtimestamp(claims["exp"], UTC)
    return await _answer(core, call, found, Transform.of(asked, core.settings), expires)


async def _answer(
    core: Core,
    call: Call,
    found: FoundObject,
    transform: Transform,
    expires: datetime | None = None,
) -> web.Response:
    opened = await core.backend.open(found.ref, found.etag)
    try:
        if opened.stored.size > MAX_SOURCE_BYTES:
            raise errors.invalid_request(BAD_SOURCE)
        source = await opened.read()
    finally:
        opened.close()
    accepts_webp = "image/webp" in call.header("Accept")
    pixels = core.settings.render_max_source_pixels
    async with core.rendering:
        try:
            mime_type, body = await asyncio.to_thread(
                _render, source, transform, pixels, accepts_webp=accepts_webp
            )
        except ValueError as exc:
            raise errors.invalid_request(BAD_SOURCE) from exc
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    stored = StoredBytes(f'"{digest}"', len(body), found.row["updated_at"])
    metadata = {**found.metadata, "mimetype": mime_type}
    headers = asset_headers(core, call, metadata, stored)
    headers["X-Transformations"] = transform.options()
    if expires is not None:
        headers["Expires"] = http_date(expires)
        del headers["Cache-Control"]
    if is_not_modified(call.request.headers, stored.etag, stored.modified):
        del headers["Content-Length"]
        return web.Response(status=304, headers=headers)
    return web.Response(headers=headers, body=body)


def _render(
    source: bytes, transform: Transform, max_pixels: int, *, accepts_webp: bool
) -> tuple[str, bytes]:
    # Loaded on first use: the imaging library costs a tenth of a second at start.
    from harness.servers.storage import pictures

    return pictures.render(source, transform, max_pixels, accepts_webp=accepts_webp)
