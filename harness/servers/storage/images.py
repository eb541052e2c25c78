"""Rendering images: sizes, resize modes, quality and format of stored pictures.

Source: storage-api 3.3 (render).  The real service asks imgproxy; here Pillow does the
work in a thread.  Nothing is enlarged, orientation is applied, metadata is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from PIL import Image, ImageOps, UnidentifiedImageError

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

__all__ = ["TRANSFORM", "render_image", "render_public_image", "render_signed_image"]

TRANSFORM: Final = {
    "height": Field("integer", minimum=0),
    "width": Field("integer", minimum=0),
    "resize": Field("string", choices=("cover", "contain", "fill")),
    "format": Field("string", choices=("origin", "avif", "webp")),
    "quality": Field("integer", minimum=20, maximum=100),
}
RESIZING_TYPES: Final = {"cover": "fill", "contain": "fit", "fill": "force"}
DEFAULT_QUALITY: Final = 80
MAX_SOURCE_BYTES: Final = 25 * 1024 * 1024
FORMATS: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/png",
    "TIFF": "image/jpeg",
    "ICO": "image/png",
}
BAD_SOURCE: Final = "The source image is invalid or unsupported for rendering"


@dataclass(frozen=True, slots=True)
class Transform:
    """What to make of a picture; sizes in pixels, 0 keeps the ratio."""

    width: int = 0
    height: int = 0
    resize: str = "cover"
    format: str = ""
    quality: int = DEFAULT_QUALITY

    @classmethod
    def of(cls, asked: Mapping[str, Any], core: Core) -> Transform:
        """Return what was asked for, within the limits of the settings."""
        limits = core.settings
        width = asked.get("width", 0)
        height = asked.get("height", 0)
        if width:
            width = min(max(width, limits.render_min_width), limits.render_max_width)
        if height:
            height = min(
                max(height, limits.render_min_height), limits.render_max_height
            )
        return cls(
            width,
            height,
            asked.get("resize", "cover"),
            asked.get("format", ""),
            asked.get("quality", DEFAULT_QUALITY),
        )

    def options(self) -> str:
        """Return the X-Transformations header."""
        parts: list[str] = []
        if self.height:
            parts.append(f"height:{self.height}")
        if self.width:
            parts.append(f"width:{self.width}")
        if self.width or self.height:
            parts.append(f"resizing_type:{RESIZING_TYPES[self.resize]}")
        if self.quality != DEFAULT_QUALITY:
            parts.append(f"quality:{self.quality}")
        if self.format and self.format != "origin":
            parts.append(f"format:{self.format}")
        return ",".join(parts)


async def render_image(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """GET /render/image/authenticated/:bucket/*."""
    asked = validate(call.query, TRANSFORM, "querystring")
    found = await find_object(core, call, bucket, key, reader_of(call))
    return await _answer(core, call, found, Transform.of(asked, core))


async def render_public_image(
    core: Core, call: Call, bucket: str, key: str
) -> web.Response:
    """GET /render/image/public/:bucket/*."""
    asked = validate(call.query, TRANSFORM, "querystring")
    found = await find_object(core, call, bucket, key, "public")
    return await _answer(core, call, found, Transform.of(asked, core))


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
    return await _answer(core, call, found, Transform.of(asked, core), expires)


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
        mime_type, body = await asyncio.to_thread(
            _transform, source, transform, pixels, accepts_webp=accepts_webp
        )
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


def _transform(
    source: bytes, transform: Transform, max_pixels: int, *, accepts_webp: bool
) -> tuple[str, bytes]:
    """Return (mime type, bytes) of the rendered picture."""
    try:
        with Image.open(io.BytesIO(source)) as image:
            if image.width * image.height > max_pixels:
                raise errors.invalid_request(BAD_SOURCE)
            kind = _target_format(image.format or "", transform, accepts_webp)
            turned = ImageOps.exif_transpose(image)
            return FORMATS[kind], _encode(_resize(turned, transform), kind, transform)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        SyntaxError,
        ValueError,
        KeyError,
    ) as exc:
        # Pillow's decoders raise any of these on broken pictures.
        raise errors.invalid_request(BAD_SOURCE) from exc


def _target_format(source: str, transform: Transform, accepts_webp: bool) -> str:
    if source not in FORMATS:
        raise ValueError(f"no such source format: {source}")
    if transform.format in ("avif", "webp"):
        return transform.format.upper()
    if transform.format != "origin" and accepts_webp:
        return "WEBP"
    return FORMATS[source].removeprefix("image/").upper()


def _resize(image: Image.Image, transform: Transform) -> Image.Image:
    width, height = transform.width, transform.height
    if not width and not height:
        return image
    ratio = image.width / image.height
    width = min(width or round(height * ratio), image.width) or 1
    height = min(height or round(width / ratio), image.height) or 1
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if transform.resize == "contain":
        return ImageOps.contain(image, (width, height), Image.Resampling.LANCZOS)
    if transform.resize == "fill":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _encode(image: Image.Image, kind: str, transform: Transform) -> bytes:
    target = io.BytesIO()
    if kind == "JPEG":
        if image.mode not in ("RGB", "L", "CMYK"):
            image = image.convert("RGB")
        image.save(target, kind, quality=transform.quality, optimize=True)
    elif kind in ("WEBP", "AVIF"):
        if image.mode not in ("RGB", "RGBA", "L"):
            image = image.convert("RGBA")
        image.save(target, kind, quality=transform.quality)
    else:
        image.save(target, kind)
    return target.getvalue()
